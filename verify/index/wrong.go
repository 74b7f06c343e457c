package index

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const wrongVersion = 1

// anyKey returns the key of a blob under a digest of any algorithm.
func anyKey(dgst digest.Digest) (key []byte, ok bool) {
	if key, ok = factKey(dgst); ok {
		return key, true
	}
	return nameKey(dgst)
}

// canonicalWrong returns w as stores keep it, with its key, or says why it is
// not about a blob.
func canonicalWrong(w verify.WrongBlob) (same verify.WrongBlob, key []byte, err error) {
	key, ok := anyKey(w.Digest)
	actual, okActual := anyKey(w.Actual)
	switch {
	case !ok:
		return w, nil, fmt.Errorf("wrong blob %q: not a digest", w.Digest)
	case !okActual || actual[0] != key[0]:
		return w, nil, fmt.Errorf("wrong blob %s: %q is not a digest of its algorithm", w.Digest, w.Actual)
	case w.Actual == w.Digest:
		return w, nil, fmt.Errorf("wrong blob %s: it has that digest", w.Digest)
	}
	w.SeenAt = time.Unix(w.SeenAt.Unix(), 0).UTC()
	return w, key, nil
}

// encodeWrong returns the record of a canonical wrong blob.
func encodeWrong(key []byte, w verify.WrongBlob) (record []byte) {
	actual, _ := anyKey(w.Actual)
	body := append([]byte{wrongVersion}, actual...)
	return seal(key, binary.AppendVarint(body, w.SeenAt.Unix()))
}

// decodeWrong is the inverse of encodeWrong. It returns errRecord for a record
// that is not whole, and errRecordVersion for one in a layout that this version
// does not know.
func decodeWrong(key, record []byte) (verify.WrongBlob, error) {
	body, err := unseal(nil, key, record, maxRecord)
	if err != nil {
		return verify.WrongBlob{}, err
	}
	if len(body) <= len(key) || body[0] != wrongVersion || body[1] != key[0] {
		return verify.WrongBlob{}, errRecordVersion
	}
	r := fields{rest: body[1+len(key):]}
	w := verify.WrongBlob{Digest: formatKey(key), Actual: formatKey(body[1 : 1+len(key)]), SeenAt: r.time()}
	if r.bad || len(r.rest) > 0 {
		return verify.WrongBlob{}, fmt.Errorf("%w: malformed", errRecord)
	}
	return w, nil
}

// markWrong stores a canonical wrong blob in place of what was known of it.
func (t *tables) markWrong(key []byte, w verify.WrongBlob) error {
	return t.store(bucketWrong, key, encodeWrong(key, w))
}

// clearWrong forgets a wrong blob.
func (t *tables) clearWrong(key []byte) error {
	b := t.tx.Bucket([]byte(bucketWrong))
	if b == nil || b.Get(key) == nil {
		return nil
	}
	if err := b.Delete(key); err != nil { // an entry that has become a bucket
		return fmt.Errorf("%w: %s: %w", ErrDamaged, bucketWrong, err)
	}
	t.changed = true
	return nil
}

func (t *tables) wrongBlob(dgst digest.Digest) (verify.WrongBlob, error) {
	if key, ok := anyKey(dgst); ok {
		if record := t.lookUp(bucketWrong, key); record != nil {
			w, err := decodeWrong(key, record)
			if err == nil {
				return w, nil
			}
			t.note(bucketWrong, key, err)
		}
	}
	return verify.WrongBlob{}, verify.ErrUnknown
}

func (t *tables) wrongBlobs(n int) []verify.WrongBlob {
	list := []verify.WrongBlob{}
	b := t.tx.Bucket([]byte(bucketWrong))
	if b == nil {
		return list
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil && len(list) < n; k, v = c.Next() {
		w, err := decodeWrong(k, v)
		if err == nil {
			list = append(list, w)
		}
		t.note(bucketWrong, k, err)
	}
	return list
}
