//go:build !linux

package index_test

import "testing"

// mountTmpfs skips the test.
func mountTmpfs(t *testing.T, _ string, _ int) {
	t.Helper()
	t.Skip("needs tmpfs")
}
