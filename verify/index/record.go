package index

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"diffgate/verify"
)

const (
	recordVersion = 3 // 1 knew no bzip2, no xz and no NotTar; 2 no NotTar of compressed blobs
	checksumSize  = 8

	// maxRecord is the length that no record exceeds: the length of a damaged
	// one can be anything, and must be known to be sane before it is hashed.
	maxRecord = 1 + 9*binary.MaxVarintLen64 + verify.MaxReason + checksumSize
)

var (
	errRecord        = errors.New("damaged record")
	errRecordVersion = errors.New("record of another version")
)

// seal returns body followed by its checksum under key.
func seal(key, body []byte) []byte {
	sum := sha256.Sum256(append(append([]byte{}, key...), body...))
	return append(body, sum[:checksumSize]...)
}

// unseal returns a copy of the body that was sealed under key in at most limit
// bytes, or errRecord. It looks at its own copy only, because bbolt's memory is
// the file itself. The copy is in buf if it has room for key and value.
func unseal(buf, key, value []byte, limit int) ([]byte, error) {
	if len(key) > maxKey || len(value) < checksumSize || len(value) > limit {
		return nil, fmt.Errorf("%w: %d bytes under a key of %d", errRecord, len(value), len(key))
	}
	if cap(buf) < len(key)+len(value) {
		buf = make([]byte, 0, len(key)+len(value))
	}
	buf = append(append(buf[:0], key...), value...)
	body := buf[:len(buf)-checksumSize]
	sum := sha256.Sum256(body)
	if [checksumSize]byte(buf[len(body):]) != [checksumSize]byte(sum[:]) {
		return nil, fmt.Errorf("%w: wrong checksum", errRecord)
	}
	return body[len(key):], nil
}

// encodeFact returns key and record of a canonical fact.
func encodeFact(f verify.Fact) (key, record []byte) {
	b := appendFact(make([]byte, 0, keySize+maxRecord), f)
	return b[:keySize:keySize], b[keySize:]
}

// appendFact appends key and record of a canonical fact to b.
func appendFact(b []byte, f verify.Fact) []byte {
	begin := len(b)
	dgst, _ := parseSHA256(string(f.Digest))
	b = append(append(b, keySHA256), dgst[:]...)
	b = append(b, recordVersion)
	for _, v := range []uint64{
		uint64(f.Encoding), uint64(f.Problem), uint64(f.Source), uint64(f.Quirks),
		uint64(f.Size), uint64(f.UnpackedSize), uint64(f.Parts), uint64(f.Trailing),
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendVarint(b, f.LearnedAt.Unix())
	if f.Problem == verify.None {
		unpacked, _ := parseSHA256(string(f.Unpacked))
		b = append(b, unpacked[:]...)
	} else {
		b = append(b, f.Reason...)
	}
	sum := sha256.Sum256(b[begin:])
	return append(b, sum[:checksumSize]...)
}

// decodeFact is the inverse of encodeFact. It returns errRecord for anything
// that encodeFact did not write, and errRecordVersion for a whole record in a
// layout that this version does not know.
func decodeFact(key, record []byte) (verify.Fact, error) {
	var buf [keySize + maxRecord]byte
	body, err := unseal(buf[:], key, record, maxRecord)
	if err != nil {
		return verify.Fact{}, err
	}
	if len(body) == 0 || body[0] != recordVersion || len(key) != keySize || key[0] != keySHA256 {
		return verify.Fact{}, errRecordVersion
	}
	r := fields{rest: body[1:]}
	f := verify.Fact{
		Digest:       formatSHA256(key[1:]),
		Encoding:     verify.Encoding(r.uvarint(math.MaxUint8)),
		Problem:      verify.Problem(r.uvarint(math.MaxUint8)),
		Source:       verify.Source(r.uvarint(math.MaxUint8)),
		Quirks:       verify.Quirks(r.uvarint(math.MaxUint16)),
		Size:         int64(r.uvarint(math.MaxInt64)),
		UnpackedSize: int64(r.uvarint(math.MaxInt64)),
		Parts:        int64(r.uvarint(math.MaxInt64)),
		Trailing:     int64(r.uvarint(math.MaxInt64)),
		LearnedAt:    r.time(),
	}
	switch {
	case r.bad,
		f.Problem == verify.None && len(r.rest) != sha256.Size,
		f.Problem != verify.None && len(r.rest) > verify.MaxReason:
		return verify.Fact{}, fmt.Errorf("%w: malformed", errRecord)
	case f.Problem == verify.None:
		f.Unpacked = formatSHA256(r.rest)
	default:
		f.Reason = string(r.rest)
	}
	return f, nil
}

// fields takes a record apart. After a field that is cut short, longer than it
// need be or out of range, bad is set and the rest is empty.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit || n > 1 && r.rest[n-1] == 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *fields) time() time.Time {
	v := r.uvarint(math.MaxUint64)
	return time.Unix(int64(v>>1)^-int64(v&1), 0).UTC()
}
