package proxy

import (
	"context"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// Facts is the part of the DiffID index that taps and gate use. It is safe for
// concurrent use.
type Facts interface {
	// Get returns the fact about a blob, or verify.ErrUnknown.
	Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error)
	// Put records a fact durably. It returns verify.ErrConflict when another
	// final fact about the same bytes is recorded.
	Put(ctx context.Context, f verify.Fact) error
	// Link records that the blob with the SHA-256 digest dgst has another
	// digest too, of another algorithm, under which Get finds it from then on.
	// It returns verify.ErrConflict when the name is that of another blob.
	Link(ctx context.Context, name, dgst digest.Digest) error
}

// Judgements is the part of the DiffID index that remembers what was found
// about manifests. It is safe for concurrent use.
type Judgements interface {
	// Judgement returns what is known of a manifest, or verify.ErrUnknown.
	Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error)
	// PutJudgement records a judgement durably, in place of any other.
	PutJudgement(ctx context.Context, j verify.Judgement) error
	// Twin returns what is known of a manifest that names the config and is
	// right, or verify.ErrUnknown.
	Twin(ctx context.Context, config digest.Digest) (verify.Judgement, error)
}

// Catalog is the part of the DiffID index that answers queries. It is safe for
// concurrent use.
type Catalog interface {
	// List returns at most n facts with digests after the given one, in order.
	List(ctx context.Context, after digest.Digest, n int) ([]verify.Fact, error)
	// ByDiffID returns at most n facts about blobs that unpack to id, in order.
	ByDiffID(ctx context.Context, id verify.DiffID, n int) ([]verify.Fact, error)
	// Revision returns a string that changes when the content does.
	Revision(ctx context.Context) (string, error)
}

// WrongBlobs is the part of the DiffID index that remembers which blobs the
// registry holds wrong. It is safe for concurrent use.
type WrongBlobs interface {
	// MarkWrong records a wrong blob durably, in place of what was known of it.
	MarkWrong(ctx context.Context, w verify.WrongBlob) error
	// ClearWrong forgets that a blob was wrong, if it was.
	ClearWrong(ctx context.Context, dgst digest.Digest) error
	// WrongBlob returns what is known to be wrong, or verify.ErrUnknown.
	WrongBlob(ctx context.Context, dgst digest.Digest) (verify.WrongBlob, error)
	// WrongBlobs returns at most n wrong blobs.
	WrongBlobs(ctx context.Context, n int) ([]verify.WrongBlob, error)
}

// Index is a whole DiffID index.
type Index interface {
	Facts
	Catalog
	Judgements
	WrongBlobs
}
