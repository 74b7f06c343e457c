package proxy

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// readBlob fetches a blob and has read read it to its end. It returns the error
// of read, and a *wrongBlobError when the upstream holds other bytes.
func (u *upstream) readBlob(ctx context.Context, c caller, repo string, dgst digest.Digest, read func(io.Reader) error) error {
	body, err := u.blob(ctx, c, repo, dgst)
	if err != nil {
		return err
	}
	defer body.Close()
	proof := dgst.Algorithm().Digester()
	if err := read(io.TeeReader(body, proof.Hash())); err != nil {
		return err
	}
	if got := proof.Digest(); got != dgst {
		return &wrongBlobError{repo, dgst, got, body.doubt}
	}
	return nil
}

// hash fetches a blob and returns the fact about it. A blob that needs the slow lane
// is decoded without asking for it if slow is set.
func (u *upstream) hash(ctx context.Context, c caller, repo string, dgst digest.Digest, slow bool) (fact verify.Fact, err error) {
	limits := u.limits
	if slow {
		limits.Slow = nil
	}
	err = u.readBlob(ctx, c, repo, dgst, func(r io.Reader) error {
		fact, err = verify.Hash(r, limits, verify.Fetched, time.Now())
		return err
	})
	return fact, err
}

// look fetches a blob and takes a closer look at it.
func (u *upstream) look(ctx context.Context, c caller, repo string, dgst digest.Digest) (look verify.Look, err error) {
	limits := u.limits
	limits.Slow = nil // a look is taken in a slot of its own
	err = u.readBlob(ctx, c, repo, dgst, func(r io.Reader) error {
		look, err = verify.TakeLook(r, limits)
		return err
	})
	return look, err
}

// A wrongBlobError says that the upstream holds other bytes under a digest.
type wrongBlobError struct {
	repo      string
	want, got digest.Digest
	doubt     bool // see doubtful
}

func (e *wrongBlobError) Error() string {
	return fmt.Sprintf("the upstream holds wrong bytes in %s: %s has the digest %s", e.repo, e.want, e.got)
}

// config reads a config and checks its digest. It returns a *verify.TooLargeError
// for one over the limit.
func (u *upstream) config(ctx context.Context, c caller, repo string, desc ocispec.Descriptor) ([]byte, error) {
	body, err := u.blob(ctx, c, repo, desc.Digest)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, u.maxConfig+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > u.maxConfig {
		return nil, verify.NewTooLargeError(u.maxConfig, data)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, &wrongBlobError{repo, desc.Digest, got, body.doubt}
	}
	return data, nil
}
