package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// gather asks for the facts about all layers, once for each digest. missing
// are the layers that the repository should hold and does not.
func gather(ctx context.Context, blobs Blobs, layers []ocispec.Descriptor) (e []Evidence, missing []int, err error) {
	type answer struct {
		fact *Fact
		gone bool
	}
	answers := map[digest.Digest]*answer{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64) // what runs at once is bounded by the source; this bounds goroutines
	for i, d := range layers {
		if answers[d.Digest] != nil {
			continue
		}
		a := &answer{}
		answers[d.Digest] = a
		g.Go(func() error {
			f, err := blobs.Fact(ctx, d)
			switch {
			case err == nil:
				a.fact = &f
			case errors.Is(err, ErrNotFound):
				a.gone = true
			case !errors.Is(err, ErrUnknown):
				return fmt.Errorf("read layer %d of %d (%s): %w", i+1, len(layers), d.Digest, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	e = make([]Evidence, len(layers))
	for i, d := range layers {
		a := answers[d.Digest]
		e[i].Fact = a.fact
		if a.gone && !IsForeign(d) && !isEncrypted(d) { // of an encrypted one nothing is to be found out
			missing = append(missing, i)
		}
	}
	return e, missing, nil
}

const (
	maxLooks  = 8       // layers of one image that are read once more to explain a lie
	maxLooked = 1 << 30 // decoded bytes of all of them
)

// lookCloser adds to the evidence of the layers whose claim it can not yet
// decide, and of the first whose claim is false for no reason that is known. It
// reports whether there were any; missing are those that it finds gone.
func lookCloser(ctx context.Context, blobs Blobs, r Report, e []Evidence) (looked bool, missing []int, err error) {
	unexplained := unexplained(r)
	looks := map[digest.Digest]*Look{} // the same blob need not be read twice
	left, bytes := maxLooks, int64(maxLooked)
	for i, l := range r.Layers {
		id, ok := parseDiffID(l.Claimed)
		if !ok || l.Fact == nil || l.Fact.Problem != None {
			continue
		}
		wide := digest.Digest(id).Algorithm() != digest.SHA256 && l.Status == StatusUnverified
		if !wide {
			if !unexplained[i] || left == 0 || l.Fact.UnpackedSize > bytes {
				continue
			}
			left--
			bytes -= l.Fact.UnpackedSize
		}
		looked = true
		if look := looks[l.Descriptor.Digest]; look != nil {
			e[i].Look = look
			continue
		}
		look, err := blobs.Look(ctx, l.Descriptor)
		switch {
		case err == nil:
			e[i].Look = &look
			looks[l.Descriptor.Digest] = &look
		case wide && errors.Is(err, ErrNotFound):
			missing = append(missing, i)
		case ctx.Err() != nil || wide && !errors.Is(err, ErrUnknown):
			return false, nil, fmt.Errorf("read layer %d of %d (%s) once more: %w", i+1, len(r.Layers), l.Descriptor.Digest, err)
		}
		// A story that cannot be told does not change the verdict, so what went
		// wrong with it does not either.
	}
	return looked, missing, nil
}

// unexplained returns the layers whose DiffID is false and nobody knows why.
func unexplained(r Report) map[int]bool {
	layers := map[int]bool{}
	for _, f := range r.Findings {
		if f.Reason == ReasonDiffIDMismatch && f.Cause == "" {
			layers[f.Layer] = true
		}
	}
	return layers
}
