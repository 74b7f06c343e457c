package index_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// check checks the file at path, which must stay as it is and alone in its
// folder, and returns what was said of each damage.
func check(t *testing.T, path string) (index.CheckTally, []string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	said := []string{}
	tally, err := index.Check(context.Background(), index.BoltConfig{Path: path}, func(d index.Damage) {
		if d.Path != path || d.Moved != "" {
			t.Errorf("damage of %s, moved to %q", d.Path, d.Moved)
		}
		said = append(said, strings.TrimSpace(string(d.Digest)+" "+d.Err.Error()))
	})
	if err != nil {
		t.Fatal(err)
	}
	if int(tally.Damaged) != len(said) {
		t.Errorf("%d damages are counted, %d reported", tally.Damaged, len(said))
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was altered (%v)", err)
	}
	alone(t, path)
	return tally, said
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tally, said := check(t, grownFile(t))
	if diff := cmp.Diff([]string{}, said); diff != "" {
		t.Errorf("damage of a whole file (-want +got):\n%s", diff)
	}
	want := index.CheckTally{Facts: 2000, DiffIDs: tally.DiffIDs, Judgements: 200, Twins: tally.Twins, Links: 200, Wrong: 20}
	if tally != want || tally.DiffIDs == 0 || tally.Twins == 0 {
		t.Errorf("Check = %+v, want %+v, and DiffIDs and twins", tally, want)
	}
}

// keyOf returns the key of a SHA-256 digest.
func keyOf(t *testing.T, d digest.Digest) []byte {
	t.Helper()
	return append([]byte{1}, rawSHA256(t, string(d))...)
}

// flip flips a bit of the record under key.
func flip(bucket string, key []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		record := bytes.Clone(b.Get(key))
		record[len(record)/2] ^= 4
		return b.Put(key, record)
	}
}

// remove removes the record under key.
func remove(bucket string, key []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete(key) }
}

func TestCheckNamesDamage(t *testing.T) {
	t.Parallel()
	fact := indextest.Fact(0)
	judgement := indextest.Judgement(0)
	if fact.Problem != verify.None || judgement.Verdict != verify.Match {
		t.Fatal("want a layer and an image that are right")
	}
	key := func(d digest.Digest) []byte { return keyOf(t, d) }
	hint := append(key(fact.Unpacked)[1:9], key(fact.Digest)[1:9]...)
	name, wrong := indextest.Name(0), indextest.Wrong(2).Digest
	sum, err := hex.DecodeString(name.Encoded())
	if err != nil || name.Algorithm() != digest.SHA512 || wrong.Algorithm() != digest.SHA256 {
		t.Fatal("want a SHA-512 name and a wrong SHA-256 blob")
	}
	tests := []struct {
		claim string
		do    func(*bbolt.Tx) error
		want  []string
	}{
		{"a bit of a fact", flip("facts", key(fact.Digest)),
			[]string{fact.Digest.String() + " facts: damaged record: wrong checksum"}},
		{"a bit of a judgement", flip("judgements", key(judgement.Manifest)),
			[]string{judgement.Manifest.String() + " judgements: damaged record: wrong checksum"}},
		{"a bit of a twin", flip("twins", key(judgement.Config)),
			[]string{judgement.Config.String() + " twins: damaged record: wrong checksum"}},
		{"a bit of a link", flip("links", append([]byte{3}, sum...)),
			[]string{name.String() + " links: damaged record: wrong checksum"}},
		{"a bit of a wrong blob", flip("wrong", key(wrong)),
			[]string{wrong.String() + " wrong: damaged record: wrong checksum"}},
		{"the way from a DiffID to a fact is gone", remove("diffids", hint),
			[]string{fact.Digest.String() + " diffids: damaged record: the DiffID " + fact.Unpacked.String() + " does not lead to it"}},
		{"the way from a config to a judgement is gone", remove("twins", key(judgement.Config)),
			[]string{judgement.Manifest.String() + " twins: damaged record: the config " + judgement.Config.String() + " leads to no judgement"}},
		{"an entry of diffids has a value", func(tx *bbolt.Tx) error { return tx.Bucket([]byte("diffids")).Put(hint, []byte("x")) },
			[]string{"diffids: damaged record: 1 bytes under a key of 16"}},
		{"a fact has vanished", remove("facts", key(fact.Digest)),
			[]string{"facts: 2000 are counted, 1999 are there"}},
		{"a fact has become a bucket", func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("facts"))
			if err := b.Delete(key(fact.Digest)); err != nil {
				return err
			}
			_, err := b.CreateBucket(key(fact.Digest))
			return err
		}, []string{fact.Digest.String() + " facts: damaged record: a bucket"}},
	}
	file, err := os.ReadFile(grownFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, file)
			edit(t, path, tt.do)
			_, said := check(t, path)
			if diff := cmp.Diff(tt.want, said); diff != "" {
				t.Errorf("damage (-want +got):\n%s", diff)
			}
		})
	}
}

// What leads nowhere is counted: an interrupted PutAll leaves such entries, and
// Compact does when it leaves a record out.
func TestCheckCountsWhatLeadsNowhere(t *testing.T) {
	t.Parallel()
	path := grownFile(t)
	edit(t, path, func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket([]byte("diffids")).Put([]byte("nowhere, 16 byte"), nil),
			remove("judgements", keyOf(t, indextest.Judgement(0).Manifest))(tx))
	})
	if tally, said := check(t, path); tally.Strays != 2 || len(said) > 0 {
		t.Errorf("%d strays, want 2; damage %q, want none", tally.Strays, said)
	}
}

func TestCheckOtherVersion(t *testing.T) {
	t.Parallel()
	path := version1File(t, indextest.Facts(10))
	if tally, said := check(t, path); tally.Foreign != 10 || tally.Facts != 10 || tally.Strays != 0 || len(said) > 0 {
		t.Errorf("Check = %+v, want 10 facts, all foreign; damage %q, want none", tally, said)
	}
}

// Whatever happens to the pages of a file, Check says so and survives.
func TestCheckDamagedFile(t *testing.T) {
	t.Parallel()
	base := makeNamedFile(t, indextest.Facts(2000), 200)
	for _, tt := range append(damageTable(), loopTable()...) {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			_, said := check(t, writeFile(t, tt.do(bytes.Clone(base))))
			if tt.want == whole && len(said) > 0 || tt.want == afresh && len(said) != 1 {
				t.Errorf("damage %q", said)
			}
		})
	}
	t.Run("a file of no bytes is damaged", func(t *testing.T) {
		t.Parallel()
		if _, said := check(t, writeFile(t, nil)); len(said) != 1 || !strings.HasSuffix(said[0], "empty file") {
			t.Errorf("damage %q", said)
		}
	})
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	cfg := index.BoltConfig{Path: path, LockTimeout: time.Millisecond}
	if _, err := index.Check(context.Background(), cfg, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := index.Check(ctx, cfg, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
	openBolt(t, path)
	if _, err := index.Check(context.Background(), cfg, nil); !isInUse(err) {
		t.Errorf("a file in use: %v", err)
	}
}

// isInUse reports whether an error says that another process, which here is
// this one, holds the file.
func isInUse(err error) bool {
	_, ok := errors.AsType[*index.InUseError](err)
	return ok
}
