package index_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"diffgate/verify"
	"diffgate/verify/index"
)

// damages collects what OnDamage is told.
type damages struct {
	mu  sync.Mutex
	all []index.Damage
}

func (d *damages) add(damage index.Damage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, damage)
}

// take returns and forgets what has been collected.
func (d *damages) take() []index.Damage {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.all
	d.all = nil
	return all
}

// openBolt opens a store that is closed when the test ends.
func openBolt(t testing.TB, path string) (*index.Bolt, *damages) {
	t.Helper()
	seen := new(damages)
	s, err := index.OpenBolt(index.BoltConfig{Path: path, OnDamage: seen.add})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, seen
}

// putAll puts facts from many goroutines, so that they share commits.
func putAll(t testing.TB, s index.Store, facts []verify.Fact) {
	t.Helper()
	var wg sync.WaitGroup
	for _, f := range facts {
		wg.Go(func() {
			if err := s.Put(context.Background(), f); err != nil {
				t.Errorf("Put: %v", err)
			}
		})
	}
	wg.Wait()
}

// makeFile returns the bytes of a closed file that holds facts.
func makeFile(t testing.TB, facts []verify.Fact) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "diffids.db")
	s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, s, facts)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compacted returns the bytes of a file with the same content and no page that
// is not in use.
func compacted(t testing.TB, file []byte) []byte {
	t.Helper()
	path := writeFile(t, file)
	from, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := bbolt.Open(path+".compact", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bbolt.Compact(to, from, 0), from.Close(), to.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path + ".compact")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writeFile returns the path of a new file with these bytes.
func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "diffids.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// countKnown gets each fact and returns how many are known. Any other answer
// than the fact or ErrUnknown is an error.
func countKnown(t *testing.T, s index.Store, facts []verify.Fact) (n int) {
	t.Helper()
	for _, f := range facts {
		got, err := s.Get(context.Background(), f.Digest)
		switch {
		case errors.Is(err, verify.ErrUnknown):
		case err != nil:
			t.Errorf("Get: %v", err)
		case got != f:
			t.Errorf("Get = %+v, want %+v", got, f)
		default:
			n++
		}
	}
	return n
}

// mustWork puts facts, most of which may be known, some judgements and links to
// the facts, and wants to see them all. Damage that comes to light on the way
// may undo a Put; then no page is left that could do so again.
func mustWork(t *testing.T, s index.Store, facts []verify.Fact) {
	t.Helper()
	linked := min(names, len(facts))
	for range 2 {
		putAll(t, s, facts)
		putNames(t, s, linked)
		listAll(t, s)
	}
	if n := countNames(t, s, linked); n != countAllNames(linked) {
		t.Errorf("%d of %d judgements, twins and links are known after Put", n, countAllNames(linked))
	}
	if err := s.Ready(context.Background()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if n := countKnown(t, s, facts); n != len(facts) {
		t.Errorf("%d of %d facts are known after Put", n, len(facts))
	}
	got := listAll(t, s)
	if len(got) != len(facts) {
		t.Errorf("List has %d of %d facts", len(got), len(facts))
	}
	for _, f := range got[:min(len(got), 20)] {
		if f.Problem != verify.None {
			continue
		}
		twins, err := s.ByDiffID(context.Background(), verify.DiffID(f.Unpacked), 2)
		if diff := cmp.Diff([]verify.Fact{f}, twins); err != nil || diff != "" {
			t.Errorf("ByDiffID: %v (-want +got):\n%s", err, diff)
		}
	}
}

// listAll returns all facts, page by page.
func listAll(t *testing.T, s index.Store) (facts []verify.Fact) {
	t.Helper()
	for {
		var last verify.Fact
		if len(facts) > 0 {
			last = facts[len(facts)-1]
		}
		page, err := s.List(context.Background(), last.Digest, 500)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if len(page) == 0 {
			return facts
		}
		facts = append(facts, page...)
	}
}
