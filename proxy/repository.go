package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// A repository reads blobs of one repository in a client's name.
type repository struct {
	p      *Proxy
	caller caller
	name   string
}

func (x *exchange) repository() repository { return repository{x.p, x.caller(), x.rt.name} }

// Config implements verify.Blobs.
func (r repository) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	data, err := r.p.upstream.config(ctx, r.caller, r.name, desc)
	if errors.Is(err, errTooLarge) {
		return nil, &verify.ClaimError{Reason: verify.ReasonConfigInvalid,
			Message: fmt.Sprintf("the config is larger than %d bytes (limits.config)", r.p.cfg.MaxConfig)}
	}
	return data, err
}

// held returns nil unless the registry neither holds a layer nor will look for
// it: one that may come from elsewhere it takes on trust. What is known of its
// digest may then be the secret of another repository.
func (r repository) held(ctx context.Context, desc ocispec.Descriptor) error {
	if len(desc.URLs) == 0 && !strings.Contains(desc.MediaType, ".foreign.") && !strings.Contains(desc.MediaType, ".nondistributable.") {
		return nil
	}
	return r.p.upstream.has(ctx, r.caller, r.name, desc.Digest)
}

// pushed is the repository that a manifest is being pushed to: what passed a
// moment ago need not be fetched, and what is unknown is hashed. It may tell
// of blobs that the caller cannot read.
type pushed struct{ repository }

// Config implements verify.Blobs.
func (r pushed) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if data := r.p.small.get(desc.Digest); data != nil {
		return data, nil
	}
	data, err := r.repository.Config(ctx, desc)
	if err == nil && len(data) <= smallBlobMax && desc.Digest.Algorithm() == digest.SHA256 {
		r.p.small.add(desc.Digest, data)
	}
	return data, err
}

// Fact implements verify.Blobs.
func (r pushed) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.held(ctx, desc); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}

func (r pushed) fact(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	return r.p.ledger.fact(ctx, dgst, func(ctx context.Context) (verify.Fact, error) {
		return r.p.upstream.hash(ctx, r.caller, r.name, dgst)
	})
}

// readable is a pushed that tells of nothing which the caller cannot read. A
// refusal is worded by it: otherwise a manifest with guesses in it would make
// the DiffID index an oracle for blobs of other repositories.
type readable struct{ pushed }

// Config implements verify.Blobs.
func (r readable) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return nil, err
	}
	return r.pushed.Config(ctx, desc)
}

// Fact implements verify.Blobs.
func (r readable) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}
