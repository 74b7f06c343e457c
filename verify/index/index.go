// Package index keeps what package verify learns: the stores of the DiffID
// index. They hold facts about blobs, judgements of manifests, links, which are
// other names of blobs, and which blobs the registry holds wrong. [Bolt] is one file for one process, [Memory]
// forgets. Package indextest holds every store to the contract of [Store].
//
// # Trust
//
// What is in the DiffID index is believed. Whoever can write to a store can make
// a lie pass the gate, so its file is readable by its owner alone. Losing the
// DiffID index costs only time: all of it can be learned again from the blobs.
// A store therefore prefers to know nothing over saying something doubtful.
//
// # The file
//
// Bolt keeps these buckets in a bbolt file:
//
//	diffids.db
//	├── meta                          sequence: commits that changed a fact or link
//	│   ├── "format"               -> "1", checksum
//	│   └── "id"                   -> 32 hex digits, made with the file, checksum
//	├── facts                         sequence: number of facts
//	│   └── algorithm[1] digest[32] -> record
//	├── diffids
//	│   └── DiffID[0:8] digest[0:8] -> (empty)
//	├── judgements
//	│   └── algorithm[1] manifest[32] -> judgement
//	├── twins
//	│   └── algorithm[1] config[32] -> reference to a manifest
//	├── links
//	│   └── algorithm[1] name[48 or 64] -> reference to a blob
//	└── wrong
//	    └── algorithm[1] digest[32, 48 or 64] -> wrong blob
//
//	algorithm  1 = SHA-256, 2 = SHA-384, 3 = SHA-512
//	record     version[1] = 2
//	           encoding, problem, source, quirks        uvarint each
//	           size, unpacked size, parts, trailing     uvarint each
//	           learned at                               varint, Unix seconds
//	           problem 0: unpacked[32], else: reason[0..160]
//	           checksum[8]
//	judgement  version[1] = 1
//	           JSON object, see judgementRecord
//	           checksum[8], and no more than 16 KiB in all
//	reference  version[1] = 1
//	           algorithm[1] = 1, digest[32]
//	           checksum[8]
//	wrong blob version[1] = 1
//	           algorithm[1], actual digest[32, 48 or 64]
//	           seen at                                  varint, Unix seconds
//	           checksum[8]
//	checksum   the first 8 bytes of SHA-256(key, value up to the checksum)
//
// bbolt's pages have no checksums: it returns a flipped bit as data. The
// checksum covers the key too, so that a good record under another key is found
// out. Entries of diffids are hints and carry none: each is checked against
// the fact that it leads to, so a damaged one can hide a fact and never invent
// one. PutAll makes them before the facts: when it is interrupted, or a fact is
// refused, some lead nowhere. A twin is checked against the judgement that it
// leads to as well, which may have been replaced. Nothing but wrong blobs is
// deleted, so no other bucket shrinks; Check finds damaged records, and Compact
// leaves them out.
//
// A file with a later format is refused, not touched. The last four buckets
// are made when they are needed: earlier versions, which made files without
// them, do not mind them, so they are of the same format. A record with another
// version is unknown to this version, which may write its own in its place;
// that of a fact is 2 since facts tell more encodings and quirks apart.
package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// ErrClosed is returned by every method of a Store that has been closed.
var ErrClosed = errors.New("DiffID index is closed")

// ErrReadOnly is returned by the writes of a Store that is only read.
var ErrReadOnly = errors.New("DiffID index is opened for reading only")

