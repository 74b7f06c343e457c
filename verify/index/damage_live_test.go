package index_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"diffgate/verify"
	"diffgate/verify/index/indextest"
)

func TestDamageWhileOpen(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(2000)
	base := makeNamedFile(t, facts, 500)
	for _, tt := range damageTable() {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, base)
			s, _ := openBolt(t, path)
			var readers sync.WaitGroup
			for r := range 4 {
				readers.Go(func() { countKnown(t, s, facts[r*500:][:500]) })
			}
			readers.Go(func() { countNames(t, s, 500) })
			overwrite(t, path, tt.do(bytes.Clone(base)))
			readers.Wait()
			mustWork(t, s, facts)
		})
	}
}

// overwrite replaces the content of a file that is open and stays the same file.
func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(content, 0)
	if err := errors.Join(err, f.Truncate(int64(len(content))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCopyOverOpenFile(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(2000)
	older := makeFile(t, facts[:1000])
	tests := []struct {
		claim string
		copy  func(t *testing.T, path string)
		want  string // of the damage
	}{
		{"an older file written over the open one is moved aside", func(t *testing.T, path string) {
			overwrite(t, path, older)
		}, "overwritten while in use"},
		{"an older file copied over the open one, as cp does it, is moved aside", func(t *testing.T, path string) {
			if err := os.WriteFile(path, older, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "damaged file"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, older)
			s, seen := openBolt(t, path)
			putAll(t, s, facts[1000:1500])
			tt.copy(t, path)
			countKnown(t, s, facts)
			putAll(t, s, facts[1500:])
			if got := seen.take(); len(got) != 1 || got[0].Moved == "" || !strings.Contains(got[0].Err.Error(), tt.want) {
				t.Errorf("damage reported: %+v, want one: %s", got, tt.want)
			}
			mustWork(t, s, facts)
		})
	}
}

func TestFileLostWhileOpen(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(100)
	other := makeFile(t, facts[:50])
	tests := []struct {
		claim string
		lose  func(path string) error
		known int
	}{
		{"a deleted file is made again by the next Put", os.Remove, 1},
		{"a deleted folder is made again by the next Put", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, 1},
		{"a file that replaces the open one is used from the next Put on", func(path string) error {
			if err := os.WriteFile(path+".restored", other, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".restored", path)
		}, 51},
		{"an empty file that replaces the open one is filled by the next Put", func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600))
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "data", "diffids.db")
			s, seen := openBolt(t, path)
			putAll(t, s, facts[:99])
			if err := tt.lose(path); err != nil {
				t.Fatal(err)
			}
			putAll(t, s, facts[99:])
			if got := seen.take(); len(got) != 1 || got[0].Moved != "" {
				t.Errorf("damage reported: %+v, want that the file was lost", got)
			}
			if n := countKnown(t, s, facts); n != tt.known {
				t.Errorf("%d facts are known, want %d", n, tt.known)
			}
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnusableFolderIsNoCrash(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	s, _ := openBolt(t, filepath.Join(folder, "diffids.db"))
	if err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Put":   s.Put(context.Background(), indextest.Fact(0)),
		"Ready": s.Ready(context.Background()),
	} {
		if err == nil {
			t.Errorf("%s while a file is where the folder should be: no error", name)
		}
	}
	if _, err := s.Get(context.Background(), indextest.Fact(0).Digest); err == nil || errors.Is(err, verify.ErrUnknown) {
		t.Errorf("Get without a file: %v, want an error that is not ErrUnknown", err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	mustWork(t, s, indextest.Facts(10))
}
