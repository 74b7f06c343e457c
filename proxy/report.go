package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
)

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
	out := x.newReport(manifest{digest: dgst, contentType: old.contentType}, old.report)
	x.verdict = out.Verdict
	x.sendETagged(contentType, "private, no-cache", encodeJSON(out))
	return nil
}

// reportOn judges a manifest, or of an image index the child for the platform
// wanted.
func (x *exchange) reportOn(ctx context.Context, repo stored, m manifest, wanted string) (api.Report, error) {
	parsed, err := verify.ParseManifest(m.contentType, m.body)
	if err == nil && parsed.Kind == verify.IndexKind && wanted != "" {
		if m, err = repo.forPlatform(ctx, parsed, wanted); err != nil {
			return api.Report{}, err
		}
	}
	r, err := verify.Check(ctx, repo, m.contentType, m.body)
	if err != nil {
		return api.Report{}, err
	}
	return x.newReport(m, x.withTwin(ctx, m, r)), nil
}

func (x *exchange) newReport(m manifest, r verify.Report) api.Report {
	return api.NewReport(api.Subject{Name: x.rt.name, Reference: x.rt.reference, Digest: m.digest, MediaType: m.contentType}, r, x.p.cfg.Policy)
}

// forPlatform returns the child of an image index for a platform.
func (s stored) forPlatform(ctx context.Context, index verify.Manifest, wanted string) (manifest, error) {
	for _, d := range index.Manifests {
		if p := api.Platform(d.Platform); p == wanted || strings.HasPrefix(p, wanted+"/") {
			m, err := s.manifest(ctx, d.Digest.String())
			if errors.Is(err, verify.ErrNotFound) {
				err = unknownManifest()
			}
			return m, err
		}
	}
	return manifest{}, errRefused(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "the image index has no image for %s", printable(wanted))
}
