package verifytest

import (
	"bytes"
	"context"
	"time"

	"diffgate/verify"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Repo is a repository in memory. It implements [verify.Blobs] and hashes a
// layer each time that it is asked.
type Repo map[digest.Digest][]byte

// Config implements verify.Blobs.
func (r Repo) Config(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	blob, ok := r[desc.Digest]
	if !ok {
		return nil, verify.ErrNotFound
	}
	return blob, nil
}

// Fact implements verify.Blobs.
func (r Repo) Fact(_ context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	blob, ok := r[desc.Digest]
	if !ok {
		return verify.Fact{}, verify.ErrNotFound
	}
	return verify.Hash(bytes.NewReader(blob), verify.Limits{}, verify.Fetched, time.Now())
}
