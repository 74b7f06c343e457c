package index

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"diffgate/verify"
)

// read runs fn in a read transaction and reports the records that fn found
// damaged.
func read[T any](ctx context.Context, b *Bolt, fn func(*tables) (T, error)) (T, error) {
	return readTables(ctx, b, openTables, fn)
}

// readTables is read with the tables that open opens.
func readTables[T any](
	ctx context.Context, b *Bolt, open func(*bbolt.Tx) (*tables, error), fn func(*tables) (T, error),
) (T, error) {
	type result struct {
		value   T
		damaged []Damage
	}
	r, err := on(ctx, b, func(f *boltFile) (r result, err error) {
		err = f.db.View(func(tx *bbolt.Tx) error {
			t, err := open(tx)
			if err != nil {
				return err
			}
			r.value, err = fn(t)
			r.damaged = t.damaged
			return err
		})
		return r, err
	})
	b.report(r.damaged)
	return r.value, err
}

// Get implements Store.
func (b *Bolt) Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	return readTables(ctx, b, openFacts, func(t *tables) (verify.Fact, error) { return t.get(dgst) })
}

// Judgement implements Store.
func (b *Bolt) Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error) {
	return read(ctx, b, func(t *tables) (verify.Judgement, error) { return t.judgement(manifest) })
}

// Twin implements Store.
func (b *Bolt) Twin(ctx context.Context, config digest.Digest) (verify.Judgement, error) {
	return read(ctx, b, func(t *tables) (verify.Judgement, error) { return t.twin(config) })
}

// ByDiffID implements Store.
func (b *Bolt) ByDiffID(ctx context.Context, id verify.DiffID, limit int) ([]verify.Fact, error) {
	return read(ctx, b, func(t *tables) ([]verify.Fact, error) { return t.byDiffID(id, limit), nil })
}

// List implements Store.
func (b *Bolt) List(ctx context.Context, after digest.Digest, n int) ([]verify.Fact, error) {
	return readTables(ctx, b, openFacts, func(t *tables) ([]verify.Fact, error) { return t.list(after, n) })
}

// Revision implements Store. It is the id of the file, the version of the
// records that are read, as others have facts that this one has not, and the
// number of commits that changed a fact or made a link: compaction keeps it, and
// no other write changes it.
func (b *Bolt) Revision(ctx context.Context) (string, error) {
	return read(ctx, b, func(t *tables) (string, error) {
		id, err := t.metaValue(metaID)
		return fmt.Sprintf("%s-%d.%d", id, recordVersion, t.meta.Sequence()), err
	})
}

// Stat implements Store. SizeBytes includes free pages, and not what bbolt
// allocated ahead.
func (b *Bolt) Stat(ctx context.Context) (Stat, error) {
	return read(ctx, b, func(t *tables) (Stat, error) {
		return Stat{Facts: int64(t.facts.Sequence()), SizeBytes: t.tx.Size()}, nil
	})
}
