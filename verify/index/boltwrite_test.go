package index

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

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
		w := putting(layer(round))
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
		writes = append(writes, putting(f))
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
	r, err := file.apply([]*write{putting(layer(99))})
	if err != nil || r.refused[0] != nil || file.tx != before+1 {
		t.Errorf("Put of the last fact again: %v, %v; want that it is known", r, err)
	}
}

func TestAllKindsOfWritesShareACommit(t *testing.T) {
	t.Parallel()
	file, path := openOnly(t)
	j, key, record, err := canonicalJudgement(sampleJudgement())
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := linkKeys(otherName(), layer(1).Digest)
	if err != nil {
		t.Fatal(err)
	}
	writes := []*write{
		putting(layer(1)),
		newWrite(func(t *tables) (refused, err error) { return t.link(from, to) }),
		newWrite(func(t *tables) (refused, err error) { return t.link(from, key) }), // refused
		newWrite(func(t *tables) (refused, err error) { return nil, t.putJudgement(j, key, record) }),
	}
	before := file.tx
	runWriter(t, file, path, writes)
	if got := file.tx - before; got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
	for i, w := range writes {
		if err := <-w.done; errors.Is(err, verify.ErrConflict) != (i == 2) || i != 2 && err != nil {
			t.Errorf("write number %d: %v", i, err)
		}
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
	ctx := context.Background()
	put := func() error { return b.Put(ctx, layer(1)) }
	ready := func() error { return b.Ready(ctx) }
	link := func() error { return b.Link(ctx, otherName(), layer(1).Digest) }
	judge := func() error { return b.PutJudgement(ctx, sampleJudgement()) }
	judgeAgain := func() error {
		j := sampleJudgement()
		j.JudgedAt = j.JudgedAt.Add(time.Hour)
		return b.PutJudgement(ctx, j)
	}
	judgeOtherwise := func() error {
		j := sampleJudgement()
		j.Verdict = verify.Match
		return b.PutJudgement(ctx, j)
	}
	for _, step := range []struct {
		claim   string
		do      func() error
		commits int
	}{
		{"a new fact is committed", put, 1},
		{"a known fact is not", put, 0},
		{"Ready is", ready, 1},
		{"a new link is", link, 1},
		{"a known link is not", link, 0},
		{"a new judgement is", judge, 1},
		{"a judgement that differs in its time alone is not", judgeAgain, 0},
		{"a judgement that says otherwise is", judgeOtherwise, 1},
		{"a judgement that its config leads to already is not", judgeOtherwise, 0},
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
