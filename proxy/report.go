package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// An imageReport is an answer of /v2/<name>/_diffids/manifests/<reference>.
type imageReport struct {
	Name      string         `json:"name"`
	Reference string         `json:"reference"`
	Digest    digest.Digest  `json:"digest"`
	MediaType string         `json:"media_type"`
	Config    digest.Digest  `json:"config,omitempty"`
	Platform  string         `json:"platform,omitempty"`
	Verdict   verify.Verdict `json:"verdict"`
	Message   string         `json:"message,omitempty"`
	Warnings  []string       `json:"warnings,omitempty"`
	Findings  []found        `json:"findings,omitempty"` // the message and the warnings, for programs
	Layers    []layerReport  `json:"layers,omitempty"`
	Manifests []childReport  `json:"manifests,omitempty"` // of an image index
}

// A found is a finding with its sentence.
type found struct {
	finding
	Message string `json:"message"`
}

type layerReport struct {
	Index        int           `json:"index"`
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"media_type"`
	Size         int64         `json:"size"`
	UnpackedSize *int64        `json:"unpacked_size,omitempty"`
	Encoding     string        `json:"encoding,omitempty"`
	ConfigDiffID string        `json:"config_diff_id,omitempty"`
	DiffID       verify.DiffID `json:"diff_id,omitempty"`
	ChainID      digest.Digest `json:"chain_id,omitempty"`
	TOC          string        `json:"toc_digest,omitempty"` // claimed; lazy pullers trust it instead
	Status       verify.Status `json:"status"`
}

type childReport struct {
	Digest   digest.Digest  `json:"digest"`
	Platform string         `json:"platform,omitempty"`
	Verdict  verify.Verdict `json:"verdict"`
}

func newImageReport(name, reference string, m manifest, r verify.Report, policy verify.Policy) imageReport {
	out := imageReport{Name: name, Reference: reference, Digest: m.digest, MediaType: m.contentType,
		Config: r.Config, Platform: platform(&r.Platform), Verdict: r.Verdict}
	if bad := policy.Rejections(r.Findings); len(bad) > 0 {
		out.Message = bad[0].Message
	}
	for _, f := range policy.Warnings(r.Findings) {
		out.Warnings = append(out.Warnings, f.Message)
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, found{newFinding(f), f.Message})
	}
	for i, l := range r.Layers {
		out.Layers = append(out.Layers, newLayerReport(i, l))
	}
	for _, c := range r.Children {
		out.Manifests = append(out.Manifests, childReport{Digest: c.Descriptor.Digest, Platform: platform(c.Descriptor.Platform), Verdict: c.Verdict})
	}
	return out
}

func newLayerReport(i int, l verify.LayerReport) layerReport {
	lr := layerReport{Index: i, Digest: l.Descriptor.Digest, MediaType: l.Descriptor.MediaType, Size: l.Descriptor.Size,
		ConfigDiffID: l.Claimed, DiffID: l.DiffID, ChainID: l.ChainID, TOC: l.TOC, Status: l.Status}
	if l.Fact != nil {
		lr.Encoding = l.Fact.Encoding.String()
		if l.Fact.Problem == verify.None {
			lr.UnpackedSize = &l.Fact.UnpackedSize
		}
	}
	return lr
}

func platform(p *ocispec.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// getReport answers GET /v2/<name>/_diffids/manifests/<reference>. Who may
// read the manifest may have the report.
func getReport(x *exchange) error {
	return own(func(*exchange) error { return nil }, (*exchange).report)(x)
}

func (x *exchange) report() error {
	t, err := negotiate(x.r, typeJSON, typeV1)
	if err != nil {
		return err
	}
	repo := stored{repository: x.repository(), fetch: x.fetchWanted()}
	ctx := x.r.Context()
	m, err := repo.manifest(ctx, x.rt.reference)
	if errors.Is(err, verify.ErrNotFound) {
		return x.refusedReport(t)
	}
	if err != nil {
		return err
	}
	out, err := x.reportOn(ctx, repo, m, x.r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	x.verdict = out.Verdict
	x.sendETagged(t, "private, no-cache", encodeJSON(out))
	return nil
}

// mayKnow asks the upstream whether the caller may have the report on a manifest
// that it does not have: its config, and the manifests that a finding is about,
// are what he must be able to read.
func (x *exchange) mayKnow(r verify.Report) error {
	ctx, repo := x.r.Context(), x.repository()
	if r.Config != "" {
		return x.p.upstream.has(ctx, repo.caller, repo.name, r.Config)
	}
	asked := map[digest.Digest]bool{"": true}
	for _, f := range r.Findings {
		if !asked[f.Manifest] {
			asked[f.Manifest] = true
			if err := repo.holds(ctx, f.Manifest); err != nil {
				return err
			}
		}
	}
	return nil
}

func unknownManifest() error {
	e := errRefused(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "no such manifest in the repository, nor one refused lately")
	e.header = http.Header{"Cache-Control": {"no-store"}}
	return e
}

// refusedReport answers for a manifest that the gate refused and the registry
// therefore does not have.
func (x *exchange) refusedReport(contentType string) error {
	dgst, err := digest.Parse(x.rt.reference)
	if err != nil {
		return unknownManifest()
	}
	old, ok := x.p.refused.Get(refusalKey{x.rt.name, dgst})
	if !ok {
		return unknownManifest()
	}
	err = x.mayKnow(old.report)
	switch {
	case errors.Is(err, verify.ErrNotFound):
		return unknownManifest()
	case err != nil:
		return err
	}
	out := newImageReport(x.rt.name, x.rt.reference, manifest{digest: dgst, contentType: old.contentType}, old.report, x.p.cfg.Policy)
	x.verdict = out.Verdict
	x.sendETagged(contentType, "private, no-cache", encodeJSON(out))
	return nil
}

// reportOn judges a manifest, or of an image index the child for the platform
// wanted.
func (x *exchange) reportOn(ctx context.Context, repo stored, m manifest, wanted string) (imageReport, error) {
	parsed, err := verify.ParseManifest(m.contentType, m.body)
	if err == nil && parsed.Kind == verify.IndexKind && wanted != "" {
		if m, err = repo.forPlatform(ctx, parsed, wanted); err != nil {
			return imageReport{}, err
		}
	}
	r, err := verify.Check(ctx, repo, m.contentType, m.body)
	if err != nil {
		return imageReport{}, err
	}
	return newImageReport(x.rt.name, x.rt.reference, m, x.withTwin(ctx, m, r), x.p.cfg.Policy), nil
}

// forPlatform returns the child of an image index for a platform.
func (s stored) forPlatform(ctx context.Context, index verify.Manifest, wanted string) (manifest, error) {
	for _, d := range index.Manifests {
		if p := platform(d.Platform); p == wanted || strings.HasPrefix(p, wanted+"/") {
			m, err := s.manifest(ctx, d.Digest.String())
			if errors.Is(err, verify.ErrNotFound) {
				err = unknownManifest()
			}
			return m, err
		}
	}
	return manifest{}, errRefused(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "the image index has no image for %s", printable(wanted))
}
