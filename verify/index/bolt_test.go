package index_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		claim string
		make  func(t *testing.T) (path string)
		want  string // of the message; PATH stands for the path
	}{
		{"an empty path is a mistake", func(*testing.T) string { return "" }, "open DiffID index: path is empty"},
		{"a folder is not a file", func(t *testing.T) string { return t.TempDir() }, "open DiffID index: open PATH: is a directory"},
		{"a folder below a file cannot be made", func(t *testing.T) string {
			return filepath.Join(writeFile(t, nil), "diffids.db")
		}, "open DiffID index: mkdir PARENT: not a directory"},
		{"a device is not a file", func(*testing.T) string { return os.DevNull }, "open DiffID index: PATH is not a regular file"},
		{"a file without permission stays as it is", func(t *testing.T) string {
			if os.Geteuid() == 0 {
				t.Skip("root may open every file")
			}
			path := writeFile(t, []byte("x"))
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
			return path
		}, "open DiffID index: open PATH: permission denied"},
		{"the file of a later version stays as it is", func(t *testing.T) string {
			return edited(t, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put(sealed("format", "2")) })
		}, "index file PATH has format 2, this version reads format 1"},
		{"the file of another program stays as it is", func(t *testing.T) string {
			return edited(t, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("members"))
				return errors.Join(err,
					tx.DeleteBucket([]byte("meta")), tx.DeleteBucket([]byte("facts")), tx.DeleteBucket([]byte("diffids")))
			})
		}, "PATH is a bbolt file of another program"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := tt.make(t)
			s, err := index.OpenBolt(index.BoltConfig{Path: path, OnDamage: func(d index.Damage) { t.Errorf("damage: %+v", d) }})
			if err == nil {
				_ = s.Close()
			}
			want := strings.NewReplacer("PATH", path, "PARENT", filepath.Dir(path)).Replace(tt.want)
			if err == nil || err.Error() != want {
				t.Errorf("OpenBolt: %v\nwant:     %s", err, want)
			}
		})
	}
}

// edited returns the path of a DiffID index of 100 facts that fn has changed.
func edited(t *testing.T, fn func(*bbolt.Tx) error) string {
	t.Helper()
	path := writeFile(t, makeFile(t, indextest.Facts(100)))
	edit(t, path, fn)
	return path
}

// edit changes a file that nobody has open.
func edit(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// sealed returns key and value with the checksum of the package comment.
func sealed(key, value string) (k, v []byte) {
	sum := sha256.Sum256([]byte(key + value))
	return []byte(key), append([]byte(value), sum[:8]...)
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data", "index", "diffids.db")
	openBolt(t, path)
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, want the file alone (%v)", entries, err)
	}
}

func TestFirstStart(t *testing.T) {
	t.Parallel()
	tests := []struct {
		claim string
		files map[string]string
	}{
		{"an empty file is a new one", map[string]string{"diffids.db": ""}},
		{"what a killed first start left behind is not used", map[string]string{"diffids.db.new-1": "half made", "diffids.db.new-2": ""}},
		{"what another damaged file has become is not used", map[string]string{"diffids.db.corrupt-20250101T000000.000000Z": "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			for name, content := range tt.files {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, seen := openBolt(t, filepath.Join(folder, "diffids.db"))
			mustWork(t, s, indextest.Facts(10))
			if got := seen.take(); len(got) > 0 {
				t.Errorf("damage reported: %v", got)
			}
		})
	}
}

func TestRacingFirstStarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []*index.Bolt
	for range 8 {
		wg.Go(func() {
			s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: -1})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				open = append(open, s)
			} else if !strings.Contains(err.Error(), "is in use by") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(open) != 1 {
		t.Errorf("%d of 8 got the file, want 1", len(open))
	}
	for _, s := range open {
		mustWork(t, s, indextest.Facts(10))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStrangersInTheFile(t *testing.T) {
	t.Parallel()
	path := edited(t, func(tx *bbolt.Tx) error {
		facts := tx.Bucket([]byte("facts"))
		later := append([]byte{1}, make([]byte, 32)...)
		later[32] = 7
		other, err := tx.CreateBucket([]byte("verdicts"))
		return errors.Join(err,
			other.Put([]byte("x"), []byte("y")),
			facts.Put(sealed(string(later), "\xffof a later version")),
			facts.Put(sealed("\x02of another algorithm", "\x01")),
			tx.Bucket([]byte("diffids")).Put([]byte("short"), nil),
		)
	})
	s, seen := openBolt(t, path)
	facts := indextest.Facts(100)
	if got := listAll(t, s); len(got) != len(facts) {
		t.Errorf("List has %d of %d facts", len(got), len(facts))
	}
	mustWork(t, s, facts)
	if got := seen.take(); len(got) > 0 {
		t.Errorf("damage reported: %v", got)
	}
	f := indextest.Fact(0)
	f.Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000007"
	putAll(t, s, []verify.Fact{f})
	if got, err := s.Get(context.Background(), f.Digest); err != nil || got != f {
		t.Errorf("Get after Put over a record of a later version = %+v, %v", got, err)
	}
}

func TestReadyKeepsRevision(t *testing.T) {
	t.Parallel()
	s, _ := openBolt(t, filepath.Join(t.TempDir(), "diffids.db"))
	before, err := s.Revision(context.Background())
	if err := errors.Join(err, s.Ready(context.Background())); err != nil {
		t.Fatal(err)
	}
	if after, err := s.Revision(context.Background()); err != nil || after != before {
		t.Errorf("revision went from %q to %q, %v", before, after, err)
	}
}

func TestCloseWaitsForPuts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	s, _ := openBolt(t, path)
	facts := indextest.Facts(200)
	acknowledged := make([]bool, len(facts))
	var wg sync.WaitGroup
	for i, f := range facts {
		wg.Go(func() {
			err := s.Put(context.Background(), f)
			acknowledged[i] = err == nil
			if err != nil && !errors.Is(err, index.ErrClosed) {
				t.Errorf("Put during Close: %v", err)
			}
		})
		if i == len(facts)/2 {
			wg.Go(func() { _ = s.Close() })
			runtime.Gosched()
		}
	}
	wg.Wait()
	again, _ := openBolt(t, path)
	for i, f := range facts {
		got, err := again.Get(context.Background(), f.Digest)
		if acknowledged[i] && err != nil {
			t.Errorf("Get of an acknowledged fact: %v (-want +got):\n%s", err, cmp.Diff(f, got))
		}
	}
}
