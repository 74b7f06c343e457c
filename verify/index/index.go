// Package index keeps the facts that package verify learns about blobs: the
// stores of the DiffID index. [Bolt] is one file for one process, [Memory]
// forgets. Package indextest holds every store to the contract of [Store].
//
// # Trust
//
// Facts in the DiffID index are believed. Whoever can write to a store can make
// a lie pass the gate, so its file is readable by its owner alone. Losing the
// DiffID index costs only time: every fact can be learned again from the blob.
// A store therefore prefers to know nothing over saying something doubtful.
//
// # The file
//
// Bolt keeps three buckets in a bbolt file:
//
//	diffids.db
//	├── meta                          sequence: commits that changed a fact
//	│   ├── "format"               -> "1", checksum
//	│   └── "id"                   -> 32 hex digits, made with the file, checksum
//	├── facts                         sequence: number of facts
//	│   └── algorithm[1] digest[32] -> record
//	└── diffids
//	    └── DiffID[0:8] digest[0:8] -> (empty)
//
//	algorithm  1 = SHA-256
//	record     version[1] = 1
//	           encoding, problem, source, quirks        uvarint each
//	           size, unpacked size, parts, trailing     uvarint each
//	           learned at                               varint, Unix seconds
//	           problem 0: unpacked[32], else: reason[0..160]
//	           checksum[8]
//	checksum   the first 8 bytes of SHA-256(key, value up to the checksum)
//
// bbolt's pages have no checksums: it returns a flipped bit as data. The
// checksum covers the key too, so that a good record under another key is found
// out. Entries of diffids are hints and carry none: each is checked against
// the fact that it leads to, so a damaged one can hide a fact and never invent
// one. Facts are not deleted, so neither bucket shrinks.
//
// A file with a later format is refused, not touched. A record with a later
// version is unknown to this version, which may write its own in its place.
package index

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// ErrClosed is returned by every method of a Store that has been closed.
var ErrClosed = errors.New("DiffID index is closed")

// A Store keeps facts. It is safe for concurrent use. Besides the errors named
// with each method, every method returns ctx.Err() when ctx ends first,
// [ErrClosed] after Close, and other errors when the medium fails; such an
// error says nothing about the facts.
type Store interface {
	// Get returns the fact about dgst. It returns [verify.ErrUnknown] when there
	// is none, or when dgst is not a SHA-256 digest in canonical form.
	Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error)

	// Put stores f if [verify.Fact.Supersede] says so. When it returns nil, the
	// store durably holds f, or a fact that makes f redundant. It returns
	// [verify.ErrConflict], and stores nothing, when f contradicts what is
	// known, and another error when f is not a fact at all (see fact.go). A Put
	// that gave up because ctx ended may still be carried out.
	Put(ctx context.Context, f verify.Fact) error

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
	// the facts may have changed since.
	Revision(ctx context.Context) (string, error)

	// Stat returns how much the store holds, without counting it.
	Stat(ctx context.Context) (Stat, error)

	// Ready returns nil when facts can be read and written now. It tries both.
	Ready(ctx context.Context) error

	// Close waits for the calls under way and releases the store. Closing
	// again does nothing and returns nil.
	Close() error
}

// A Stat says how much a Store holds.
type Stat struct {
	Facts     int64 // number of facts
	SizeBytes int64 // bytes that they take where they are stored
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
	case len(f.Reason) > verify.MaxReason:
		return fmt.Errorf("reason of %d bytes", len(f.Reason))
	}
	return nil
}
