package index_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// version1Record returns what the first version kept of a fact.
func version1Record(t *testing.T, f verify.Fact) (key, record []byte) {
	t.Helper()
	b := []byte{1}
	for _, v := range []uint64{
		uint64(f.Encoding), uint64(f.Problem), uint64(f.Source), uint64(f.Quirks),
		uint64(f.Size), uint64(f.UnpackedSize), uint64(f.Parts), uint64(f.Trailing),
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendVarint(b, f.LearnedAt.Unix())
	if f.Problem == verify.None {
		b = append(b, rawSHA256(t, f.Unpacked.String())...)
	} else {
		b = append(b, f.Reason...)
	}
	return sealed("\x01"+string(rawSHA256(t, f.Digest.String())), string(b))
}

func rawSHA256(t *testing.T, digest string) []byte {
	t.Helper()
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(sum) != 32 {
		t.Fatalf("%q is not a SHA-256 digest", digest)
	}
	return sum
}

// version1File returns the path of a file as the first version left it.
func version1File(t *testing.T, facts []verify.Fact) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "diffids.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err1 := tx.CreateBucket([]byte("meta"))
		records, err2 := tx.CreateBucket([]byte("facts"))
		hints, err3 := tx.CreateBucket([]byte("diffids"))
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		for _, f := range facts {
			key, record := version1Record(t, f)
			if err := records.Put(key, record); err != nil {
				return err
			}
			if f.Problem != verify.None {
				continue
			}
			if err := hints.Put(append(rawSHA256(t, f.Unpacked.String())[:8], key[1:9]...), nil); err != nil {
				return err
			}
		}
		return errors.Join(
			meta.Put(sealed("format", "1")), meta.Put(sealed("id", strings.Repeat("0f", 16))),
			meta.SetSequence(7), records.SetSequence(uint64(len(facts))),
		)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileOfVersion1(t *testing.T) {
	t.Parallel()
	facts, old := indextest.Facts(200), indextest.Facts(150)
	for i := range old { // contradictions would be conflicts
		if old[i].Quirks++; old[i].Problem == verify.None {
			old[i].Unpacked = indextest.Digest("wrong tar", i)
		}
	}
	path := version1File(t, old)
	s, seen := openBolt(t, path)
	count := func(claim string, known int, stat int64) {
		t.Helper()
		if n := countKnown(t, s, facts); n != known {
			t.Errorf("%s: %d facts are known, want %d", claim, n, known)
		}
		if n := len(listAll(t, s)); n != known {
			t.Errorf("%s: %d facts are listed, want %d", claim, n, known)
		}
		if got, err := s.Stat(context.Background()); err != nil || got.Facts != stat {
			t.Errorf("%s: Stat = %+v, %v, want %d facts", claim, got, err, stat)
		}
		for _, f := range old {
			if got, err := s.ByDiffID(context.Background(), verify.DiffID(f.Unpacked), 10); err != nil || len(got) != 0 {
				t.Errorf("%s: ByDiffID of an old fact = %v, %v", claim, got, err)
			}
		}
	}

	count("as it was", 0, 150)
	if n := countNames(t, s, 10); n != 0 {
		t.Errorf("%d judgements and links are known in a file of version 1", n)
	}
	if got, err := s.Revision(context.Background()); err != nil || got == strings.Repeat("0f", 16)+"-7" {
		t.Errorf("revision %q, %v: want another than version 1 had, for it had other facts", got, err)
	}
	putAll(t, s, facts[:100])
	count("with half the facts learned again", 100, 150)
	putAll(t, s, facts)
	count("with all facts learned again", 200, 200)
	mustWork(t, s, facts)

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, again := openBolt(t, path)
	count("opened again", 200, 200)
	mustWork(t, s, facts)
	if got := append(seen.take(), again.take()...); len(got) > 0 {
		t.Errorf("damage reported: %v", got)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, want the file alone (%v)", entries, err)
	}
}

func TestJudgeFirstInFileOfVersion1(t *testing.T) {
	t.Parallel()
	for claim, write := range map[string]func(*index.Bolt) error{
		"a judgement": func(s *index.Bolt) error { return s.PutJudgement(context.Background(), indextest.Judgement(0)) },
		"a link": func(s *index.Bolt) error {
			return s.Link(context.Background(), indextest.Name(0), indextest.Fact(0).Digest)
		},
	} {
		s, seen := openBolt(t, version1File(t, indextest.Facts(10)))
		if err := write(s); err != nil {
			t.Errorf("%s: %v", claim, err)
		}
		mustWork(t, s, indextest.Facts(10))
		if got := seen.take(); len(got) > 0 {
			t.Errorf("%s: damage reported: %v", claim, got)
		}
	}
}
