package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxNesting  = 4      // image indexes in image indexes
	maxChildren = 500    // different manifests under one image index, however nested
	maxBeneath  = 50_000 // layers of all of them
)

// An indexCheck judges the manifests that an image index names. Most were
// judged when they were pushed; those that went round the proxy, or that came
// before it, are judged now. An image index may name manifests that the
// repository does not hold (OCI distribution specification, "Pushing
// Manifests"): about those nothing is said.
type indexCheck struct {
	repo   Repository
	judged map[digest.Digest]ChildReport // each manifest once, by its digest
	layers int                           // of them
	over   bool                          // a limit was met: nothing more is looked at
}

func (c *indexCheck) check(ctx context.Context, m Manifest, depth int) (Report, error) {
	r := Report{Verdict: NotAnImage}
	for i, d := range m.Manifests {
		child, err := c.once(ctx, d, depth)
		if err != nil {
			return Report{}, fmt.Errorf("read manifest %d of %d (%s): %w", i+1, len(m.Manifests), d.Digest, err)
		}
		r.Children = append(r.Children, child)
		r.Verdict = graver(r.Verdict, child.Verdict)
		for _, f := range child.Findings {
			if len(r.Findings) == maxChildren { // nobody reads more
				break
			}
			if f.Manifest == "" {
				f.Manifest = d.Digest
			}
			f.Message = within(fmt.Sprintf("manifest %d of %d: ", i+1, len(m.Manifests)), f.Message)
			r.Findings = append(r.Findings, f)
		}
	}
	if c.over && depth == 1 {
		r.Verdict = graver(r.Verdict, Unverifiable)
		r.Findings = append(r.Findings, Finding{Severity: Undecided, Reason: ReasonUnverifiable, Layer: -1, Message: fmt.Sprintf(
			"unverifiable image index: more than %d manifests, %d layers or %d image indexes deep are not looked at", maxChildren, maxBeneath, maxNesting)})
	}
	return r, nil
}

// once judges a manifest that may be named many times.
func (c *indexCheck) once(ctx context.Context, d ocispec.Descriptor, depth int) (ChildReport, error) {
	child, known := c.judged[d.Digest]
	if known && baseType(child.Descriptor.MediaType) == baseType(d.MediaType) {
		child.Descriptor = d // whose platform may be another
		return child, nil
	}
	if c.over = c.over || len(c.judged) == maxChildren || depth > maxNesting || c.layers > maxBeneath; c.over {
		return ChildReport{Descriptor: d, Verdict: Unverified}, nil
	}
	child, err := c.child(ctx, d, depth)
	c.judged[d.Digest] = child
	return child, err
}

func (c *indexCheck) child(ctx context.Context, d ocispec.Descriptor, depth int) (ChildReport, error) {
	child := ChildReport{Descriptor: d}
	j, err := c.repo.Judgement(ctx, d.Digest)
	if err == nil && j.Valid(d.MediaType) {
		child.MediaType, child.Verdict, child.Findings = j.MediaType, j.Verdict, j.Findings
		return child, nil
	}
	var mediaType string
	var body []byte
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrForbidden) {
		mediaType, body, err = c.repo.Manifest(ctx, d)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		child.Verdict = Unverified
		return child, nil
	case errors.Is(err, ErrForbidden):
		child.Verdict = Unverified
		child.Findings = []Finding{{Severity: Undecided, Reason: ReasonUnverifiable, Layer: -1, Message: "unverifiable manifest: it may not be read in your name"}}
		return child, nil
	case err != nil:
		return child, err
	}
	if KindOf(mediaType) == UnknownKind { // a registry that does not keep types
		mediaType = d.MediaType
	}
	child.MediaType = baseType(mediaType)
	r, err := c.report(ctx, d, mediaType, body, depth)
	child.Verdict, child.Findings = r.Verdict, gravest(r.Findings)
	if j, ok := r.Judgement(d.Digest, mediaType); ok {
		child.Judgement = &j
	}
	return child, err
}

func (c *indexCheck) report(ctx context.Context, d ocispec.Descriptor, mediaType string, body []byte, depth int) (Report, error) {
	m, err := ParseManifest(mediaType, body)
	c.layers += len(m.Layers)
	switch {
	case err != nil:
		return claimReport(m, err)
	case KindOf(d.MediaType) != m.Kind:
		return finding(m, Finding{Reason: ReasonManifestAmbiguous, Layer: -1, Message: fmt.Sprintf(
			"the manifest is ambiguous: the image index says that it is %+q, and it is %q", clip(d.MediaType), baseType(mediaType))}), nil
	case m.Kind == ImageKind:
		return checkImage(ctx, c.repo, m)
	case m.Kind == IndexKind:
		return c.check(ctx, m, depth+1)
	case m.Kind == Schema1Kind:
		return schema1(m), nil
	}
	return Report{Verdict: NotAnImage}, nil
}

// graver returns the graver verdict.
func graver(a, b Verdict) Verdict {
	for _, v := range []Verdict{Mismatch, Unverified, Unverifiable, Match} {
		if a == v || b == v {
			return v
		}
	}
	return a
}

// maxMessage is the length in bytes that no message exceeds.
const maxMessage = 300

// within says where a message is from. If there is no room for both, it leaves
// out what the message has in brackets at its end.
func within(where, message string) string {
	if end := strings.LastIndex(message, " ("); end > 0 && len(where)+len(message) > maxMessage {
		message = message[:end]
	}
	s := where + message
	return s[:min(len(s), maxMessage)]
}
