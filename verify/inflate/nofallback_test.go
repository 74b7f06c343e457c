//go:build !klauspost

package inflate

const fallback = false