// A Store keeps facts, links and judgements. It is safe for concurrent use.
// Besides the errors named with each method, every method returns ctx.Err()
// when ctx ends first, [ErrClosed] after Close, and other errors when the medium
// fails; such an error says nothing about what is known. A write that gave up
// because ctx ended may still be carried out.
type Store interface {
	// Get returns the fact about the blob with that digest. For a digest that is
	// not SHA-256 it is the fact about the blob that Link was told of, whose
	// Digest is another than dgst. Get returns [verify.ErrUnknown] when there is
	// no fact, no link, or when dgst is not in canonical form.
	Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error)

	// Put stores f if [verify.Fact.Supersede] says so. When it returns nil, the
	// store durably holds f, or a fact that makes f redundant. It returns
	// [verify.ErrConflict], and stores nothing, when f contradicts what is
	// known, and another error when f is not a fact at all (see fact.go).
	Put(ctx context.Context, f verify.Fact) error

	// PutAll puts facts as Put does, one after the other, only faster: they need
	// not be stored one by one. It calls refused, unless that is nil, with each
	// error that Put would return because of the fact, and goes on. Another
	// error ends it; some of the facts may have been stored, and all may be put
	// again. When it returns nil, the store durably holds all that were not
	// refused.
	PutAll(ctx context.Context, facts iter.Seq[verify.Fact], refused func(error)) (Tally, error)

	// Link stores that the blob with the SHA-256 digest dgst has the SHA-384 or
	// SHA-512 digest name too, whether or not there is a fact about it. When it
	// returns nil, the store durably holds that link. A link never changes: Link
	// returns [verify.ErrConflict], and stores nothing, when name is that of
	// another blob. It returns another error when either is no such digest in
	// canonical form. Links are not facts: ByDiffID, List and Stat do not count
	// them.
	Link(ctx context.Context, name, dgst digest.Digest) error

	// Judgement returns the judgement of the manifest with that digest. It
	// returns [verify.ErrUnknown] when there is none, or when manifest is not a
	// SHA-256 digest in canonical form. Whether it still holds is for the caller
	// to say: see [verify.Judgement.Valid]. The caller may change the result.
	Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error)

	// PutJudgement stores j in place of what was known about its manifest. Of
	// several, the one put last stands. When it returns nil, the store durably
	// holds j, or one that differs from j in nothing but JudgedAt, which it does
	// not replace. It returns an error, and stores nothing, when j is not a
	// judgement: Manifest is a SHA-256 digest in canonical form; Config is
	// empty or a SHA-256, SHA-384 or SHA-512 digest in canonical form; Verdict
	// is not empty; there are at most [verify.MaxFindings] findings, and 256
	// bytes of MediaType; all of it is UTF-8 and fits 16 KiB of JSON.
	PutJudgement(ctx context.Context, j verify.Judgement) error

	// Twin returns a judgement with the verdict [verify.Match] of a manifest
	// that names the config with that SHA-256 digest: the one that was put
	// first, as long as it stands. When it has been replaced by one that is
	// none such, Twin may return [verify.ErrUnknown] until another is put. It
	// does so when there is none, or when config is not a SHA-256 digest in
	// canonical form. The caller may change the result.
	Twin(ctx context.Context, config digest.Digest) (verify.Judgement, error)

	// MarkWrong stores w in place of what was known about its digest. It returns
	// an error, and stores nothing, when the digests are not different ones of
	// the same algorithm (SHA-256, SHA-384, SHA-512) in canonical form.
	MarkWrong(ctx context.Context, w verify.WrongBlob) error

	// ClearWrong forgets that a blob was wrong. To forget what is not known is
	// no error.
	ClearWrong(ctx context.Context, dgst digest.Digest) error

	// WrongBlob returns what MarkWrong stored about a digest, or
	// [verify.ErrUnknown].
	WrongBlob(ctx context.Context, dgst digest.Digest) (verify.WrongBlob, error)

	// WrongBlobs returns up to n wrong blobs, ordered by algorithm and digest.
	// The slice is empty when there is none, never nil.
	WrongBlobs(ctx context.Context, n int) ([]verify.WrongBlob, error)

	// ByDiffID returns up to limit facts whose blob decodes without a problem
	// to the bytes with DiffID id, ordered by digest. No fact is no error, and
	// the slice is empty then, never nil.
	ByDiffID(ctx context.Context, id verify.DiffID, limit int) ([]verify.Fact, error)

	// List returns up to n facts ordered by digest, beginning with the first
	// whose digest is greater than after in the order of strings. After may be
	// any string; "" begins at the beginning. One call sees one moment. The
	// slice is empty at the end, never nil.
	List(ctx context.Context, after digest.Digest, n int) ([]verify.Fact, error)

	// Revision returns a short word that differs from every earlier one when
	// Get, ByDiffID or List may answer otherwise since. Judgements and wrong blobs
	// do not count.
	Revision(ctx context.Context) (string, error)

	// Stat returns how much the store holds, without counting it.
	Stat(ctx context.Context) (Stat, error)

	// Ready returns nil when the store can be read and written now. It tries
	// both.
	Ready(ctx context.Context) error

	// Close waits for the calls under way and releases the store. Closing
	// again does nothing and returns nil.
	Close() error
}

// A Stat says how much a Store holds.
type Stat struct {
	Facts     int64 // number of facts; those that have become unreadable may count
	SizeBytes int64 // bytes that all takes where it is stored
}

// canonical returns f as stores keep it, or says why f is not a fact.
func canonical(f verify.Fact) (verify.Fact, error) {
	if _, ok := parseSHA256(string(f.Digest)); !ok {
		return f, fmt.Errorf("fact about %q: not a SHA-256 digest", f.Digest)
	}
	if err := wellFormed(f); err != nil {
		return f, fmt.Errorf("fact about %s: %w", f.Digest, err)
	}
	f.LearnedAt = time.Unix(f.LearnedAt.Unix(), 0).UTC()
	return f, nil
}

func wellFormed(f verify.Fact) error {
	_, decoded := parseSHA256(string(f.Unpacked))
	switch {
	case min(f.Size, f.UnpackedSize, f.Parts, f.Trailing) < 0:
		return errors.New("negative size")
	case f.Problem == verify.None && !decoded:
		return fmt.Errorf("DiffID %q is not a SHA-256 digest", f.Unpacked)
	case f.Problem == verify.None && f.Reason != "":
		return errors.New("reason without a problem")
	case f.Problem != verify.None && f.Unpacked != "":
		return errors.New("DiffID in spite of a problem")
	case f.Problem == verify.GivenUp:
		return errors.New("hashing was given up")
	case len(f.Reason) > verify.MaxReason:
		return fmt.Errorf("reason of %d bytes", len(f.Reason))
	}
	return nil
}
