package index_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// readOnly opens the file at path for reading only.
func readOnly(path string) (*index.Bolt, error) {
	return index.OpenBolt(index.BoltConfig{Path: path, ReadOnly: true, LockTimeout: time.Millisecond})
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(100)
	path := writeFile(t, makeNamedFile(t, facts, 20))
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := readOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := readOnly(path)
	if err != nil {
		t.Fatalf("two who only read: %v", err)
	}
	if _, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: time.Millisecond}); !isInUse(err) {
		t.Errorf("one who writes while others read: %v", err)
	}
	if n := countKnown(t, s, facts); n != len(facts) || len(listAll(t, s)) != len(facts) {
		t.Errorf("%d of %d facts are known", n, len(facts))
	}
	if n := countNames(t, s, 20); n != countAllNames(20) {
		t.Errorf("%d of %d names are known", n, countAllNames(20))
	}
	ctx := context.Background()
	_, putAll := s.PutAll(ctx, slices.Values(facts), nil)
	for call, err := range map[string]error{
		"Put":          s.Put(ctx, indextest.Fact(1000)),
		"PutAll":       putAll,
		"Link":         s.Link(ctx, indextest.Name(1000), facts[0].Digest),
		"PutJudgement": s.PutJudgement(ctx, indextest.Judgement(1000)),
		"MarkWrong":    s.MarkWrong(ctx, indextest.Wrong(0)),
		"ClearWrong":   s.ClearWrong(ctx, facts[0].Digest),
		"Ready":        s.Ready(ctx),
	} {
		if !errors.Is(err, index.ErrReadOnly) {
			t.Errorf("%s: %v, want %v", call, err, index.ErrReadOnly)
		}
	}
	if err := errors.Join(s.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Put(ctx, facts[0]); !errors.Is(err, index.ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was altered (%v)", err)
	}
	alone(t, path)
}

func TestReadOnlyMakesNoFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder", "diffids.db")
	if _, err := readOnly(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made (%v)", err)
	}
}

// A damaged file is an error, when it is opened or when the damage is met, and
// stays where it is.
func TestReadOnlyDamagedFile(t *testing.T) {
	t.Parallel()
	base := makeNamedFile(t, indextest.Facts(2000), 200)
	for _, tt := range append(damageTable(), loopTable()...) {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			damaged := tt.do(bytes.Clone(base))
			path := writeFile(t, damaged)
			s, err := readOnly(path)
			if err == nil {
				_, err = s.List(context.Background(), "", 5000)
				if cerr := s.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			switch {
			case tt.want == whole && err != nil, tt.want == afresh && !errors.Is(err, index.ErrDamaged):
				t.Errorf("got error %v", err)
			case err != nil && !strings.Contains(err.Error(), path):
				t.Errorf("error %v does not name %s", err, path)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(damaged, after) {
				t.Errorf("the file was altered (%v)", err)
			}
			alone(t, path)
		})
	}
}

// What happens to a file while it is read is an error too.
func TestReadOnlyDamagedWhileOpen(t *testing.T) {
	t.Parallel()
	path := writeFile(t, makeFile(t, indextest.Facts(2000)))
	s, err := readOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.List(context.Background(), "", 5000); !errors.Is(err, index.ErrDamaged) {
			t.Errorf("List of a file that was cut: %v", err)
		}
	}
	_ = s.Close()
	alone(t, path)
}
