package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	judged map[childKey]ChildReport // each manifest once
	layers int                      // of them
	over   bool                     // a limit was met: nothing more is looked at
}

func (c *indexCheck) check(ctx context.Context, m Manifest, depth int) (Report, error) {
	r := Report{Verdict: NotAnImage}
	var unread error
	for i, d := range m.Manifests {
		child, err := c.once(ctx, d, depth)
		if err != nil {
			err = fmt.Errorf("read manifest %d of %d (%s): %w", i+1, len(m.Manifests), d.Digest, err)
			if errors.Is(err, ErrForbidden) || ctx.Err() != nil {
				return Report{}, err
			}
			unread = cmp.Or(unread, err) // another child may decide
			child = ChildReport{Descriptor: d, Verdict: Unverified}
		}
		r.Children = append(r.Children, child)
		r.Verdict = graver(r.Verdict, child.Verdict)
		where := fmt.Sprintf("manifest %d of %d: ", i+1, len(m.Manifests))
		for _, f := range append(slices.Clip(child.Findings), platformMismatch(d, child)...) {
			if len(r.Findings) == maxChildren { // more would not be read
				break
			}
			if f.Manifest == "" {
				f.Manifest = d.Digest
			}
			f.Message = within(where, f.Message)
			r.Findings = append(r.Findings, f)
		}
	}
	if c.over && depth == 1 {
		r.Verdict = graver(r.Verdict, Unverifiable)
		r.Findings = append(r.Findings, Finding{Severity: Undecided, Reason: ReasonOverLimit, Layer: -1, Message: fmt.Sprintf(
			"over limit: more than %d manifests, %d layers or %d image indexes deep are not judged", maxChildren, maxBeneath, maxNesting)})
	}
	if unread != nil && r.Verdict != Mismatch {
		return Report{}, unread
	}
	return r, nil
}

// platformMismatch warns when the image index says another platform than the
// image's own config does. Variants do not count, and "unknown" is no platform.
func platformMismatch(d ocispec.Descriptor, child ChildReport) []Finding {
	if d.Platform == nil || child.Platform == "" || child.Verdict == NotAnImage || d.Platform.OS == "unknown" {
		return nil
	}
	says := d.Platform.OS + "/" + d.Platform.Architecture
	if d.Platform.OS == "" || d.Platform.Architecture == "" || says == child.Platform {
		return nil
	}
	return []Finding{{Severity: Portable, Reason: ReasonPlatformMismatch, Layer: -1, Message: fmt.Sprintf(
		"platform mismatch: the image index says %+q and the config says %q; a machine that chooses the image by its platform cannot run it", clip(says), child.Platform)}}
}

// once judges a manifest that may be named many times.
func (c *indexCheck) once(ctx context.Context, d ocispec.Descriptor, depth int) (ChildReport, error) {
	if KindOf(d.MediaType) == UnknownKind && c.cannotBeManifest(ctx, d) {
		return ChildReport{Descriptor: d, Verdict: NotAnImage}, nil
	}
	// What an image index calls a manifest, and what not, decides what is asked and
	// said; which of the other types it has does not.
	key := childKey{d.Digest, KindOf(d.MediaType)}
	if child, known := c.judged[key]; known {
		child.Descriptor = d // whose platform may be another
		return child, nil
	}
	if c.over = c.over || len(c.judged) == maxChildren || depth > maxNesting || c.layers > maxBeneath; c.over {
		return ChildReport{Descriptor: d, Verdict: Unverified}, nil
	}
	child, err := c.child(ctx, d, depth)
	c.judged[key] = child
	return child, err
}

// A childKey tells a manifest that an image index names from all others.
type childKey struct {
	digest digest.Digest
	kind   Kind
}

func (c *indexCheck) child(ctx context.Context, d ocispec.Descriptor, depth int) (ChildReport, error) {
	child := ChildReport{Descriptor: d}
	typed := KindOf(d.MediaType) != UnknownKind
	if j, err := c.repo.Judgement(ctx, d.Digest); err == nil && j.Valid(d.MediaType) {
		child.MediaType, child.Platform, child.Verdict, child.Findings = j.MediaType, j.Platform, j.Verdict, j.Findings
		return child, nil
	}
	mediaType, body, err := c.read(ctx, d)
	switch {
	case errors.Is(err, ErrNotFound):
		child.Verdict = Unverified
		if !typed {
			child.Verdict = NotAnImage
		}
		return child, nil
	case errors.Is(err, ErrForbidden): // it is in the repository already: judged when it was pushed
		child.Verdict = Unverified
		child.Findings = []Finding{{Severity: Notice, Reason: ReasonUnverifiable, Layer: -1, Message: "unverifiable manifest: it may not be read in your name"}}
		return child, nil
	case errors.Is(err, ErrNoManifest) && !typed:
		child.Verdict = NotAnImage
		return child, nil
	case err != nil:
		return child, err
	}
	mediaType = manifestType(mediaType, d.MediaType, body)
	child.MediaType = baseType(mediaType)
	r, err := c.report(ctx, d, mediaType, body, depth)
	child.Platform, child.Verdict, child.Findings = r.platform(), r.Verdict, gravest(r.Findings)
	if j, ok := r.Judgement(d.Digest, mediaType); ok {
		child.Judgement = &j
	}
	return child, err
}

// cannotBeManifest reports whether a digest is known to be that of a compressed blob,
// which is no JSON. Such a descriptor, as BuildKit's cache and Flatpak have them, is no
// child. Any other may be a manifest, whatever its media type says: podman pulls an
// image through an image index that calls it a layer, and registry:2 serves a blob as a
// manifest.
func (c *indexCheck) cannotBeManifest(ctx context.Context, d ocispec.Descriptor) bool {
	f, err := c.repo.Known(ctx, d.Digest)
	return err == nil && f.Encoding != Identity
}

// read returns a manifest and the media type that it is served with. One that stands
// in the descriptor is served as the descriptor says.
func (c *indexCheck) read(ctx context.Context, d ocispec.Descriptor) (mediaType string, body []byte, err error) {
	if d.Data != nil {
		return d.MediaType, d.Data, nil
	}
	return c.repo.Manifest(ctx, d)
}

func (c *indexCheck) report(ctx context.Context, d ocispec.Descriptor, mediaType string, body []byte, depth int) (Report, error) {
	m, err := ParseManifest(mediaType, body)
	c.layers += len(m.Layers)
	switch kind := KindOf(d.MediaType); {
	case err != nil:
		return claimReport(m, err)
	case kind != UnknownKind && kind != m.Kind:
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
