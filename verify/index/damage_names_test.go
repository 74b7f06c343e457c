package index_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// names is how many judgements and links mustWork puts.
const names = 20

// putNames puts the first n judgements, and links to the first n facts.
func putNames(t testing.TB, s index.Store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := s.PutJudgement(context.Background(), indextest.Judgement(i)); err != nil {
				t.Errorf("PutJudgement: %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Link(context.Background(), indextest.Name(i), indextest.Fact(i).Digest); err != nil {
				t.Errorf("Link: %v", err)
			}
		})
	}
	wg.Wait()
}

// countNames asks for each of the first n judgements, its twin, and the fact
// under another name, and returns how many answers there are; all are
// countAllNames(n). Any other answer than the right one or ErrUnknown is an
// error.
func countNames(t *testing.T, s index.Store, n int) (known int) {
	t.Helper()
	ctx := context.Background()
	answer := func(what string, err error, diff string) {
		t.Helper()
		switch {
		case errors.Is(err, verify.ErrUnknown):
		case err != nil || diff != "":
			t.Errorf("%s: %v (-want +got):\n%s", what, err, diff)
		default:
			known++
		}
	}
	for i := range n {
		want := indextest.Judgement(i)
		got, err := s.Judgement(ctx, want.Manifest)
		answer("Judgement", err, cmp.Diff(want, got))
		if want.Verdict == verify.Match {
			got, err = s.Twin(ctx, want.Config)
			answer("Twin", err, cmp.Diff(want, got))
		}
		f, err := s.Get(ctx, indextest.Name(i))
		answer("Get by another name", err, cmp.Diff(indextest.Fact(i), f))
	}
	return known
}

func countAllNames(n int) (known int) {
	for i := range n {
		known += 2
		if indextest.Judgement(i).Verdict == verify.Match {
			known++
		}
	}
	return known
}

// A flaw is a record in the bytes of a file, and what it takes with it.
type flaw struct {
	claim   string
	digest  digest.Digest // that the record is under
	begin   string        // of the record
	length  int           // of key and record
	unknown func(s index.Store) error
	heal    func(s index.Store) error
}

func flaws() []flaw {
	ctx := context.Background()
	j, name, blob := indextest.Judgement(0), indextest.Name(0), indextest.Fact(0).Digest
	judgement := func(s index.Store) error { _, err := s.Judgement(ctx, j.Manifest); return err }
	twin := func(s index.Store) error { _, err := s.Twin(ctx, j.Config); return err }
	judge := func(s index.Store) error { return s.PutJudgement(ctx, j) }
	return []flaw{
		{"a judgement", j.Manifest, "\x02{", 33 + 200, judgement, judge},
		{"a judgement that a config leads to", j.Manifest, "\x02{", 33 + 200, twin, judge},
		{"a twin", j.Config, "\x01\x01", 33 + 42, twin, judge},
		{
			"a link", name, "\x01\x01", 65 + 42,
			func(s index.Store) error { _, err := s.Get(ctx, name); return err },
			func(s index.Store) error { return s.Link(ctx, name, blob) },
		},
	}
}

// find returns where key and record are in a compacted file.
func (f flaw) find(t *testing.T, file []byte) int {
	t.Helper()
	key, err := hex.DecodeString(f.digest.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	algorithm := map[digest.Algorithm]byte{digest.SHA256: 1, digest.SHA384: 2, digest.SHA512: 3}[f.digest.Algorithm()]
	start := append(append([]byte{algorithm}, key...), f.begin...)
	if n := bytes.Count(file, start); n != 1 {
		t.Fatalf("%d records of %s in the file", n, f.claim)
	}
	return bytes.Index(file, start)
}

// TestNameBitFlips is TestBitFlips for judgements, twins and links.
func TestNameBitFlips(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(names)
	for _, n := range []int{1, names} { // the buckets are in the root page, and have pages
		base := compacted(t, makeNamedFile(t, facts, n))
		for _, tt := range flaws() {
			t.Run(tt.claim, func(t *testing.T) {
				t.Parallel()
				tt.test(t, base, facts, n)
			})
		}
	}
}

func (f flaw) test(t *testing.T, base []byte, facts []verify.Fact, n int) {
	t.Helper()
	path, at := writeFile(t, base), f.find(t, base)
	s, seen := openBolt(t, path)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	keySize := 1 + len(f.digest.Encoded())/2
	for bit := range 8 * f.length {
		spoiled := int64(at + bit/8)
		if _, err := file.WriteAt([]byte{base[spoiled] ^ 1<<(bit%8)}, spoiled); err != nil {
			t.Fatal(err)
		}
		if err := f.unknown(s); !errors.Is(err, verify.ErrUnknown) {
			t.Fatalf("bit %d flipped: %v, want ErrUnknown", bit, err)
		}
		got := seen.take()
		reported := slices.ContainsFunc(got, func(d index.Damage) bool { return d.Digest == f.digest && d.Moved == "" })
		if bit >= 8*keySize && !reported {
			t.Fatalf("bit %d flipped: damage reported: %v", bit, got)
		}
		if bit%8 == 0 {
			countNames(t, s, n)
		}
		if _, err := file.WriteAt(base[spoiled:spoiled+1], spoiled); err != nil {
			t.Fatal(err)
		}
	}
	if got := countNames(t, s, n); got != countAllNames(n) {
		t.Errorf("%d of %d names are known after all", got, countAllNames(n))
	}
	if got := countKnown(t, s, facts); got != len(facts) {
		t.Errorf("%d of %d facts are known after all", got, len(facts))
	}

	seen.take()
	last := int64(at + f.length - 1)
	if _, err := file.WriteAt([]byte{^base[last]}, last); err != nil {
		t.Fatal(err)
	}
	if err := f.heal(s); err != nil {
		t.Errorf("writing over a damaged record: %v", err)
	}
	if got := countNames(t, s, n); got != countAllNames(n) {
		t.Errorf("%d of %d names are known after writing over a damaged record", got, countAllNames(n))
	}
}

// makeNamedFile returns the bytes of a closed file that holds facts, and n
// judgements and links.
func makeNamedFile(t *testing.T, facts []verify.Fact, n int) []byte {
	t.Helper()
	path := writeFile(t, makeFile(t, facts))
	s, seen := openBolt(t, path)
	putNames(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := seen.take(); len(got) > 0 {
		t.Fatalf("damage reported: %v", got)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A bucket whose name is lost is not told from one that nobody needed yet.
func TestLostNames(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(100)
	base := compacted(t, makeNamedFile(t, facts, names))
	for _, bucket := range []string{"judgements", "twins", "links"} {
		damaged := bytes.ReplaceAll(base, []byte(bucket), []byte(strings.ToUpper(bucket)))
		s, _ := openBolt(t, writeFile(t, damaged))
		if got := countNames(t, s, names); got == countAllNames(names) {
			t.Errorf("without %s all names are known", bucket)
		}
		mustWork(t, s, facts)
	}
}
