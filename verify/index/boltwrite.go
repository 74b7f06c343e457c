package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"diffgate/verify"
)

// maxBatch is how many writes one commit takes at most, and how many wait for
// the next one before callers block.
const maxBatch = 1024

// A write is what the writer has been asked to do. A commit costs two fsyncs
// however much is in it, so whatever has been queued during one is the next.
type write struct {
	do   change
	done chan error // receives the outcome; buffered
}

// A change does a write in a transaction, or refuses to. It may be tried again
// in another one. An err concerns the transaction, not the write.
type change func(*tables) (refused, err error)

func newWrite(do change) *write { return &write{do: do, done: make(chan error, 1)} }

// Put implements Store.
func (b *Bolt) Put(ctx context.Context, f verify.Fact) error {
	f, err := canonical(f)
	if err != nil {
		return err
	}
	return b.write(ctx, func(t *tables) (refused, err error) { return t.put(f) })
}

// Link implements Store.
func (b *Bolt) Link(ctx context.Context, name, dgst digest.Digest) error {
	from, to, err := linkKeys(name, dgst)
	if err != nil {
		return err
	}
	return b.write(ctx, func(t *tables) (refused, err error) { return t.link(from, to) })
}

// PutJudgement implements Store.
func (b *Bolt) PutJudgement(ctx context.Context, j verify.Judgement) error {
	j, key, record, err := canonicalJudgement(j)
	if err != nil {
		return err
	}
	return b.write(ctx, func(t *tables) (refused, err error) { return nil, t.putJudgement(j, key, record) })
}

// Ready implements Store. It commits a transaction that changes nothing: bbolt
// writes and syncs a page of free pages and a meta page.
func (b *Bolt) Ready(ctx context.Context) error {
	return b.write(ctx, func(t *tables) (refused, err error) {
		t.changed = true
		return nil, nil
	})
}

// write has the writer do a change and waits for it.
func (b *Bolt) write(ctx context.Context, do change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.cfg.ReadOnly {
		return b.refuseWrite()
	}
	w := newWrite(do)
	select {
	case b.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closed:
		return ErrClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ended:
	}
	select {
	case err := <-w.done:
		return err
	default: // queued behind the writer's last look
		return ErrClosed
	}
}

// refuseWrite returns the error of a write to a store that is only read.
func (b *Bolt) refuseWrite() error {
	select {
	case <-b.closed:
		return ErrClosed
	default:
		return fmt.Errorf("write DiffID index %s: %w", b.cfg.Path, ErrReadOnly)
	}
}

// writeLoop is the writer. It returns when Close was called and the queue is
// empty.
func (b *Bolt) writeLoop() {
	defer close(b.ended)
	for {
		select {
		case w := <-b.queue:
			b.commit(b.batch(w))
			continue
		case <-b.closed:
		}
		select {
		case w := <-b.queue:
			b.commit(b.batch(w))
		default:
			return
		}
	}
}

// batch returns first and what else is queued now.
func (b *Bolt) batch(first *write) []*write {
	batch := []*write{first}
	for len(batch) < maxBatch {
		select {
		case w := <-b.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit does all of batch in one transaction and answers each.
func (b *Bolt) commit(batch []*write) {
	b.revive()
	r, err := on(context.Background(), b, func(f *boltFile) (outcome, error) { return f.apply(batch) })
	b.report(r.damaged)
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("write DiffID index %s: %w", b.cfg.Path, err)
	}
	for i, w := range batch {
		if len(r.refused) == len(batch) && r.refused[i] != nil {
			w.done <- r.refused[i] // also when the commit failed: a conflict is an alarm
		} else {
			w.done <- err
		}
	}
}

// revive opens a file if there is none, or none at the path any more: a Put must
// not be acknowledged because of a file that has been deleted.
func (b *Bolt) revive() {
	file, err := b.current(context.Background())
	switch {
	case errors.Is(err, ErrClosed):
	case err != nil:
		b.replace(nil, err)
	case !isAt(file.info, b.cfg.Path):
		b.replace(file, errors.New("deleted or replaced while in use"))
	}
}

// An outcome is what a transaction did with a batch.
type outcome struct {
	refused []error // by position in the batch
	damaged []Damage
}

// errUnchanged rolls back a transaction that would change nothing.
var errUnchanged = errors.New("nothing to write")

// apply does batch in one transaction. A write that is refused does not keep
// the others from being done.
func (f *boltFile) apply(batch []*write) (r outcome, err error) {
	r.refused = make([]error, len(batch))
	id := 0
	err = f.db.Update(func(tx *bbolt.Tx) error {
		// The list of free pages is in bbolt's memory: it would now write over
		// pages that are in use in a file that has been copied over ours.
		if id = tx.ID(); f.tx >= 0 && id != f.tx+1 {
			return fmt.Errorf("%w: overwritten while in use: transaction %d after %d", ErrDamaged, id, f.tx)
		}
		t, err := openTables(tx)
		if err != nil {
			return err
		}
		err = t.apply(batch, r.refused)
		r.damaged = t.damaged
		return err
	})
	switch {
	case err == nil:
		f.tx = id
	case errors.Is(err, errUnchanged):
		err = nil
	default:
		f.tx = -1 // the meta page may have been written
	}
	return r, err
}

// apply does batch in t and puts why it did not into refused. It returns
// errUnchanged when there is nothing to commit.
func (t *tables) apply(batch []*write, refused []error) (err error) {
	for i, w := range batch {
		if refused[i], err = w.do(t); err != nil {
			return err
		}
	}
	switch {
	case t.revised:
		_, err = t.meta.NextSequence()
	case !t.changed:
		err = errUnchanged
	}
	return err
}
