package index

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
)

// layers returns layers from to to.
func layers(from, to int) (facts []verify.Fact) {
	for i := from; i < to; i++ {
		facts = append(facts, layer(i))
	}
	return facts
}

// bulkStore opens a store at path that is closed when the test ends.
func bulkStore(t *testing.T, path string) *Bolt {
	t.Helper()
	s, err := OpenBolt(BoltConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wantLayers wants a store to have layers, by digest and by DiffID.
func wantLayers(t *testing.T, s *Bolt, facts []verify.Fact) {
	t.Helper()
	for _, f := range facts {
		if got, err := s.Get(context.Background(), f.Digest); err != nil || got != f {
			t.Errorf("Get = %+v, %v, want %+v", got, err, f)
		}
		got, err := s.ByDiffID(context.Background(), verify.DiffID(f.Unpacked), 2)
		if diff := cmp.Diff([]verify.Fact{f}, got); err != nil || diff != "" {
			t.Errorf("ByDiffID: %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestPutAllBatches(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 49, 50, 51, 99, 100, 101, 1000} {
		s := bulkStore(t, filepath.Join(t.TempDir(), "diffids.db"))
		w := bulkWriter{b: s, batch: 50, commit: 10}
		tally, err := w.putAll(context.Background(), slices.Values(layers(0, n)))
		if err != nil || tally != (Tally{Stored: int64(n)}) {
			t.Errorf("%d facts: PutAll = %+v, %v", n, tally, err)
		}
		wantLayers(t, s, layers(0, n))
	}
}

// What a crash leaves when the entries of diffids have been made, and some of
// the facts.
func TestPutAllAfterCrash(t *testing.T) {
	t.Parallel()
	s := bulkStore(t, filepath.Join(t.TempDir(), "diffids.db"))
	var batch bulk
	for _, f := range layers(0, 100) {
		batch.add(f)
	}
	batch.sort()
	err := s.write(context.Background(), func(t *tables) (refused, err error) {
		return nil, errors.Join(t.putHints(batch.hints), t.putBulk(batch.facts[:30], new(bulkOutcome)))
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range layers(0, 100) {
		got, err := s.ByDiffID(context.Background(), verify.DiffID(f.Unpacked), 2)
		if err != nil || len(got) > 1 || len(got) == 1 && got[0] != f {
			t.Errorf("ByDiffID = %v, %v, want the fact or none", got, err)
		}
		found += len(got)
	}
	if found != 30 {
		t.Errorf("DiffIDs lead to %d facts, want the 30 that were stored", found)
	}
	tally, err := s.PutAll(context.Background(), slices.Values(layers(0, 100)), nil)
	if err != nil || tally != (Tally{Stored: 70, Known: 30}) {
		t.Errorf("PutAll again = %+v, %v, want 70 stored and 30 known", tally, err)
	}
	wantLayers(t, s, layers(0, 100))
}

func TestPutAllIntoTwoFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	s := bulkStore(t, path)
	facts := func(yield func(verify.Fact) bool) {
		for i, f := range layers(0, 100) {
			if i == 60 {
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			}
			if !yield(f) {
				return
			}
		}
	}
	w := bulkWriter{b: s, batch: 50, commit: 10}
	if _, err := w.putAll(context.Background(), facts); !errors.Is(err, errReplaced) {
		t.Errorf("PutAll into a file that is deleted on the way: %v, want %v", err, errReplaced)
	}
	if _, err := s.PutAll(context.Background(), slices.Values(layers(0, 100)), nil); err != nil {
		t.Errorf("PutAll again: %v", err)
	}
	wantLayers(t, s, layers(0, 100))
}
