// Package indextest holds the stores of the DiffID index to the contract of
// index.Store. Every implementation calls Run from a test of its own, and those
// that outlive a process call RunDurable as well.
package indextest

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

// Run tests a store. Open returns an empty one that nobody else uses and may
// register its clean-up with t; Run closes it only where that is the test.
func Run(t *testing.T, open func(t *testing.T) index.Store) {
	tests := []struct {
		claim string
		test  func(*testing.T, index.Store)
	}{
		{"an empty store knows nothing and says so without an error", testEmpty},
		{"a fact comes back as it was put, whatever its kind", testRoundTrip},
		{"a digest that is not canonical SHA-256 is unknown, and no fact is about it", testForeignDigests},
		{"what is not a fact is refused and not stored", testMalformed},
		{"a fact that says the same again changes nothing", testRepeated},
		{"a fact replaces one that was not final, and never a final one", testSupersede},
		{"facts that contradict each other are a conflict, and the first stays", testConflict},
		{"a list has every fact once, in the order of digests, page by page", testListPages},
		{"a list begins behind any string, as strings are ordered", testListAfter},
		{"a DiffID leads to every digest that unpacks to it and to no other", testByDiffID},
		{"a limit bounds what a DiffID leads to, from the lowest digest on", testByDiffIDLimit},
		{"DiffIDs and digests that begin alike are told apart", testNeighbours},
		{"many facts put at once are all known, and none of them again", testPutAll},
		{"of many facts put at once, each is stored or refused as if put alone, in order", testPutAllOrder},
		{"many facts put at once may be put again after that was interrupted", testPutAllStopped},
		{"a judgement comes back as it was put, whatever its verdict", testJudgements},
		{"a judgement is a copy of what was put, and each one got is", testJudgementsAreCopies},
		{"the judgement put last stands, unless it says the same again", testJudgedAgain},
		{"what is not a judgement is refused and not stored, and nothing else has one", testNoJudgement},
		{"a config leads to the first manifest that matches it, and to no other", testTwins},
		{"a config leads to no manifest that does not match it any more", testTwinJudgedAgain},
		{"another name of a blob leads to its fact, once there are both", testLinks},
		{"a name of a blob never becomes that of another", testLinksNeverChange},
		{"what is not another name, or not of a blob, is refused and not stored", testForeignLinks},
		{"a blob is wrong from when it is marked until that is cleared", testWrong},
		{"what is no wrong blob is refused and not stored", testNotWrong},
		{"judgements, links and wrong blobs are not facts", testNotFacts},
		{"the revision differs after every change", testRevision},
		{"the number of facts counts each once", testStat},
		{"a context that has ended ends every call", testContext},
		{"many put, get and list at once", testConcurrent},
		{"many judge, link and get at once", testJudgingConcurrently},
		{"a closed store says that it is closed, and closes again", testClosed},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			tt.test(t, open(t))
		})
	}
}

