package index

import (
	"context"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// MarkWrong implements Store.
func (b *Bolt) MarkWrong(ctx context.Context, w verify.WrongBlob) error {
	w, key, err := canonicalWrong(w)
	if err != nil {
		return err
	}
	return b.write(ctx, func(t *tables) (refused, err error) { return nil, t.markWrong(key, w) })
}

// ClearWrong implements Store.
func (b *Bolt) ClearWrong(ctx context.Context, dgst digest.Digest) error {
	key, ok := anyKey(dgst)
	return b.write(ctx, func(t *tables) (refused, err error) {
		if !ok {
			return nil, nil
		}
		return nil, t.clearWrong(key)
	})
}

// WrongBlob implements Store.
func (b *Bolt) WrongBlob(ctx context.Context, dgst digest.Digest) (verify.WrongBlob, error) {
	return read(ctx, b, func(t *tables) (verify.WrongBlob, error) { return t.wrongBlob(dgst) })
}

// WrongBlobs implements Store.
func (b *Bolt) WrongBlobs(ctx context.Context, n int) ([]verify.WrongBlob, error) {
	return read(ctx, b, func(t *tables) ([]verify.WrongBlob, error) { return t.wrongBlobs(n), nil })
}
