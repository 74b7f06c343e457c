package index_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// A content is what a store answers.
type content struct {
	Facts    []verify.Fact
	Names    int
	Wrong    []verify.WrongBlob
	Revision string
	Stat     int64
}

// contentOf opens the file at path, which must not be damaged, and closes it
// again.
func contentOf(t *testing.T, path string) (c content) {
	t.Helper()
	seen := new(damages)
	s, err := index.OpenBolt(index.BoltConfig{Path: path, OnDamage: seen.add})
	if err != nil {
		t.Fatal(err)
	}
	c.Facts, c.Names = listAll(t, s), countNames(t, s, 200)
	wrong, err1 := s.WrongBlobs(context.Background(), 1000)
	revision, err2 := s.Revision(context.Background())
	stat, err3 := s.Stat(context.Background())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Error(err)
	}
	for _, f := range c.Facts {
		if f.Problem != verify.None {
			continue
		}
		got, err := s.ByDiffID(context.Background(), verify.DiffID(f.Unpacked), 2)
		if diff := cmp.Diff([]verify.Fact{f}, got); err != nil || diff != "" {
			t.Errorf("ByDiffID: %v (-want +got):\n%s", err, diff)
		}
	}
	c.Wrong, c.Revision, c.Stat = wrong, revision, stat.Facts
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := seen.take(); len(got) > 0 {
		t.Errorf("damage reported: %v", got)
	}
	return c
}

