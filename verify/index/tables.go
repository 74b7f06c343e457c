package index

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"diffgate/verify"
)

// The names in the file; see the package comment.
const (
	bucketMeta       = "meta"
	bucketFacts      = "facts"
	bucketDiffIDs    = "diffids"
	bucketJudgements = "judgements"
	bucketTwins      = "twins"
	bucketLinks      = "links"
	bucketWrong      = "wrong"
	metaFormat       = "format"
	metaID           = "id"
)

// tables are the buckets of a DiffID index in one transaction, and what has
// been found damaged and changed in them. Whatever bbolt returns points into
// the file, so nothing of it is believed or kept before it has been decoded.
type tables struct {
	tx                   *bbolt.Tx
	meta, facts, diffids *bbolt.Bucket // the others may be missing
	damaged              []Damage
	changed              bool // there is something to commit
	revised              bool // Get may answer otherwise
}

// openTables returns ErrDamaged, with the buckets that there are, when one is
// missing that every file has.
func openTables(tx *bbolt.Tx) (*tables, error) {
	t := &tables{
		tx:      tx,
		meta:    tx.Bucket([]byte(bucketMeta)),
		facts:   tx.Bucket([]byte(bucketFacts)),
		diffids: tx.Bucket([]byte(bucketDiffIDs)),
	}
	if t.meta == nil || t.facts == nil || t.diffids == nil {
		return t, fmt.Errorf("%w: a bucket is missing", ErrDamaged)
	}
	return t, nil
}

// openFacts is openTables for those who need no more than facts, and buckets
// that may be missing. To open a bucket takes as long as to find a record in it.
func openFacts(tx *bbolt.Tx) (*tables, error) {
	t := &tables{tx: tx, facts: tx.Bucket([]byte(bucketFacts))}
	if t.facts == nil {
		return t, fmt.Errorf("%w: a bucket is missing", ErrDamaged)
	}
	return t, nil
}

// createTables makes the buckets that every file has in an empty file.
func createTables(tx *bbolt.Tx, id string) error {
	for _, name := range []string{bucketMeta, bucketFacts, bucketDiffIDs} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	return errors.Join(
		meta.Put([]byte(metaFormat), seal([]byte(metaFormat), []byte(strconv.Itoa(fileFormat)))),
		meta.Put([]byte(metaID), seal([]byte(metaID), []byte(id))),
	)
}

// metaValue returns a value of the meta bucket, or ErrDamaged.
func (t *tables) metaValue(name string) (string, error) {
	value, err := unseal(nil, []byte(name), t.meta.Get([]byte(name)), maxRecord)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return string(value), nil
}

// decode returns the fact in a record. When ok is false there is none that this
// version can read, and if that is because of damage, it has been noted.
func (t *tables) decode(key, record []byte) (f verify.Fact, ok bool) {
	f, err := decodeFact(key, record)
	t.note(bucketFacts, key, err)
	return f, err == nil
}

// note notes the damage if err says that the record under key in a bucket is
// damaged.
func (t *tables) note(bucket string, key []byte, err error) {
	if errors.Is(err, errRecord) {
		t.damaged = append(t.damaged, Damage{
			Path: t.tx.DB().Path(), Digest: formatKey(key), Err: fmt.Errorf("%s: %w", bucket, err),
		})
	}
}

func (t *tables) get(dgst digest.Digest) (verify.Fact, error) {
	key, ok := factKey(dgst)
	if !ok {
		key, ok = t.linked(dgst)
	}
	if ok {
		if record := t.facts.Get(key); record != nil {
			if f, ok := t.decode(key, record); ok {
				return f, nil
			}
		}
	}
	return verify.Fact{}, verify.ErrUnknown
}

// put stores a canonical fact unless what is known makes it redundant, or
// refuses it. An err concerns the transaction, not the fact.
func (t *tables) put(f verify.Fact) (refused, err error) {
	key, record := encodeFact(f)
	stored, refused, err := t.putFact(key, record)
	if stored && f.Problem == verify.None {
		unpacked, _ := parseSHA256(string(f.Unpacked))
		err = t.putHint(diffIDKey(unpacked[:], key[1:]))
	}
	return refused, err
}

// putFact does what put does, but for the entry of diffids. Key and record are
// those of a canonical fact.
func (t *tables) putFact(key, record []byte) (stored bool, refused, err error) {
	if old := t.facts.Get(key); old == nil {
		if _, err := t.facts.NextSequence(); err != nil {
			return false, nil, err
		}
	} else if known, ok := t.decode(key, old); ok {
		f, err := decodeFact(key, record)
		if err != nil {
			return false, nil, err
		}
		if newer, refused := f.Supersede(known); refused != nil || !newer {
			return false, refused, nil
		}
	}
	if err := t.facts.Put(key, record); err != nil { // an entry that has become a bucket
		return false, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	t.changed, t.revised = true, true
	return true, nil, nil
}

// putHint makes an entry of diffids.
func (t *tables) putHint(key []byte) error {
	if err := t.diffids.Put(key, nil); err != nil { // an entry that has become a bucket
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func (t *tables) list(after digest.Digest, n int) ([]verify.Fact, error) {
	facts := []verify.Fact{}
	start, skip, ok := keyAfter(string(after))
	if !ok {
		return facts, nil
	}
	c := t.facts.Cursor()
	k, v := c.Seek(start)
	if skip && bytes.Equal(k, start) {
		k, v = c.Next()
	}
	for ; k != nil && len(facts) < n; k, v = c.Next() {
		f, ok := t.decode(k, v)
		if !ok {
			continue
		}
		if len(facts) > 0 && f.Digest <= facts[len(facts)-1].Digest {
			return nil, fmt.Errorf("%w: keys are out of order", ErrDamaged)
		}
		facts = append(facts, f)
	}
	return facts, nil
}

func (t *tables) byDiffID(id verify.DiffID, limit int) []verify.Fact {
	facts := []verify.Fact{}
	sum, ok := parseSHA256(string(id))
	if !ok {
		return facts
	}
	prefix := diffIDKey(sum[:], nil)
	hints, records := t.diffids.Cursor(), t.facts.Cursor()
	for h, _ := hints.Seek(prefix); bytes.HasPrefix(h, prefix) && len(facts) < limit; h, _ = hints.Next() {
		start := append([]byte{keySHA256}, h[len(prefix):]...)
		for k, v := records.Seek(start); bytes.HasPrefix(k, start) && len(facts) < limit; k, v = records.Next() {
			f, ok := t.decode(k, v)
			if !ok || f.Problem != verify.None || f.Unpacked != digest.Digest(id) {
				continue
			}
			// A damaged hint may lead to where another has been.
			if len(facts) == 0 || f.Digest > facts[len(facts)-1].Digest {
				facts = append(facts, f)
			}
		}
	}
	return facts
}
