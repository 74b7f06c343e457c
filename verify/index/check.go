package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"diffgate/verify"
)

// checkPause is how many entries Check reads between looks at its context.
const checkPause = 1024

// A CheckTally says what Check has read.
type CheckTally struct {
	Facts      int64
	DiffIDs    int64 // entries that lead from a DiffID to facts
	Judgements int64
	Twins      int64 // entries that lead from a config to a judgement
	Links      int64
	Wrong      int64 // wrong blobs
	Strays     int64 // entries of diffids and twins that lead nowhere, which is harmless
	Foreign    int64 // records that only another version can read
	Damaged    int64 // reports
}

// Check reads all that is in the file of a DiffID index, and tells report of
// each thing that is damaged, in the middle of reading: a record that is not
// whole, a fact that its DiffID does not lead to, a judgement that its config
// does not lead to, a record that is not found under its own key, facts that
// have vanished. A Damage without a Digest is about the file, which may have ended
// the check, or about an entry that is too damaged to name one.
//
// The file stays as it is, damaged or not. Memory does not grow with it, but for
// a byte for each page. Check returns an error when it could not look: one that
// wraps [fs.ErrNotExist] when there is no file, an [*InUseError] while a process
// may write to it, another when it belongs to another program or to a later
// version, and ctx.Err() when ctx ends first. It uses of cfg the path and the
// timeout. Report may be nil.
func Check(ctx context.Context, cfg BoltConfig, report func(Damage)) (CheckTally, error) {
	c := &check{ctx: ctx, path: cfg.Path, report: report}
	if err := ctx.Err(); err != nil {
		return c.tally, err
	}
	f, err := readFile(cfg.Path, cmp.Or(cfg.LockTimeout, defaultLockTimeout))
	if err == nil {
		err = guard(func() error { return f.db.View(c.all) })
		cerr := f.close(abandonAfter) // for which it makes no difference
		if err == nil {
			err = cerr
		}
	}
	if errors.Is(err, ErrDamaged) {
		c.damaged(nil, err)
		return c.tally, nil
	}
	return c.tally, err
}

// A check reads a file.
type check struct {
	ctx    context.Context
	path   string
	report func(Damage)
	tally  CheckTally
	t      *tables
}

// damaged reports that something is wrong with what is under a key, or with the
// file if key is nil.
func (c *check) damaged(key []byte, err error) {
	c.tally.Damaged++
	if c.report != nil {
		c.report(Damage{Path: c.path, Digest: formatKey(key), Err: err})
	}
}

// all checks every bucket that this version knows.
func (c *check) all(tx *bbolt.Tx) (err error) {
	if c.t, err = openTables(tx); err != nil {
		return err
	}
	for _, b := range []struct {
		name  string
		count *int64
		more  func(key, record []byte) // what is wrong with a good record
	}{
		{bucketFacts, &c.tally.Facts, c.fact},
		{bucketDiffIDs, &c.tally.DiffIDs, c.diffID},
		{bucketJudgements, &c.tally.Judgements, c.judgement},
		{bucketTwins, &c.tally.Twins, c.twin},
		{bucketLinks, &c.tally.Links, nil},
		{bucketWrong, &c.tally.Wrong, nil},
	} {
		if err := c.bucket(b.name, b.count, b.more); err != nil {
			return err
		}
	}
	if n := int64(c.t.facts.Sequence()); n != c.tally.Facts {
		c.damaged(nil, fmt.Errorf("%s: %d are counted, %d are there", bucketFacts, n, c.tally.Facts))
	}
	return nil
}

// bucket checks the entries of a bucket one by one.
func (c *check) bucket(name string, count *int64, more func(key, record []byte)) error {
	b := c.t.tx.Bucket([]byte(name))
	if b == nil { // nobody has needed it yet
		return nil
	}
	entries := b.Cursor()
	for k, v := entries.First(); k != nil; k, v = entries.Next() {
		if *count++; *count%checkPause == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
		}
		// What has been checked is a copy, for bbolt's memory is the file itself.
		key, record := bytes.Clone(k), bytes.Clone(v)
		err := checkEntry(name, key, record, v == nil)
		if found, _ := b.Cursor().Seek(key); err == nil && !bytes.Equal(found, key) {
			err = fmt.Errorf("%w: not found under its key", errRecord)
		}
		switch {
		case errors.Is(err, errRecordVersion):
			c.tally.Foreign++
		case err != nil:
			c.damaged(key, fmt.Errorf("%s: %w", name, err))
		case more != nil:
			more(key, record)
		}
	}
	return nil
}

// fact wants the DiffID of a fact to lead to it.
func (c *check) fact(key, record []byte) {
	f, _ := decodeFact(key, record) // which has been tried
	unpacked, ok := parseSHA256(string(f.Unpacked))
	if !ok { // there was a problem
		return
	}
	hint := diffIDKey(unpacked[:], key[1:])
	if found, _ := c.t.diffids.Cursor().Seek(hint); !bytes.Equal(found, hint) {
		c.damaged(key, fmt.Errorf("%s: %w: the DiffID %s does not lead to it", bucketDiffIDs, errRecord, f.Unpacked))
	}
}

// diffID counts an entry of diffids that leads to no fact.
func (c *check) diffID(key, _ []byte) {
	start := append([]byte{keySHA256}, key[diffIDPart:]...)
	records := c.t.facts.Cursor()
	for k, v := records.Seek(start); bytes.HasPrefix(k, start); k, v = records.Next() {
		f, err := decodeFact(k, v)
		if err != nil { // damaged or of another version, and may be what is meant
			return
		}
		if unpacked, ok := parseSHA256(string(f.Unpacked)); ok && bytes.HasPrefix(unpacked[:], key[:diffIDPart]) {
			return
		}
	}
	c.tally.Strays++
}

// judgement wants the config of a judgement that may be a twin to lead to one.
func (c *check) judgement(key, record []byte) {
	j, _ := decodeJudgement(key, record)
	if config, ok := factKey(j.Config); ok && isTwin(j, j.Config) && c.t.lookUp(bucketTwins, config) == nil {
		c.damaged(key, fmt.Errorf("%s: %w: the config %s leads to no judgement", bucketTwins, errRecord, j.Config))
	}
}

// twin counts an entry of twins that leads to no judgement that stands.
func (c *check) twin(key, _ []byte) {
	if _, err := c.t.twin(formatKey(key)); errors.Is(err, verify.ErrUnknown) {
		c.tally.Strays++
	}
	c.t.damaged = nil // it will be met, or has been
}
