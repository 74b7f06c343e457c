package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// A repository reads blobs of one repository in a client's name.
type repository struct {
	p      *Proxy
	caller caller
	name   string
}

func (x *exchange) repository() repository { return repository{x.p, x.caller(), x.rt.name} }

// Config implements verify.Blobs.
func (r repository) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	data, err := r.p.upstream.config(ctx, r.caller, r.name, desc)
	r.p.ledger.seen(ctx, desc.Digest, err)
	return data, err
}

// held returns nil unless the registry neither holds a layer nor will look for
// it: one that may come from elsewhere it takes on trust. What is known of its
// digest may then be the secret of another repository.
func (r repository) held(ctx context.Context, desc ocispec.Descriptor) error {
	if len(desc.URLs) == 0 && !verify.IsForeign(desc) {
		return nil
	}
	return r.p.upstream.has(ctx, r.caller, r.name, desc.Digest)
}

// Manifest implements verify.Manifests.
func (r repository) Manifest(ctx context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error) {
	m, err := r.manifest(ctx, desc.Digest.String())
	return m.contentType, m.body, noManifest(err)
}

// noManifest tells verify.Check of an answer of the registry that holds no manifest.
// registry:2, for one, answers 500 when it is asked for a layer as a manifest.
func noManifest(err error) error {
	var answered *answeredError
	var wrong *wrongBlobError
	switch {
	case errors.As(err, &answered) && !answered.passing(), errors.As(err, &wrong), errors.Is(err, errLargeManifest):
		return fmt.Errorf("%w: %w", verify.ErrNoManifest, err)
	}
	return err
}

// Known implements verify.Manifests.
func (r repository) Known(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	return r.p.cfg.Index.Get(ctx, dgst)
}

// manifest reads a manifest from the registry.
func (r repository) manifest(ctx context.Context, ref string) (manifest, error) {
	res, err := r.p.upstream.do(ctx, r.caller, http.MethodGet, r.manifestPath(ref), "", manifestTypes...)
	if err != nil {
		return manifest{}, err
	}
	if res, err = r.p.upstream.follow(ctx, res, nil); err != nil {
		return manifest{}, err
	}
	if res.StatusCode != http.StatusOK {
		return manifest{}, answerError(res)
	}
	defer res.Body.Close()
	body, err := r.p.readManifestBody(res.Body)
	if err != nil {
		return manifest{}, err
	}
	m := manifest{digest: digest.FromBytes(body), contentType: typeOf(res, body), body: body}
	if want, err := digest.Parse(ref); err == nil {
		if err := checkManifest(r.name, want, m.body); err != nil {
			return manifest{}, err
		}
		m.digest = want
	}
	return m, nil
}

// checkManifest returns a *wrongBlobError when the bytes that the registry served are
// not the manifest with the digest that it was asked for.
func checkManifest(repo string, want digest.Digest, body []byte) error {
	if got := want.Algorithm().FromBytes(body); got != want {
		return &wrongBlobError{repo, want, got, false}
	}
	return nil
}

// readManifestBody reads a manifest that the upstream sends.
func (p *Proxy) readManifestBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, p.cfg.MaxManifest+1))
	if err == nil && int64(len(body)) > p.cfg.MaxManifest {
		err = errUnavailable(http.StatusBadGateway, "the manifest is larger than limits.manifest", errLargeManifest)
	}
	return body, err
}

// errLargeManifest is the cause of the error for a manifest over the limit.
var errLargeManifest = errors.New("larger than limits.manifest")

// holds returns nil when the caller can read the manifest here.
func (r repository) holds(ctx context.Context, manifest digest.Digest) error {
	res, err := r.p.upstream.do(ctx, r.caller, http.MethodHead, r.manifestPath(manifest.String()), "", manifestTypes...)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return answerError(res)
	}
	drain(res)
	return nil
}

func (r repository) manifestPath(ref string) string { return "/v2/" + r.name + "/manifests/" + ref }

// Judgement implements verify.Manifests. What was found elsewhere is told only
// of manifests that are here too.
func (r repository) Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error) {
	j, err := r.p.cfg.Index.Judgement(ctx, manifest)
	if err == nil {
		err = r.holds(ctx, manifest)
	}
	return j, err
}

// pushed is the repository that a manifest is being pushed to: what passed a
// moment ago need not be fetched, and what is unknown is hashed. It may tell
// of blobs that the caller cannot read.
type pushed struct{ repository }

// Config implements verify.Blobs.
func (r pushed) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if data := r.p.small.get(desc.Digest); data != nil {
		return data, nil
	}
	data, err := r.repository.Config(ctx, desc)
	if err == nil && len(data) <= smallBlobMax && desc.Digest.Algorithm() == digest.SHA256 {
		r.p.small.add(desc.Digest, data)
	}
	return data, err
}

// Fact implements verify.Blobs.
func (r pushed) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.held(ctx, desc); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}

func (r pushed) fact(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	return r.p.ledger.fact(ctx, dgst, func(ctx context.Context, slow bool) (verify.Fact, error) { return r.hash(ctx, dgst, slow) })
}

// hash fetches a blob and returns the fact about it. A blob that is slow to decode
// is given up unless slow is set: then the caller has taken the slow lane.
func (r repository) hash(ctx context.Context, dgst digest.Digest, slow bool) (verify.Fact, error) {
	fact, err := r.p.upstream.hash(ctx, r.caller, r.name, dgst, slow)
	r.p.ledger.seen(ctx, dgst, err)
	return fact, err
}

// Look implements verify.Blobs. A look is not worth outliving its request.
func (r pushed) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	if look, ok := r.p.looks.Get(desc.Digest); ok {
		return look, nil
	}
	release, err := r.p.ledger.slot(ctx)
	if err != nil {
		return verify.Look{}, err
	}
	defer release()
	look, err := r.p.upstream.look(ctx, r.caller, r.name, desc.Digest)
	r.p.ledger.seen(ctx, desc.Digest, err)
	if err == nil {
		r.p.looks.Add(desc.Digest, look)
	}
	return look, err
}

// readable is a pushed that tells of nothing which the caller cannot read. A
// refusal is worded by it: otherwise a manifest with guesses in it would make
// the DiffID index an oracle for blobs of other repositories.
type readable struct{ pushed }

// Config implements verify.Blobs.
func (r readable) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return nil, err
	}
	return r.pushed.Config(ctx, desc)
}

// Fact implements verify.Blobs.
func (r readable) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}

// Look implements verify.Blobs.
func (r readable) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return verify.Look{}, err
	}
	return r.pushed.Look(ctx, desc)
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

// Look implements verify.Blobs.
func (s stored) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	if s.fetch {
		return pushed{s.repository}.Look(ctx, desc)
	}
	if look, ok := s.p.looks.Get(desc.Digest); ok {
		return look, s.held(ctx, desc)
	}
	return verify.Look{}, verify.ErrUnknown
}
