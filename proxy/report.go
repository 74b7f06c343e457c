package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	Layers    []layerReport  `json:"layers,omitempty"`
	Manifests []childReport  `json:"manifests,omitempty"` // of an image index
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
	for i, l := range r.Layers {
		lr := layerReport{Index: i, Digest: l.Descriptor.Digest, MediaType: l.Descriptor.MediaType, Size: l.Descriptor.Size,
			ConfigDiffID: l.Claimed, DiffID: l.DiffID, ChainID: l.ChainID, Status: l.Status}
		if l.Fact != nil {
			lr.Encoding = l.Fact.Encoding.String()
			if l.Fact.Problem == verify.None {
				lr.UnpackedSize = &l.Fact.UnpackedSize
			}
		}
		out.Layers = append(out.Layers, lr)
	}
	return out
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
	out, err := repo.report(ctx, m, x.rt.reference, x.r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	x.verdict = out.Verdict
	x.sendETagged(t, "private, no-cache", encodeJSON(out))
	return nil
}

func unknownManifest() error {
	e := errRefused(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "no such manifest in the repository, nor one refused lately")
	e.header = http.Header{"Cache-Control": {"no-store"}}
	return e
}

// refusedReport answers for a manifest that the gate refused and the registry
// therefore does not have. Who may read its config may know; when it names
// none, nothing is told but what the manifest itself says.
func (x *exchange) refusedReport(contentType string) error {
	dgst, err := digest.Parse(x.rt.reference)
	if err != nil {
		return unknownManifest()
	}
	old, ok := x.p.refused.get(x.rt.name, dgst)
	if !ok {
		return unknownManifest()
	}
	if old.report.Config != "" {
		err = x.p.upstream.has(x.r.Context(), x.caller(), x.rt.name, old.report.Config)
	}
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

// A manifest is one that the registry holds.
type manifest struct {
	digest      digest.Digest
	contentType string
	body        []byte
}

// manifestTypes are accepted of the upstream, which gives out OCI manifests
// only to those who name the type.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "*/*",
}

// stored is a repository that is being asked about: what is unknown stays
// unknown unless the caller wants it hashed.
type stored struct {
	repository
	fetch bool
}

// Fact implements verify.Blobs.
func (s stored) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if s.fetch {
		return pushed{s.repository}.Fact(ctx, desc)
	}
	f, ok := s.p.ledger.known(ctx, desc.Digest)
	if !ok {
		return verify.Fact{}, verify.ErrUnknown
	}
	return f, s.held(ctx, desc)
}

// manifest reads a manifest from the registry.
func (s stored) manifest(ctx context.Context, ref string) (manifest, error) {
	res, err := s.p.upstream.do(ctx, s.caller, http.MethodGet, "/v2/"+s.name+"/manifests/"+ref, "", manifestTypes...)
	if err != nil {
		return manifest{}, err
	}
	if res.StatusCode != http.StatusOK {
		return manifest{}, answerError(res)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, s.p.cfg.MaxManifest+1))
	if err != nil {
		return manifest{}, err
	}
	if int64(len(body)) > s.p.cfg.MaxManifest {
		return manifest{}, errUnavailable(http.StatusBadGateway, "the manifest is larger than limits.manifest", nil)
	}
	m := manifest{digest: digest.FromBytes(body), contentType: res.Header.Get("Content-Type"), body: body}
	if want, err := digest.Parse(ref); err == nil {
		if got := want.Algorithm().FromBytes(body); got != want {
			return manifest{}, &wrongBlobError{s.name, want, got}
		}
		m.digest = want
	}
	return m, nil
}

// report judges a manifest. Of an image index, it judges the child for the
// platform wanted, or else all children.
func (s stored) report(ctx context.Context, m manifest, ref, wanted string) (imageReport, error) {
	parsed, err := verify.ParseManifest(m.contentType, m.body)
	if err != nil || parsed.Kind != verify.IndexKind {
		r, err := verify.Check(ctx, s, m.contentType, m.body)
		return newImageReport(s.name, ref, m, r, s.p.cfg.Policy), err
	}
	if wanted != "" {
		for _, d := range parsed.Manifests {
			if p := platform(d.Platform); p == wanted || strings.HasPrefix(p, wanted+"/") {
				child, err := s.manifest(ctx, d.Digest.String())
				if errors.Is(err, verify.ErrNotFound) {
					return imageReport{}, unknownManifest()
				}
				if err != nil {
					return imageReport{}, err
				}
				return s.report(ctx, child, ref, "")
			}
		}
		return imageReport{}, errRefused(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "the image index has no image for %s", printable(wanted))
	}
	out := imageReport{Name: s.name, Reference: ref, Digest: m.digest, MediaType: m.contentType, Verdict: verify.NotAnImage}
	for i, d := range parsed.Manifests {
		c := childReport{Digest: d.Digest, Platform: platform(d.Platform), Verdict: verify.Unverified}
		if i < maxBatch { // of more children only the digests are told
			if c.Verdict, err = s.child(ctx, d.Digest); err != nil {
				return imageReport{}, fmt.Errorf("manifest %d of %d: %w", i+1, len(parsed.Manifests), err)
			}
		}
		out.Manifests = append(out.Manifests, c)
		out.Verdict = worse(out.Verdict, c.Verdict)
	}
	return out, nil
}

// child judges one image of an image index. An index may be sparse: a child
// that the registry does not hold is unverified.
func (s stored) child(ctx context.Context, dgst digest.Digest) (verify.Verdict, error) {
	m, err := s.manifest(ctx, dgst.String())
	if errors.Is(err, verify.ErrNotFound) {
		return verify.Unverified, nil
	}
	if err != nil {
		return "", err
	}
	r, err := verify.Check(ctx, s, m.contentType, m.body)
	return r.Verdict, err
}

// worse returns the graver verdict.
func worse(a, b verify.Verdict) verify.Verdict {
	for _, v := range []verify.Verdict{verify.Mismatch, verify.Unverified, verify.Unverifiable, verify.Match} {
		if a == v || b == v {
			return v
		}
	}
	return a
}
