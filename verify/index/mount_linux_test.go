package index_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// mountTmpfs mounts an empty file system of some bytes until the test ends.
func mountTmpfs(t *testing.T, folder string, size int) {
	t.Helper()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Getenv("DIFFGATE_E2E") == "require" {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("only root can mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount tmpfs: %v", err)
		}
	})
}
