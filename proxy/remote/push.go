package remote

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// PushConfig uploads a blob that is small enough to be in memory, in one piece
// (OCI distribution specification, "POST then PUT").
func (r *Repository) PushConfig(ctx context.Context, dgst digest.Digest, body []byte) error {
	ctx = r.pushScope(ctx)
	res, err := r.c.do(ctx, http.MethodPost, "/v2/"+r.name+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusAccepted {
		return failure(res)
	}
	res.Body.Close()
	to, err := res.Request.URL.Parse(res.Header.Get("Location"))
	if err != nil {
		return fmt.Errorf("upload location: %w", err)
	}
	if to.Host != res.Request.URL.Host {
		return fmt.Errorf("the registry wants the upload at another host, %s, which is not followed", to.Host)
	}
	to.Scheme = res.Request.URL.Scheme // behind a proxy that ends TLS a registry may not know it
	q, err := url.ParseQuery(to.RawQuery)
	if err != nil {
		return fmt.Errorf("upload location %s: %w", to, err)
	}
	q.Set("digest", dgst.String())
	to.RawQuery = q.Encode()
	return r.put(ctx, to.String(), "application/octet-stream", body)
}

// PushManifest uploads a manifest under a tag. The registry has what it names.
func (r *Repository) PushManifest(ctx context.Context, tag, mediaType string, body []byte) error {
	return r.put(r.pushScope(ctx), r.c.base+"/v2/"+r.name+"/manifests/"+tag, mediaType, body)
}

func (r *Repository) put(ctx context.Context, url, mediaType string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := r.c.send(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated {
		return failure(res)
	}
	return res.Body.Close()
}

func (r *Repository) pushScope(ctx context.Context) context.Context {
	return auth.AppendScopesForHost(ctx, r.c.cfg.Host, auth.ScopeRepository(r.name, auth.ActionPull, auth.ActionPush))
}