// grownFile returns the path of a closed file with all that there can be in one
// and many free pages.
func grownFile(t *testing.T) string {
	t.Helper()
	path := writeFile(t, makeNamedFile(t, indextest.Facts(2000), 200))
	s, _ := openBolt(t, path)
	for i := range 20 {
		if err := s.MarkWrong(context.Background(), indextest.Wrong(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// compact compacts the file at path, in which nothing is damaged.
func compact(t *testing.T, path string) (before, after int64) {
	t.Helper()
	before, after, err := index.Compact(context.Background(), index.BoltConfig{
		Path: path, OnDamage: func(d index.Damage) { t.Errorf("damage: %+v", d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return before, after
}

// alone wants a file to be the only one in its folder.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the folder has %v, want the file alone (%v)", entries, err)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestCompactKeepsAll(t *testing.T) {
	t.Parallel()
	path := grownFile(t)
	want, size := contentOf(t, path), sizeOf(t, path)
	if len(want.Facts) != 2000 || want.Names != countAllNames(200) || len(want.Wrong) != 20 {
		t.Fatalf("the file has %d facts, %d names and %d wrong blobs", len(want.Facts), want.Names, len(want.Wrong))
	}
	before, after := compact(t, path)
	if before != size || after != sizeOf(t, path) || after > before*2/3 {
		t.Errorf("Compact = %d, %d; the file had %d bytes, has %d", before, after, size, sizeOf(t, path))
	}
	if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
		t.Errorf("content (-before +after):\n%s", diff)
	}
	alone(t, path)
	if _, again := compact(t, path); again > after {
		t.Errorf("compacted again it has %d bytes, had %d", again, after)
	}
	s, _ := openBolt(t, path)
	mustWork(t, s, indextest.Facts(2500))
}

func TestCompactKeepsWhatOthersRead(t *testing.T) {
	t.Parallel()
	path := version1File(t, indextest.Facts(150))
	edit(t, path, func(tx *bbolt.Tx) error {
		later, err := tx.CreateBucket([]byte("later"))
		return errors.Join(err, later.SetSequence(9), later.Put([]byte("key"), []byte("value")))
	})
	compact(t, path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte("later")); b == nil || b.Sequence() != 9 || string(b.Get([]byte("key"))) != "value" {
			t.Error("the bucket of a later version is not what it was")
		}
		for _, f := range indextest.Facts(150) {
			key, record := version1Record(t, f)
			if !bytes.Equal(tx.Bucket([]byte("facts")).Get(key), record) {
				t.Errorf("the record of an earlier version about %s is not what it was", f.Digest)
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCompactLeavesOutDamagedRecords(t *testing.T) {
	t.Parallel()
	path := grownFile(t)
	whole := contentOf(t, path)
	spoiled := map[string]string{} // by digest, the bucket
	edit(t, path, func(tx *bbolt.Tx) error {
		for bucket, key := range map[string]string{
			"facts":      "\x01" + string(rawSHA256(t, whole.Facts[7].Digest.String())),
			"judgements": "\x01" + string(rawSHA256(t, indextest.Judgement(0).Manifest.String())),
		} {
			record := bytes.Clone(tx.Bucket([]byte(bucket)).Get([]byte(key)))
			record[len(record)/2] ^= 1
			if err := tx.Bucket([]byte(bucket)).Put([]byte(key), record); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("facts")).SetSequence(2003)
	})
	spoiled[whole.Facts[7].Digest.String()], spoiled[indextest.Judgement(0).Manifest.String()] = "facts", "judgements"
	spoiled[""] = "3 facts are not there any more"

	seen := new(damages)
	if _, _, err := index.Compact(context.Background(), index.BoltConfig{Path: path, OnDamage: seen.add}); err != nil {
		t.Fatal(err)
	}
	for _, d := range seen.take() {
		want, ok := spoiled[d.Digest.String()]
		if !ok || d.Path != path || d.Moved != "" || !strings.Contains(d.Err.Error(), want) {
			t.Errorf("damage reported: %+v, want %q", d, want)
		}
		delete(spoiled, d.Digest.String())
	}
	if len(spoiled) > 0 {
		t.Errorf("damage not reported: %v", spoiled)
	}
	got := contentOf(t, path) // sees no damage
	if want := append(whole.Facts[:7:7], whole.Facts[8:]...); !cmp.Equal(want, got.Facts) || got.Stat != 1999 {
		t.Errorf("%d facts are listed, %d counted; want all 1999 but the damaged one", len(got.Facts), got.Stat)
	}
	s, _ := openBolt(t, path)
	mustWork(t, s, indextest.Facts(2000))
}

func TestCompactRefuses(t *testing.T) {
	t.Parallel()
	whole := makeFile(t, indextest.Facts(500))
	tests := []struct {
		claim string
		make  func(t *testing.T) (path string)
		want  string
	}{
		{"a file that is not there is not made", func(t *testing.T) string {
			return filepath.Join(t.TempDir(), "diffids.db")
		}, "no such file"},
		{"a file that is in use stays as it is", func(t *testing.T) string {
			path := writeFile(t, whole)
			openBolt(t, path)
			return path
		}, "is in use by"},
		{"an empty file stays as it is", func(t *testing.T) string { return writeFile(t, nil) }, "empty file"},
		{"a truncated file stays as it is", func(t *testing.T) string {
			return writeFile(t, whole[:len(whole)/2])
		}, "damaged file"},
		{"a file of text stays as it is", func(t *testing.T) string {
			return writeFile(t, bytes.Repeat([]byte("DiffID\n"), 9999))
		}, "damaged file"},
		{"a file whose leaves are unreadable stays as it is", func(t *testing.T) string {
			return writeFile(t, pagesWith(0x02, func(p []byte) { clear(p[8:10]) })(bytes.Clone(whole)))
		}, "damaged file"},
		{"the file of a later version stays as it is", func(t *testing.T) string {
			return edited(t, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put(sealed("format", "2")) })
		}, "has format 2"},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := tt.make(t)
			before, _ := os.ReadFile(path)
			_, _, err := index.Compact(context.Background(), index.BoltConfig{Path: path, LockTimeout: -1})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "compact DiffID index "+path) {
				t.Errorf("Compact: %v, want %q", err, tt.want)
			}
			after, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) != (before == nil) || !bytes.Equal(before, after) {
				t.Errorf("the file is not as it was (%v)", err)
			}
			if err == nil {
				alone(t, path)
			}
		})
	}
}

func TestCompactStopped(t *testing.T) {
	t.Parallel()
	path := grownFile(t)
	want := contentOf(t, path)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := index.Compact(ctx, index.BoltConfig{Path: path}); !errors.Is(err, context.Canceled) {
		t.Errorf("Compact: %v, want context.Canceled", err)
	}
	alone(t, path)
	if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
		t.Errorf("content (-before +after):\n%s", diff)
	}
}

func TestCompactAfterCrash(t *testing.T) {
	t.Parallel()
	tests := []struct {
		claim string
		left  func(t *testing.T) []byte
	}{
		{"an empty file that a killed Compact left does not matter", func(*testing.T) []byte { return nil }},
		{"half a file that a killed Compact left does not matter", func(t *testing.T) []byte {
			b := makeFile(t, indextest.Facts(500))
			return b[:len(b)/2]
		}},
		{"a whole file that a killed Compact left does not matter", func(t *testing.T) []byte {
			return makeFile(t, indextest.Facts(10))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := grownFile(t)
			if err := os.WriteFile(path+".compact", tt.left(t), 0o600); err != nil {
				t.Fatal(err)
			}
			want := contentOf(t, path)
			compact(t, path)
			if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
				t.Errorf("content (-before +after):\n%s", diff)
			}
			alone(t, path)
		})
	}
}

func TestKilledWhileCompacting(t *testing.T) {
	t.Parallel()
	path := grownFile(t)
	want := contentOf(t, path)
	for round := range 20 {
		compactor, output := child(t, "compact", path)
		for range 1 + round%4 {
			if !output.Scan() || output.Text() != "compacted" {
				t.Fatalf("child: %q", output.Text())
			}
		}
		kill(t, compactor)
		if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
			t.Fatalf("round %d: content (-before +after):\n%s", round, diff)
		}
	}
}

func TestCompactKeepsModeAndLink(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes, and links are for administrators")
	}
	path := writeFile(t, makeFile(t, indextest.Facts(100)))
	link := filepath.Join(t.TempDir(), "link.db")
	if err := errors.Join(os.Chmod(path, 0o640), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	compact(t, link)
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file has mode %v, had %v (%v)", info.Mode(), fs.FileMode(0o640), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link has become %v (%v)", info.Mode(), err)
	}
	if got := len(contentOf(t, link).Facts); got != 100 {
		t.Errorf("%d of 100 facts are known", got)
	}
}
