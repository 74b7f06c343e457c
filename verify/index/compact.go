package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// compactCommit is about how many bytes one transaction of Compact copies.
const compactCommit = 16 << 20

// Compact writes the file of a DiffID index anew, without free pages and with
// full ones, and returns its size in bytes before and after. It refuses a file
// that a process has open, and returns an error that wraps [fs.ErrNotExist] when
// there is none. The new file is written beside the old one, so there must be
// room for it, and takes its name, owner and mode when it is durable: a crash
// leaves one of the two in place, and at most an unused file, path + ".compact",
// which the next Compact removes.
//
// The new file has what the old one had: facts, links, judgements, wrong blobs
// and the revision. Records that are damaged, which no store would have
// returned, are left out and reported to cfg.OnDamage. A file that cannot be
// read is an error, and stays as it is.
func Compact(ctx context.Context, cfg BoltConfig) (before, after int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("compact DiffID index %s: %w", cfg.Path, err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	// The file may be elsewhere, and the new one shall be beside it.
	path, err := filepath.EvalSymlinks(cfg.Path)
	if err != nil {
		return 0, 0, err
	}
	timeout := cmp.Or(cfg.LockTimeout, defaultLockTimeout)
	from, err := lockFile(path, timeout, false)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, from.close(closeTimeout)) }()
	if err := from.load(path, timeout); err != nil {
		return 0, 0, err
	}
	tmp := path + ".compact"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, err
	}
	defer func() { _ = os.Remove(tmp) }() // unless it was renamed
	var damaged []Damage
	damaged, err = compactTo(ctx, from, tmp)
	if err != nil {
		return 0, 0, err
	}
	for _, d := range damaged {
		if d.Path = cfg.Path; cfg.OnDamage != nil {
			cfg.OnDamage(d)
		}
	}
	return takePlace(from, tmp, path)
}

// takePlace gives a new file the name of an old one, if it would open.
func takePlace(from *boltFile, tmp, path string) (before, after int64, err error) {
	old, err := from.raw.Stat()
	if err != nil {
		return 0, 0, err
	}
	to, err := lockFile(tmp, 0, false)
	if err != nil {
		return 0, 0, err
	}
	// It stays locked until it has its name: whoever has waited for the old
	// file finds the new one in use for a moment, and never none.
	defer func() { err = errors.Join(err, to.close(closeTimeout)) }()
	if err := to.load(tmp, 0); err != nil {
		return 0, 0, err
	}
	if !isAt(from.info, path) {
		return 0, 0, errMoved
	}
	if err := os.Rename(tmp, path); err != nil {
		return 0, 0, err
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return 0, 0, err
	}
	return old.Size(), to.info.Size(), nil
}

// compactTo makes a durable file at path of what is in from.
func compactTo(ctx context.Context, from *boltFile, path string) (damaged []Damage, err error) {
	raw, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	options := boltOptions(0, raw)
	options.NoSync, options.NoGrowSync = true, true // it is worth nothing until it is whole
	to := newBoltFile(raw)
	c := &compaction{ctx: ctx}
	err = guard(func() (err error) {
		if err := sameOwner(raw, from.info); err != nil {
			return err
		}
		if to.db, err = bbolt.Open(path, 0o600, options); err != nil {
			return err
		}
		c.to = to.db
		return from.db.View(c.copy)
	})
	var size int64
	if err == nil {
		err = to.db.View(func(tx *bbolt.Tx) error {
			size = tx.Size()
			return nil
		})
	}
	if err := errors.Join(err, to.close(closeTimeout)); err != nil {
		return nil, err
	}
	return c.damaged, finish(path, size)
}

// finish cuts off what bbolt has allocated ahead and makes a file durable.
func finish(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// A compaction copies a DiffID index into an empty file.
type compaction struct {
	ctx     context.Context
	to      *bbolt.DB
	tx      *bbolt.Tx // of to
	copied  int       // bytes in tx
	damaged []Damage
}

// copy copies all that from can read, those buckets too that only a later
// version knows.
func (c *compaction) copy(from *bbolt.Tx) (err error) {
	if c.tx, err = c.to.Begin(true); err != nil {
		return err
	}
	defer func() {
		if c.tx != nil {
			err = errors.Join(err, c.tx.Rollback())
		}
	}()
	root := from.Cursor()
	for name, value := root.First(); name != nil; name, value = root.Next() {
		b := from.Bucket(name)
		if value != nil || b == nil {
			return fmt.Errorf("%w: entry %q is not a bucket", ErrDamaged, name)
		}
		if err := c.copyBucket(bytes.Clone(name), b); err != nil {
			return err
		}
	}
	err = c.tx.Commit()
	c.tx = nil
	return err
}

// copyBucket copies the entries of a bucket that are not damaged.
func (c *compaction) copyBucket(name []byte, from *bbolt.Bucket) error {
	to, err := c.tx.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	if err := to.SetSequence(from.Sequence()); err != nil {
		return err
	}
	n := uint64(0)
	entries := from.Cursor()
	for k, v := entries.First(); k != nil; k, v = entries.Next() {
		// What has been checked is a copy, for bbolt's memory is the file itself.
		key, value := bytes.Clone(k), bytes.Clone(v)
		if err := checkEntry(string(name), key, value, v == nil); errors.Is(err, errRecord) {
			c.damaged = append(c.damaged, Damage{Digest: formatKey(key), Err: fmt.Errorf("%s: %w", name, err)})
			continue
		}
		if to, err = c.room(name, to, len(key)+len(value)); err != nil {
			return err
		}
		if err := to.Put(key, value); err != nil {
			return err
		}
		n++
	}
	if string(name) != bucketFacts {
		return nil
	}
	if lost := int64(from.Sequence()-n) - int64(len(c.damaged)); lost > 0 {
		c.damaged = append(c.damaged, Damage{Err: fmt.Errorf("%w: %d facts are not there any more", errRecord, lost)})
	}
	return to.SetSequence(n)
}

// room returns bucket to in the current transaction, or a new one if that has
// enough in it.
func (c *compaction) room(name []byte, to *bbolt.Bucket, size int) (*bbolt.Bucket, error) {
	if c.copied += size; c.copied > compactCommit {
		c.copied = size
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		err := c.tx.Commit()
		c.tx = nil
		if err != nil {
			return nil, err
		}
		if c.tx, err = c.to.Begin(true); err != nil {
			return nil, err
		}
		to = c.tx.Bucket(name)
	}
	to.FillPercent = 1 // keys come in order, and few will be put in between
	return to, nil
}

// checkEntry returns errRecord for an entry of a bucket that is damaged, and
// errRecordVersion for one that only another version can read.
func checkEntry(bucket string, key, value []byte, isBucket bool) (err error) {
	if isBucket {
		return fmt.Errorf("%w: a bucket", errRecord)
	}
	switch bucket {
	case bucketFacts:
		_, err = decodeFact(key, value)
	case bucketJudgements:
		_, err = decodeJudgement(key, value)
	case bucketTwins, bucketLinks:
		_, err = decodeReference(key, value)
	case bucketWrong:
		_, err = decodeWrong(key, value)
	case bucketDiffIDs:
		if len(key) != 2*diffIDPart || len(value) != 0 {
			err = fmt.Errorf("%w: %d bytes under a key of %d", errRecord, len(value), len(key))
		}
	}
	return err
}
