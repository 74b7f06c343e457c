package index

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// lookUp returns the record under key in a bucket that need not be there.
func (t *tables) lookUp(bucket string, key []byte) []byte {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return b.Get(key)
}

// store puts a record into a bucket, and makes the bucket if there is none.
func (t *tables) store(bucket string, key, record []byte) error {
	b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err == nil {
		err = b.Put(key, record)
	}
	if err != nil { // an entry that has become a bucket, or a bucket that is none any more
		return fmt.Errorf("%w: %s: %w", ErrDamaged, bucket, err)
	}
	t.changed = true
	return nil
}

func (t *tables) judgement(manifest digest.Digest) (verify.Judgement, error) {
	if key, ok := factKey(manifest); ok {
		if record := t.lookUp(bucketJudgements, key); record != nil {
			j, err := decodeJudgement(key, record)
			if err == nil {
				return j, nil
			}
			t.note(bucketJudgements, key, err)
		}
	}
	return verify.Judgement{}, verify.ErrUnknown
}

// putJudgement stores a canonical judgement, whose key and record these are,
// unless it says nothing new. It has the config lead to it if the config leads
// to no other that stands.
func (t *tables) putJudgement(j verify.Judgement, key, record []byte) error {
	if known, err := t.judgement(j.Manifest); err != nil || !sameJudgement(known, j) {
		if err := t.store(bucketJudgements, key, record); err != nil {
			return err
		}
	}
	if !isTwin(j, j.Config) {
		return nil
	}
	if _, err := t.twin(j.Config); err == nil {
		return nil
	}
	config, _ := factKey(j.Config)
	return t.store(bucketTwins, config, encodeReference(config, key))
}

func (t *tables) twin(config digest.Digest) (verify.Judgement, error) {
	if key, ok := factKey(config); ok {
		if manifest, ok := t.follow(bucketTwins, key); ok {
			// It may have been judged otherwise since.
			if j, err := t.judgement(formatKey(manifest)); err == nil && isTwin(j, config) {
				return j, nil
			}
		}
	}
	return verify.Judgement{}, verify.ErrUnknown
}

// linked returns the key of the fact about the blob that has another name.
func (t *tables) linked(name digest.Digest) (key []byte, ok bool) {
	from, ok := nameKey(name)
	if !ok {
		return nil, false
	}
	return t.follow(bucketLinks, from)
}

// link stores a link between keys, or refuses to when there is another.
func (t *tables) link(from, to []byte) (refused, err error) {
	known, ok := t.follow(bucketLinks, from)
	switch {
	case !ok:
		t.revised = true
		return nil, t.store(bucketLinks, from, encodeReference(from, to))
	case !bytes.Equal(known, to):
		return conflictingLink(formatKey(from), formatKey(known), formatKey(to)), nil
	}
	return nil, nil
}

// follow returns where a reference in a bucket leads to. When ok is false there
// is none that this version can read.
func (t *tables) follow(bucket string, from []byte) (to []byte, ok bool) {
	record := t.lookUp(bucket, from)
	if record == nil {
		return nil, false
	}
	to, err := decodeReference(from, record)
	t.note(bucket, from, err)
	return to, err == nil
}
