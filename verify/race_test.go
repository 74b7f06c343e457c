//go:build race

package verify_test

// raceEnabled says that decoding is ten times slower than usual.
const raceEnabled = true
