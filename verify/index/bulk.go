package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"diffgate/verify"
)

const (
	// bulkFacts is how many facts PutAll sorts at once. Digests come in random
	// order, so each batch touches all pages of a large file: the larger the
	// batch, the fewer times. One takes 200 MB of memory.
	bulkFacts = 1 << 20

	// bulkCommit is how many of them one commit takes. Other writes wait for it.
	bulkCommit = 1 << 14

	bulkBlock = 1 << 20
)

// errReplaced ends PutAll: what it has put so far is gone.
var errReplaced = errors.New("DiffID index was replaced while facts were put: put all of them again")

// A Tally says what became of the facts that PutAll was given.
type Tally struct {
	Stored  int64 // new, or in place of one that was not final
	Known   int64 // redundant
	Refused int64 // contradict what is known, or are not facts at all
}

// refuse counts a refused fact and tells of it.
func (n *Tally) refuse(err error, refused func(error)) {
	n.Refused++
	if refused != nil {
		refused(err)
	}
}

// count counts a fact that was not refused.
func (n *Tally) count(stored bool) {
	if stored {
		n.Stored++
	} else {
		n.Known++
	}
}

// A bulk is a batch of facts as they are stored.
type bulk struct {
	facts []bulkFact
	hints [][2 * diffIDPart]byte // keys of diffids
	block []byte                 // what holds the last records, and room for more
}

// A bulkFact is a key and a record.
type bulkFact struct {
	prefix uint64 // of the digest, which settles nearly all comparisons
	number int    // in the order in which they were given
	sealed []byte
}

func (f bulkFact) compare(g bulkFact) int {
	if c := cmp.Compare(f.prefix, g.prefix); c != 0 {
		return c
	}
	return cmp.Or(bytes.Compare(f.sealed[:keySize], g.sealed[:keySize]), cmp.Compare(f.number, g.number))
}

// add adds a canonical fact.
func (p *bulk) add(f verify.Fact) {
	if cap(p.block)-len(p.block) < keySize+maxRecord {
		p.block = make([]byte, 0, bulkBlock)
	}
	begin := len(p.block)
	p.block = appendFact(p.block, f)
	sealed := p.block[begin:len(p.block):len(p.block)]
	p.facts = append(p.facts, bulkFact{binary.BigEndian.Uint64(sealed[1:]), len(p.facts), sealed})
	if unpacked, ok := parseSHA256(string(f.Unpacked)); ok {
		p.hints = append(p.hints, [2 * diffIDPart]byte(diffIDKey(unpacked[:], sealed[1:keySize])))
	}
}

func (p *bulk) sort() {
	slices.SortFunc(p.facts, bulkFact.compare)
	slices.SortFunc(p.hints, func(a, b [2 * diffIDPart]byte) int { return bytes.Compare(a[:], b[:]) })
}

// PutAll implements Store. Other writes are carried out in between. When it is
// interrupted, entries of diffids may be left that lead nowhere.
func (b *Bolt) PutAll(ctx context.Context, facts iter.Seq[verify.Fact], refused func(error)) (n Tally, err error) {
	w := bulkWriter{b: b, refused: refused, batch: bulkFacts, commit: bulkCommit}
	return w.putAll(ctx, facts)
}

// A bulkWriter puts facts into one file: should it be given up, so must be what
// follows in its successor.
type bulkWriter struct {
	b             *Bolt
	db            *bbolt.DB
	refused       func(error)
	batch, commit int // facts
	tally         Tally
}

func (w *bulkWriter) putAll(ctx context.Context, facts iter.Seq[verify.Fact]) (Tally, error) {
	var db atomic.Pointer[bbolt.DB]
	err := w.b.write(ctx, func(t *tables) (_, _ error) {
		db.Store(t.tx.DB())
		return nil, nil
	})
	if err != nil {
		return w.tally, err
	}
	w.db = db.Load()
	var batch bulk
	for f := range facts {
		f, err := canonical(f)
		if err != nil {
			w.tally.refuse(err, w.refused)
			continue
		}
		if batch.add(f); len(batch.facts) < w.batch {
			continue
		}
		if err := w.put(ctx, &batch); err != nil {
			return w.tally, err
		}
		batch = bulk{facts: batch.facts[:0], hints: batch.hints[:0]}
	}
	return w.tally, w.put(ctx, &batch)
}

// put puts a batch: its entries of diffids first, and then the facts, both in
// the order of their keys, so that a commit writes few pages. In the other order
// a crash could hide a fact from ByDiffID for good, as it would be known from
// then on.
func (w *bulkWriter) put(ctx context.Context, batch *bulk) error {
	batch.sort()
	for some := range slices.Chunk(batch.hints, 4*w.commit) {
		if err := w.write(ctx, func(t *tables, _ *bulkOutcome) error { return t.putHints(some) }); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(batch.facts, w.commit) {
		if err := w.write(ctx, func(t *tables, o *bulkOutcome) error { return t.putBulk(some, o) }); err != nil {
			return err
		}
	}
	return nil
}

// A bulkOutcome is what one commit did.
type bulkOutcome struct {
	tally   Tally
	refused []error
}

// write has the writer do a part of a batch and counts what it did.
func (w *bulkWriter) write(ctx context.Context, do func(*tables, *bulkOutcome) error) error {
	// On a file that is given up it may go on while write has returned.
	var outcome atomic.Pointer[bulkOutcome]
	err := w.b.write(ctx, func(t *tables) (refused, err error) {
		if t.tx.DB() != w.db {
			return errReplaced, nil
		}
		o := new(bulkOutcome)
		err = do(t, o)
		outcome.Store(o)
		return nil, err
	})
	if err != nil {
		return err
	}
	o := outcome.Load()
	w.tally.Stored += o.tally.Stored
	w.tally.Known += o.tally.Known
	for _, err := range o.refused {
		w.tally.refuse(err, w.refused)
	}
	return nil
}

// putHints makes the entries of diffids that are missing.
func (t *tables) putHints(hints [][2 * diffIDPart]byte) error {
	c := t.diffids.Cursor()
	for _, hint := range hints {
		if known, _ := c.Seek(hint[:]); bytes.Equal(known, hint[:]) {
			continue
		}
		if err := t.putHint(hint[:]); err != nil {
			return err
		}
		t.changed = true
	}
	return nil
}

// putBulk puts facts whose entries of diffids have been made.
func (t *tables) putBulk(facts []bulkFact, o *bulkOutcome) error {
	for _, f := range facts {
		stored, refused, err := t.putFact(f.sealed[:keySize], f.sealed[keySize:])
		switch {
		case err != nil:
			return err
		case refused != nil:
			o.refused = append(o.refused, refused)
		default:
			o.tally.count(stored)
		}
	}
	return nil
}
