package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxNesting  = 4   // image indexes in image indexes
	maxChildren = 500 // manifests under one image index, however nested
)

// An indexCheck judges the manifests that an image index names. Most were
// judged when they were pushed; those that went round the proxy, or that came
// before it, are judged now. An image index may name manifests that the
// repository does not hold (OCI distribution specification, "Pushing
// Manifests"): about those nothing is said.
type indexCheck struct {
	repo     Repository
	children int // so far
}

func (c *indexCheck) check(ctx context.Context, m Manifest, depth int) (Report, error) {
	if c.children += len(m.Manifests); depth > maxNesting || c.children > maxChildren {
		r := finding(m, Finding{Severity: Undecided, Reason: ReasonUnverifiable, Layer: -1,
			Message: fmt.Sprintf("unverifiable image index: more than %d manifests or %d image indexes deep are not looked at", maxChildren, maxNesting)})
		for _, d := range m.Manifests {
			r.Children = append(r.Children, ChildReport{Descriptor: d, Report: Report{Verdict: Unverified}})
		}
		return r, nil
	}
	r := Report{Verdict: NotAnImage}
	for i, d := range m.Manifests {
		child, err := c.child(ctx, d, depth)
		if err != nil {
			return Report{}, fmt.Errorf("read manifest %d of %d (%s): %w", i+1, len(m.Manifests), d.Digest, err)
		}
		r.Children = append(r.Children, child)
		r.Verdict = graver(r.Verdict, child.Report.Verdict)
		for _, f := range child.Report.Findings {
			if f.Manifest == "" {
				f.Manifest = d.Digest
			}
			f.Message = within(fmt.Sprintf("manifest %d of %d: ", i+1, len(m.Manifests)), f.Message)
			r.Findings = append(r.Findings, f)
		}
	}
	return r, nil
}

func (c *indexCheck) child(ctx context.Context, d ocispec.Descriptor, depth int) (ChildReport, error) {
	child := ChildReport{Descriptor: d}
	if j, err := c.repo.Judgement(ctx, d.Digest); err == nil && j.Valid(d.MediaType) {
		child.MediaType = j.MediaType
		child.Report = Report{Verdict: j.Verdict, Config: j.Config, Findings: j.Findings}
		return child, nil
	}
	mediaType, body, err := c.repo.Manifest(ctx, d)
	if errors.Is(err, ErrNotFound) {
		child.Report.Verdict = Unverified
		return child, nil
	}
	if err != nil {
		return child, err
	}
	child.MediaType = baseType(mediaType)
	m, err := ParseManifest(mediaType, body)
	switch {
	case err != nil:
		child.Report, err = claimReport(m, err)
	case KindOf(d.MediaType) != m.Kind:
		child.Report = finding(m, Finding{Reason: ReasonManifestAmbiguous, Layer: -1, Message: fmt.Sprintf(
			"the manifest is ambiguous: the image index says that it is %+q, and it is %q", clip(d.MediaType), child.MediaType)})
	case m.Kind == ImageKind:
		child.Report, err = checkImage(ctx, c.repo, m)
	case m.Kind == IndexKind:
		child.Report, err = c.check(ctx, m, depth+1)
	case m.Kind == Schema1Kind:
		child.Report = schema1(m)
	default:
		child.Report.Verdict = NotAnImage
	}
	return child, err
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
