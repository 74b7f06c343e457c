//go:build unix && !solaris && !aix

package index

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockRetry is how often a lock that another process holds is tried again.
const lockRetry = 20 * time.Millisecond

// lock takes the lock that bbolt takes as well, which belongs to the open file
// and so is there already when bbolt asks for it: one that is shared with those
// who read, if shared is set. It tries for as long as timeout and then returns
// an error that names the holder.
func lock(f *os.File, timeout time.Duration, shared bool) error {
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if shared {
		how = syscall.LOCK_SH | syscall.LOCK_NB
	}
	for start := time.Now(); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock DiffID index %s: %w", f.Name(), err)
		case time.Since(start) >= timeout:
			return &InUseError{Path: f.Name(), Process: holder(f)}
		}
	}
}

// holder returns the process that has f locked, or 0, as far as Linux tells.
func holder(f *os.File) int {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	return lockHolder(string(locks), uint64(stat.Ino))
}

// lockHolder returns the process that holds a whole-file lock on the inode, or
// 0. It reads the format of /proc/locks, without the device, which is another
// one than stat(2) returns for some file systems:
//
//	1: FLOCK  ADVISORY  WRITE 1234 08:02:393220 0 EOF
func lockHolder(locks string, inode uint64) int {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) != 8 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(inode, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil {
			return max(pid, 0) // 0 or less: in a namespace that we cannot see
		}
	}
	return 0
}

// sameOwner gives f the owner and mode of the file that info is about, so that
// whoever could open that can open f: the system's administrator may have made f.
func sameOwner(f *os.File, info os.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	var err error
	if int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid() {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	return errors.Join(err, f.Chmod(info.Mode().Perm()))
}

// syncFolder makes a change of names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
