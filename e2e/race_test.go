//go:build race

package e2e

// raceEnabled makes the program under test look for data races too.
const raceEnabled = true
