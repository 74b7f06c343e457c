package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// ErrNotFound is returned by a Blobs whose repository does not hold a blob.
var ErrNotFound = errors.New("blob not found")

// Blobs is what a check needs of the repository that an image is in. Its
// methods may be called at the same time.
type Blobs interface {
	// Config returns the bytes of a config, after checking their digest. It
	// returns ErrNotFound when the repository does not hold the blob, and a
	// *ClaimError when it is too large to be judged.
	Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// Fact returns the fact about a layer, hashing it first if need be. It
	// returns ErrNotFound when the repository does not hold the blob, and
	// ErrUnknown when nobody hashed it and hashing was not wanted.
	Fact(ctx context.Context, desc ocispec.Descriptor) (Fact, error)
}

// Check judges a manifest of any kind.
//
// Everything that is wrong with the image, also what is wrong with the JSON,
// is a Finding of the Report. The error is for what could not be found out:
// it is an error of blobs, wrapped with the layer or config it is about.
func Check(ctx context.Context, blobs Blobs, contentType string, body []byte) (Report, error) {
	m, err := ParseManifest(contentType, body)
	if err != nil {
		return claimReport(m, err)
	}
	switch m.Kind {
	case IndexKind:
		return Report{Verdict: NotAnImage}, nil // its children are judged when they are pushed
	case Schema1Kind:
		return finding(m, Finding{Severity: Undecided, Reason: ReasonSchema1, Layer: -1,
			Message: "Docker schema 1 manifests carry no diff_ids and are refused (verify.schema1)"}), nil
	case UnknownKind:
		return finding(m, Finding{Reason: ReasonUnknownMediaType, Layer: -1,
			Message: fmt.Sprintf("unknown manifest media type %+q: it cannot be judged", clip(contentType))}), nil
	}
	if !m.MayBeImage() {
		return Judge(m, Config{}, make([]*Fact, len(m.Layers))), nil
	}
	body, err = blobs.Config(ctx, m.Config)
	if errors.Is(err, ErrNotFound) {
		return finding(m, Finding{Reason: ReasonBlobUnknown, Layer: -1, Digest: m.Config.Digest,
			Message: fmt.Sprintf("the config %s is not in the repository; push it before the manifest", m.Config.Digest)}), nil
	}
	if err != nil {
		return claimReport(m, fmt.Errorf("read config %s: %w", m.Config.Digest, err))
	}
	c, err := ParseConfig(body)
	if err != nil {
		return configReport(m, c, err)
	}
	facts, missing, err := gather(ctx, blobs, m.Layers)
	if err != nil {
		return Report{}, err
	}
	r := Judge(m, c, facts)
	for _, i := range missing {
		r.Verdict = Mismatch
		r.Findings = append(r.Findings, Finding{Reason: ReasonBlobUnknown, Layer: i, Digest: m.Layers[i].Digest,
			Message: fmt.Sprintf("layer %d of %d (%s) is not in the repository; push it before the manifest", i+1, len(m.Layers), m.Layers[i].Digest)})
	}
	return r, nil
}

// gather asks for the facts about all layers, once for each digest. missing
// are the layers that the repository should hold and does not.
func gather(ctx context.Context, blobs Blobs, layers []ocispec.Descriptor) (facts []*Fact, missing []int, err error) {
	type answer struct {
		fact *Fact
		gone bool
	}
	answers := map[digest.Digest]*answer{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64) // what runs at once is bounded by the source; this bounds goroutines
	for i, d := range layers {
		if answers[d.Digest] != nil || isEncrypted(d) {
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
	facts = make([]*Fact, len(layers))
	for i, d := range layers {
		a := answers[d.Digest]
		if a == nil {
			continue
		}
		facts[i] = a.fact
		if a.gone && !isForeign(d) {
			missing = append(missing, i)
		}
	}
	return facts, missing, nil
}

// configReport reports a config that cannot be read. Under a type that anybody
// may use for anything, bytes that are no config belong to no image.
func configReport(m Manifest, c Config, err error) (Report, error) {
	var claim *ClaimError
	if errors.As(err, &claim) && claim.Reason == ReasonConfigInvalid && !c.HasRootFS && slices.Contains(legacyConfigTypes, m.Config.MediaType) {
		return Judge(m, Config{}, make([]*Fact, len(m.Layers))), nil
	}
	return claimReport(m, err)
}

// claimReport reports a ClaimError, and passes other errors on.
func claimReport(m Manifest, err error) (Report, error) {
	var claim *ClaimError
	if !errors.As(err, &claim) {
		return Report{}, err
	}
	return finding(m, Finding{Reason: claim.Reason, Layer: -1, Digest: m.Config.Digest, Message: claim.Message}), nil
}

// finding returns the report on a manifest that never came to be compared.
func finding(m Manifest, f Finding) Report {
	v := Mismatch
	if f.Severity == Undecided {
		v = Unverifiable
	}
	return Report{Verdict: v, Config: m.Config.Digest, Findings: []Finding{f}}
}
