package verifytest

import (
	"bytes"
	"context"
	"time"

	"diffgate/verify"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Repo is a repository in memory, of blobs and manifests. It implements
// [verify.Repository], hashes a layer each time that it is asked, serves a
// manifest as what it is asked for, and remembers no judgement.
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

// Look implements verify.Blobs.
func (r Repo) Look(_ context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	blob, ok := r[desc.Digest]
	if !ok {
		return verify.Look{}, verify.ErrNotFound
	}
	return verify.TakeLook(bytes.NewReader(blob), verify.Limits{})
}

// Manifest implements verify.Manifests.
func (r Repo) Manifest(_ context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error) {
	body, ok := r[desc.Digest]
	if !ok {
		return "", nil, verify.ErrNotFound
	}
	return desc.MediaType, body, nil
}

// Judgement implements verify.Manifests.
func (r Repo) Judgement(context.Context, digest.Digest) (verify.Judgement, error) {
	return verify.Judgement{}, verify.ErrUnknown
}

// Known implements verify.Manifests.
func (r Repo) Known(context.Context, digest.Digest) (verify.Fact, error) {
	return verify.Fact{}, verify.ErrUnknown
}
