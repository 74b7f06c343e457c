package scan

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy/remote"
	"diffgate/verify"
)

// maxChildren bounds the manifests of an image index that are looked at, as it is
// when they are judged.
const maxChildren = 500

// plan finds out what there is to read to judge a manifest. A layer counts with
// the first manifest that needs it.
func (s *run) plan(ctx context.Context, repo *remote.Repository, m remote.Manifest, parsed verify.Manifest) (answer, error) {
	a := answer{toRead: &Amount{}}
	if parsed.Kind == verify.ImageKind {
		return a, s.planImage(ctx, repo, m.Digest, m.MediaType, parsed, a.toRead)
	}
	for c, err := range children(ctx, repo, parsed) {
		if err != nil {
			return a, err
		}
		child, err := verify.ParseManifest(c.mediaType, c.body)
		if err != nil || child.Kind != verify.ImageKind {
			continue // nothing of it is read
		}
		if err := s.planImage(ctx, repo, c.digest, c.mediaType, child, a.toRead); err != nil {
			return a, err
		}
	}
	return a, nil
}

// A childManifest is one that an image index names.
type childManifest struct {
	digest    digest.Digest
	mediaType string
	body      []byte
}

// children reads the manifests that an image index names, as many as are looked at
// when it is judged, without those that the repository does not hold. It ends with
// an error.
func children(ctx context.Context, repo *remote.Repository, m verify.Manifest) iter.Seq2[childManifest, error] {
	return func(yield func(childManifest, error) bool) {
		for i, d := range m.Manifests[:min(len(m.Manifests), maxChildren)] {
			mediaType, body, err := repo.Manifest(ctx, d)
			if errors.Is(err, verify.ErrNotFound) {
				continue
			}
			if err != nil {
				yield(childManifest{}, fmt.Errorf("read manifest %d of %d (%s): %w", i+1, len(m.Manifests), d.Digest, err))
				return
			}
			if !yield(childManifest{d.Digest, mediaType, body}, nil) {
				return
			}
		}
	}
}

func (s *run) planImage(ctx context.Context, repo *remote.Repository, dgst digest.Digest, mediaType string, m verify.Manifest, sum *Amount) error {
	if !m.MayBeImage() {
		return nil
	}
	if j, err := s.cfg.Store.Judgement(ctx, dgst); err == nil && j.Valid(mediaType) {
		return nil
	}
	known, err := s.knownThere(ctx, repo, dgst)
	if err != nil {
		return err
	}
	for _, d := range m.Layers {
		if known[d.Digest] || verify.IsForeign(d) {
			continue
		}
		_, err := s.cfg.Store.Get(ctx, d.Digest)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, verify.ErrUnknown):
			return fmt.Errorf("DiffID index: %w", err)
		}
		if s.planned.add(d.Digest) {
			sum.Layers++
			sum.Bytes += max(d.Size, 0)
		}
	}
	return nil
}

// knownThere returns the layers that a Diffgate in front of the registry knows.
func (s *run) knownThere(ctx context.Context, repo *remote.Repository, manifest digest.Digest) (map[digest.Digest]bool, error) {
	if s.cfg.Direct || s.gate.Load() == gateAbsent {
		return nil, nil
	}
	r, err := repo.Report(ctx, manifest.String(), false)
	switch {
	case err == nil:
		s.gate.Store(gateThere)
	case errors.Is(err, remote.ErrNoAPI):
		s.gate.CompareAndSwap(gateUnknown, gateAbsent)
		return nil, nil
	case s.gate.Load() == gateThere:
		return nil, err
	}
	known := map[digest.Digest]bool{}
	for _, l := range r.Layers {
		known[l.Digest] = l.Status != verify.StatusUnverified
	}
	return known, nil
}
