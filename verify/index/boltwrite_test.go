package index

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"diffgate/verify"
)

// runWriter has a writer of its own find writes in its queue, and Close called,
// and returns when it has ended.
func runWriter(t *testing.T, file *boltFile, path string, writes []*write) {
	t.Helper()
	b := &Bolt{
		cfg: BoltConfig{Path: path}, file: file,
		queue: make(chan *write, maxBatch), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	for _, w := range writes {
		b.queue <- w
	}
	close(b.closed)
	b.writeLoop()
}

// openOnly opens a file without a writer.
func openOnly(t *testing.T) (file *boltFile, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "diffids.db")
	file, _, err := openFile(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.close(closeTimeout); err != nil {
			t.Error(err)
		}
	})
	return file, path
}

func TestWriterStoresWhatIsQueuedWhenItEnds(t *testing.T) {
	t.Parallel()
	file, path := openOnly(t)
	for round := range 10 { // the writer may see either first: the queue or the end
		w := &write{fact: layer(round), done: make(chan error, 1)}
		runWriter(t, file, path, []*write{w})
		select {
		case err := <-w.done:
			if err != nil {
				t.Errorf("Put: %v", err)
			}
		default:
			t.Errorf("round %d: the writer ended and a Put is not answered", round)
		}
	}
}

func TestQueuedPutsShareACommit(t *testing.T) {
	t.Parallel()
	file, path := openOnly(t)
	var writes []*write
	for i := range 300 {
		f := layer(i / 3) // new, the same again, and a contradiction
		if i%3 == 2 {
			f.Size++
		}
		writes = append(writes, &write{fact: f, done: make(chan error, 1)})
	}
	before := file.tx
	runWriter(t, file, path, writes)
	if got := file.tx - before; got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
	for i, w := range writes {
		if err := <-w.done; errors.Is(err, verify.ErrConflict) != (i%3 == 2) || i%3 != 2 && err != nil {
			t.Errorf("Put number %d: %v", i, err)
		}
	}
	r, err := file.apply([]*write{{fact: layer(99)}})
	if err != nil || r.refused[0] != nil || file.tx != before+1 {
		t.Errorf("Put of the last fact again: %v, %v; want that it is known", r, err)
	}
}

func TestOnlyWhatChangesCommits(t *testing.T) {
	t.Parallel()
	b, err := OpenBolt(BoltConfig{Path: filepath.Join(t.TempDir(), "diffids.db")})
	if err != nil {
		t.Fatal(err)
	}
	file, err := b.current(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	put := func() error { return b.Put(context.Background(), layer(1)) }
	ready := func() error { return b.Ready(context.Background()) }
	for _, step := range []struct {
		claim   string
		do      func() error
		commits int
	}{
		{"a new fact is committed", put, 1},
		{"a known fact is not", put, 0},
		{"Ready is", ready, 1},
	} {
		before := file.tx
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.claim, err)
		}
		if got := file.tx - before; got != step.commits {
			t.Errorf("%s: %d commits, want %d", step.claim, got, step.commits)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