// RunDurable tests that a store keeps what was put. Open opens the store that
// belongs to a folder, which is empty when it is called for the first time.
func RunDurable(t *testing.T, open func(t *testing.T, folder string) index.Store) {
	t.Run("a store that is opened again has all that was put, the counts and the revision", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		first := open(t, folder)
		want := put(t, first, Facts(300)...)
		for i := range 50 {
			putJudgement(t, first, Judgement(i))
			link(t, first, Name(i), Fact(i).Digest)
			markWrong(t, first, Wrong(i))
		}
		revision, stat := revisionOf(t, first), statOf(t, first)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, folder)
		if diff := cmp.Diff(want, list(t, again, "", len(want)+1)); diff != "" {
			t.Errorf("facts (-before +after):\n%s", diff)
		}
		for i := range 50 {
			j := Judgement(i)
			if diff := cmp.Diff(j, judgement(t, again, j.Manifest)); diff != "" {
				t.Errorf("judgement (-before +after):\n%s", diff)
			}
			if j.Verdict == verify.Match {
				twin(t, again, j.Config, j)
			}
			if diff := cmp.Diff(Fact(i), get(t, again, Name(i))); diff != "" {
				t.Errorf("fact under another name (-before +after):\n%s", diff)
			}
			wrong(t, again, Wrong(i))
		}
		if got := revisionOf(t, again); got != revision {
			t.Errorf("revision was %q, is %q", revision, got)
		}
		if got := statOf(t, again).Facts; got != stat.Facts {
			t.Errorf("number of facts was %d, is %d", stat.Facts, got)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Fact returns a fact that no other i has, of any kind that there is.
func Fact(i int) verify.Fact {
	f := verify.Fact{
		Digest:       Digest("blob", i),
		Size:         int64(i) * 1009,
		Encoding:     verify.Encoding(i % 5),
		UnpackedSize: int64(i) * 4093,
		Parts:        int64(i%3 + 1),
		Trailing:     int64(i % 2 * 512),
		Quirks:       verify.Quirks(i % 32),
		Problem:      verify.Problem(i % 7 % 5),
		Source:       verify.Source(i%4 + 1),
		LearnedAt:    time.Unix(1_790_000_000+int64(i), 0).UTC(),
	}
	if f.Problem == verify.None {
		f.Unpacked = Digest("tar", i)
	} else {
		f.Reason = f.Problem.String() + " at byte 7"
	}
	return f
}

// Facts returns the first n facts.
func Facts(n int) []verify.Fact {
	facts := make([]verify.Fact, n)
	for i := range facts {
		facts[i] = Fact(i)
	}
	return facts
}

// Digest returns a digest that no other kind and i have.
func Digest(kind string, i int) digest.Digest {
	return digest.FromBytes(binary.AppendVarint([]byte(kind), int64(i)))
}

// put stores facts and returns them in the order of their digests.
func put(t *testing.T, s index.Store, facts ...verify.Fact) []verify.Fact {
	t.Helper()
	errs := make(chan error)
	for _, f := range facts {
		go func() { errs <- s.Put(context.Background(), f) }()
	}
	for range facts {
		if err := <-errs; err != nil {
			t.Errorf("Put: %v", err)
		}
	}
	return sorted(facts)
}

func get(t *testing.T, s index.Store, d digest.Digest) verify.Fact {
	t.Helper()
	f, err := s.Get(context.Background(), d)
	if err != nil {
		t.Fatalf("Get(%s): %v", d, err)
	}
	return f
}

func unknown(t *testing.T, s index.Store, d digest.Digest) {
	t.Helper()
	if f, err := s.Get(context.Background(), d); !errors.Is(err, verify.ErrUnknown) {
		t.Errorf("Get(%q) = %+v, %v; want ErrUnknown", d, f, err)
	}
}

func list(t *testing.T, s index.Store, after digest.Digest, n int) []verify.Fact {
	t.Helper()
	facts, err := s.List(context.Background(), after, n)
	if err != nil || facts == nil {
		t.Fatalf("List(%q, %d) = %v, %v; want facts or an empty slice", after, n, facts, err)
	}
	return facts
}

func byDiffID(t *testing.T, s index.Store, id digest.Digest, limit int) []verify.Fact {
	t.Helper()
	facts, err := s.ByDiffID(context.Background(), verify.DiffID(id), limit)
	if err != nil || facts == nil {
		t.Fatalf("ByDiffID(%q, %d) = %v, %v; want facts or an empty slice", id, limit, facts, err)
	}
	return facts
}

func revisionOf(t *testing.T, s index.Store) string {
	t.Helper()
	r, err := s.Revision(context.Background())
	if err != nil || r == "" {
		t.Fatalf("Revision() = %q, %v", r, err)
	}
	return r
}

func statOf(t *testing.T, s index.Store) index.Stat {
	t.Helper()
	stat, err := s.Stat(context.Background())
	if err != nil {
		t.Fatalf("Stat: %v", err)
	}
	return stat
}
