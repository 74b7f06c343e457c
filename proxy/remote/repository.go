package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"diffgate/verify"
)

// The largest documents that are read, which are what registries take.
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
)

// manifestTypes are what a manifest is asked for as. The last has registries give
// out what they hold, and not convert it.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "*/*",
}

// A Repository reads one repository of a registry. It is safe for concurrent
// use.
type Repository struct {
	c    *Client
	name string
}

var _ verify.Repository = (*Repository)(nil)

// Repository returns the repository with that name.
func (c *Client) Repository(name string) *Repository { return &Repository{c, name} }

// A Manifest is a manifest as the registry holds it.
type Manifest struct {
	Digest    digest.Digest // of Body
	MediaType string        // as served; of the body where the registry serves all as JSON
	Body      []byte
}

// A WrongBlobError says that the registry holds other bytes under a digest.
type WrongBlobError struct {
	Repository string
	Want, Got  digest.Digest
}

func (e *WrongBlobError) Error() string {
	return fmt.Sprintf("repository %s holds other bytes under %s: they have the digest %s; delete and push it again", e.Repository, e.Want, e.Got)
}

// Resolve reads the manifest that a tag or digest names. It returns
// [verify.ErrNotFound], [verify.ErrForbidden], a *WrongBlobError, or why it could
// not be read.
func (r *Repository) Resolve(ctx context.Context, reference string) (Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, docTimeout)
	defer cancel()
	res, err := r.do(ctx, http.MethodGet, "manifests/"+reference, http.Header{"Accept": manifestTypes})
	if err != nil {
		return Manifest{}, err
	}
	if res.StatusCode != http.StatusOK {
		return Manifest{}, failure(res)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxManifest+1))
	switch {
	case err != nil:
		return Manifest{}, err
	case len(body) > maxManifest:
		return Manifest{}, fmt.Errorf("the manifest is larger than %d bytes: %w", maxManifest, verify.ErrNoManifest)
	}
	m := Manifest{Digest: digest.FromBytes(body), MediaType: verify.MediaTypeOf(res.Header.Get("Content-Type"), body), Body: body}
	if want, err := digest.Parse(reference); err == nil {
		if got := want.Algorithm().FromBytes(body); got != want {
			return Manifest{}, &WrongBlobError{r.name, want, got}
		}
		m.Digest = want
	}
	return m, nil
}

// Head returns the digest that the registry says a tag has, or "" where it does
// not say. It returns the errors of Resolve.
func (r *Repository) Head(ctx context.Context, reference string) (digest.Digest, error) {
	res, err := r.do(ctx, http.MethodHead, "manifests/"+reference, http.Header{"Accept": manifestTypes})
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", failure(res)
	}
	dgst, err := digest.Parse(res.Header.Get("Docker-Content-Digest"))
	if err != nil {
		dgst = ""
	}
	return dgst, res.Body.Close()
}

// Manifest implements verify.Manifests.
func (r *Repository) Manifest(ctx context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error) {
	m, err := r.Resolve(ctx, desc.Digest.String())
	return m.MediaType, m.Body, noManifest(err)
}

// noManifest tells verify.Check of an answer that holds no manifest: an error of the
// registry itself, or other bytes. An error of what stands in front of the registry
// says nothing.
func noManifest(err error) error {
	var said *errcode.ErrorResponse
	var wrong *WrongBlobError
	switch {
	case errors.Is(err, verify.ErrNotFound), errors.Is(err, verify.ErrForbidden):
	case errors.As(err, &said) && said.StatusCode != http.StatusTooManyRequests && said.StatusCode <= http.StatusInternalServerError,
		errors.As(err, &wrong):
		return fmt.Errorf("%w: %w", verify.ErrNoManifest, err)
	}
	return err
}

// Judgement implements verify.Manifests. It knows none: what was judged is judged
// again.
func (r *Repository) Judgement(context.Context, digest.Digest) (verify.Judgement, error) {
	return verify.Judgement{}, verify.ErrUnknown
}

// Config implements verify.Blobs.
func (r *Repository) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	b, err := r.open(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b, maxConfig+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxConfig:
		return nil, verify.NewTooLargeError(maxConfig, data)
	}
	return data, b.check(digest.FromBytes(data))
}

// Known implements verify.Manifests.
func (r *Repository) Known(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	if r.c.cfg.Facts == nil {
		return verify.Fact{}, verify.ErrUnknown
	}
	return r.c.cfg.Facts.Get(ctx, dgst)
}

// Fact implements verify.Blobs. What is known already is not read, but the
// registry is asked whether it holds the blob.
func (r *Repository) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if r.c.cfg.Facts != nil {
		f, err := r.c.cfg.Facts.Get(ctx, desc.Digest)
		if err == nil {
			return f, r.has(ctx, desc.Digest)
		}
		if !errors.Is(err, verify.ErrUnknown) {
			return verify.Fact{}, fmt.Errorf("DiffID index: %w", err)
		}
	}
	b, err := r.layer(ctx, desc.Digest)
	if err != nil {
		return verify.Fact{}, err
	}
	defer b.Close()
	f, err := verify.Hash(b, r.c.cfg.Limits, verify.Scanned, time.Now())
	if err == nil {
		err = b.check(f.Digest)
	}
	if err != nil {
		return verify.Fact{}, err
	}
	if r.c.cfg.Facts != nil {
		if err := r.c.cfg.Facts.Put(ctx, f); err != nil {
			return verify.Fact{}, fmt.Errorf("DiffID index: %w", err)
		}
	}
	return f, nil
}

// Look implements verify.Blobs.
func (r *Repository) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	b, err := r.layer(ctx, desc.Digest)
	if err != nil {
		return verify.Look{}, err
	}
	defer b.Close()
	sum := sha256.New()
	l, err := verify.TakeLook(io.TeeReader(b, sum), r.c.cfg.Limits)
	if err == nil || errors.Is(err, verify.ErrUnknown) { // all was read
		if wrong := b.check(digest.NewDigest(digest.SHA256, sum)); wrong != nil {
			err = wrong
		}
	}
	return l, err
}

// has returns nil when the repository holds a blob.
func (r *Repository) has(ctx context.Context, dgst digest.Digest) error {
	res, err := r.do(ctx, http.MethodHead, "blobs/"+dgst.String(), nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return failure(res)
	}
	return res.Body.Close()
}

func (r *Repository) do(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	return r.c.do(r.c.pullScope(ctx, r.name), method, "/v2/"+r.name+"/"+path, header)
}
