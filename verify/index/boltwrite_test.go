package index

import (
	"context"
	"path/filepath"
	"testing"
)

func TestWriterStoresWhatIsQueuedWhenItEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	file, _, err := openFile(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 10 { // the writer may see either first: the queue or the end
		b := &Bolt{
			cfg: BoltConfig{Path: path}, file: file,
			queue: make(chan *write, maxBatch), closed: make(chan struct{}), ended: make(chan struct{}),
		}
		var queued []*write
		for i := range 3 {
			queued = append(queued, &write{fact: layer(10*round + i), done: make(chan error, 1)})
			b.queue <- queued[i]
		}
		close(b.closed)
		b.writeLoop()
		for _, w := range queued {
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
	if err := file.close(closeTimeout); err != nil {
		t.Error(err)
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
