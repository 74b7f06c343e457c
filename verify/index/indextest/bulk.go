package indextest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"diffgate/verify"
	"diffgate/verify/index"
)

// putAll puts facts and returns what became of them and who was refused.
func putAll(t *testing.T, s index.Store, facts []verify.Fact) (n index.Tally, refused []error) {
	t.Helper()
	n, err := s.PutAll(context.Background(), slices.Values(facts), func(err error) { refused = append(refused, err) })
	if err != nil {
		t.Errorf("PutAll: %v", err)
	}
	return n, refused
}

func testPutAll(t *testing.T, s index.Store) {
	facts := Facts(3000)
	n, refused := putAll(t, s, facts)
	if diff := gocmp.Diff(index.Tally{Stored: 3000}, n); diff != "" || refused != nil {
		t.Errorf("Tally (-want +got), refused %v:\n%s", refused, diff)
	}
	if diff := gocmp.Diff(sorted(facts), list(t, s, "", 3001)); diff != "" {
		t.Errorf("facts (-put +got):\n%s", diff)
	}
	for _, f := range facts {
		if f.Problem == verify.None {
			if diff := gocmp.Diff([]verify.Fact{f}, byDiffID(t, s, f.Unpacked, 2)); diff != "" {
				t.Errorf("facts of a DiffID (-want +got):\n%s", diff)
			}
		}
	}
	if got := statOf(t, s).Facts; got != 3000 {
		t.Errorf("number of facts = %d", got)
	}

	revision := revisionOf(t, s)
	if n, _ := putAll(t, s, facts); n != (index.Tally{Known: 3000}) {
		t.Errorf("the same again: %+v", n)
	}
	if got := revisionOf(t, s); got != revision {
		t.Errorf("the same again: revision went from %q to %q", revision, got)
	}
	if n, _ := putAll(t, s, []verify.Fact{Fact(3000)}); n != (index.Tally{Stored: 1}) || revisionOf(t, s) == revision {
		t.Errorf("a new fact: %+v, and the revision is %q", n, revisionOf(t, s))
	}
	if n, _ := putAll(t, s, nil); n != (index.Tally{}) {
		t.Errorf("nothing: %+v", n)
	}
}

// testPutAllOrder has a store take hard cases one by one, and all at once.
func testPutAllOrder(t *testing.T, s index.Store) {
	final := Fact(0)
	limited := final
	limited.Problem, limited.Reason, limited.Unpacked, limited.UnpackedSize = verify.Limit, "over 1 TiB", "", 10
	lie := final
	lie.Unpacked = Digest("tar", 1)
	foreign := Fact(7)
	foreign.Digest = "sha512:00"
	known := put(t, s, Fact(14))[0]
	contradiction := known
	contradiction.Size++
	later := known
	later.LearnedAt = later.LearnedAt.Add(time.Hour)

	n, refused := putAll(t, s, []verify.Fact{
		limited, foreign, final, contradiction, lie, limited, final, later, Fact(21),
	})
	if diff := gocmp.Diff(index.Tally{Stored: 3, Known: 3, Refused: 3}, n); diff != "" {
		t.Errorf("Tally (-want +got):\n%s", diff)
	}
	var want []error
	for _, f := range []verify.Fact{foreign, contradiction, lie} {
		want = append(want, s.Put(context.Background(), f))
	}
	message := func(err error) string { return err.Error() }
	if diff := gocmp.Diff(sortedStrings(want, message), sortedStrings(refused, message)); diff != "" {
		t.Errorf("refused (-as Put does +got):\n%s", diff)
	}
	for _, f := range []verify.Fact{final, known, Fact(21)} {
		if diff := gocmp.Diff(f, get(t, s, f.Digest)); diff != "" {
			t.Errorf("fact (-want +got):\n%s", diff)
		}
	}
	if got := byDiffID(t, s, lie.Unpacked, 10); len(got) != 0 {
		t.Errorf("ByDiffID of the refused DiffID = %v", got)
	}
	if n, err := s.PutAll(context.Background(), slices.Values([]verify.Fact{lie}), nil); n.Refused != 1 || err != nil {
		t.Errorf("PutAll that tells nobody = %+v, %v", n, err)
	}
}

func sortedStrings[T any](all []T, text func(T) string) []string {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = text(v)
	}
	slices.Sort(texts)
	return texts
}

// testPutAllStopped has the context end in the middle.
func testPutAllStopped(t *testing.T, s index.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	facts := func(yield func(verify.Fact) bool) {
		for i := range 100 {
			if i == 50 {
				cancel()
			}
			if !yield(Fact(i)) {
				return
			}
		}
	}
	if _, err := s.PutAll(ctx, iter.Seq[verify.Fact](facts), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("PutAll: %v, want context.Canceled", err)
	}
	if n, _ := putAll(t, s, Facts(100)); n.Stored+n.Known != 100 {
		t.Errorf("PutAll again = %+v", n)
	}
	if diff := gocmp.Diff(sorted(Facts(100)), list(t, s, "", 101)); diff != "" {
		t.Errorf("facts (-put +got):\n%s", diff)
	}
}
