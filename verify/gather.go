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
// are the layers that the repository should hold and does not. With an error the
// evidence is about the layers that could be read. When the caller may not read
// one, the rest is not asked for.
func gather(ctx context.Context, blobs Blobs, layers []ocispec.Descriptor) (e []Evidence, missing []int, err error) {
	answers := map[digest.Digest]*factAnswer{}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.SetLimit(64) // what runs at once is bounded by the source; this bounds goroutines
	for i, d := range layers {
		if answers[d.Digest] != nil {
			continue
		}
		a := &factAnswer{layer: i}
		answers[d.Digest] = a
		g.Go(func() error {
			if a.ask(ctx, blobs, d); errors.Is(a.err, ErrForbidden) {
				stop()
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in the answers
	e = make([]Evidence, len(layers))
	for i, d := range layers {
		a := answers[d.Digest]
		e[i].Fact = a.fact
		if a.gone && !mayBeElsewhere(d) {
			missing = append(missing, i)
		}
		if a.err != nil && (err == nil || errors.Is(a.err, ErrForbidden) && !errors.Is(err, ErrForbidden)) {
			err = fmt.Errorf("read layer %d of %d (%s): %w", a.layer+1, len(layers), d.Digest, a.err)
		}
	}
	return e, missing, err
}

// A factAnswer is what a source says about a blob: the fact, that it does not hold
// the blob, nothing, or an error.
type factAnswer struct {
	layer int // the first that has the digest
	fact  *Fact
	gone  bool
	err   error
}

func (a *factAnswer) ask(ctx context.Context, blobs Blobs, d ocispec.Descriptor) {
	f, err := blobs.Fact(ctx, d)
	switch {
	case err == nil:
		a.fact = &f
	case errors.Is(err, ErrNotFound):
		a.gone = true
	case !errors.Is(err, ErrUnknown):
		a.err = err
	}
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
