package scan

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy/remote"
	"diffgate/verify"
)

// A repository is one of the registry, where each layer is read by one image at
// a time and what is known of a manifest is not found out again.
type repository struct {
	*remote.Repository
	s *run
}

var _ verify.Repository = (*repository)(nil)

// Fact implements verify.Blobs.
func (r *repository) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	release, err := r.s.layers.take(ctx, desc.Digest)
	if err != nil {
		return verify.Fact{}, err
	}
	defer release()
	_, unknown := r.s.cfg.Store.Get(ctx, desc.Digest)
	f, err := r.Repository.Fact(ctx, desc)
	if err == nil && unknown != nil {
		r.s.read.Add(1)
	}
	return f, err
}

// Judgement implements verify.Manifests.
func (r *repository) Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error) {
	j, err := r.s.cfg.Store.Judgement(ctx, manifest)
	if err == nil {
		_, err = r.Head(ctx, manifest.String())
	}
	return j, err
}

// errNoGate is that no Diffgate is to be asked.
var errNoGate = errors.New("no Diffgate")

// What is known of a Diffgate in front of the registry.
const (
	gateUnknown int32 = iota
	gateThere
	gateAbsent
)

// ask has the Diffgate in front of the registry judge a manifest. It returns
// errNoGate where there is none: whatever a registry says to a question that it
// does not know is no reason not to judge.
func (s *run) ask(ctx context.Context, repo *remote.Repository, m remote.Manifest) (answer, error) {
	if s.cfg.Direct || s.gate.Load() == gateAbsent {
		return answer{}, errNoGate
	}
	r, err := repo.Report(ctx, m.Digest.String(), true)
	switch {
	case err == nil:
		s.gate.Store(gateThere)
		return newAnswer(r), nil
	case errors.Is(err, remote.ErrNoAPI):
		s.gate.CompareAndSwap(gateUnknown, gateAbsent)
		return answer{}, errNoGate
	case s.gate.Load() == gateThere:
		return answer{}, err
	}
	return answer{}, errNoGate
}
