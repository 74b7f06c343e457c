//go:build unix && !solaris && !aix

package index

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestCallsWaitNoLongerThanTheirContextForTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	s, err := OpenBolt(BoltConfig{Path: path, LockTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	f := sampleFacts()[0]
	put := make(chan error)
	go func() { put <- s.Put(context.Background(), f) }()
	for err := error(nil); !errors.Is(err, context.DeadlineExceeded); {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		_, err = s.Get(ctx, f.Digest)
		cancel()
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-put; err != nil {
		t.Errorf("Put: %v", err)
	}
	if got, err := s.Get(context.Background(), f.Digest); err != nil || got != f {
		t.Errorf("Get = %v, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockHolder(t *testing.T) {
	t.Parallel()
	const locks = `1: POSIX  ADVISORY  READ  700 08:02:393220 128 128
2: FLOCK  ADVISORY  WRITE 1234 08:02:393221 0 EOF
2: -> FLOCK  ADVISORY  WRITE 1235 08:02:393221 0 EOF
3: FLOCK  ADVISORY  WRITE 0 00:2b:77 0 EOF
4: OFDLCK ADVISORY  WRITE -1 08:02:393222 0 EOF
garbage

5: FLOCK  ADVISORY  WRITE many 08:02:5 0 EOF
`
	tests := []struct {
		claim string
		inode uint64
		want  int
	}{
		{"the process that holds a lock on the file is named", 393221, 1234},
		{"a lock of another kind is not the one", 393220, 0},
		{"an inode that ends like another is not the same", 3221, 0},
		{"a process in another namespace has no number", 77, 0},
		{"a line that makes no sense is skipped", 5, 0},
		{"a file without a lock has no holder", 1, 0},
	}
	for _, tt := range tests {
		if got := lockHolder(locks, tt.inode); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.claim, got, tt.want)
		}
	}
}
