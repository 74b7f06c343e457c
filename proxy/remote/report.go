package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"

	"diffgate/proxy/api"
	"diffgate/verify"
)

// ErrNoAPI is returned where no Diffgate stands in front of the registry.
var ErrNoAPI = errors.New("the registry does not answer /v2/_diffids: no Diffgate stands in front of it")

// maxAnswer bounds an answer of the API. A report on an image of 1,000 layers is
// under 1 MiB.
const maxAnswer = 32 << 20

// Report asks the Diffgate in front of the registry for its report on a
// manifest; with fetch it hashes first what it does not know, which takes as long
// as that takes. It returns [ErrNoAPI] where there is none, and
// [verify.ErrNotFound] when it has no such manifest.
func (r *Repository) Report(ctx context.Context, reference string, fetch bool) (api.Report, error) {
	if err := r.c.hasAPI(ctx); err != nil {
		return api.Report{}, err
	}
	path := "/v2/" + r.name + "/_diffids/manifests/" + reference
	if fetch {
		path += "?fetch=true"
	}
	var out api.Report
	err := r.c.askWithin(r.c.pullScope(ctx, r.name), fetchTimeout, path, &out)
	if err == nil && out.Verdict == "" {
		return out, ErrNoAPI
	}
	return out, err
}

// hasAPI returns nil when the registry has the extension, else ErrNoAPI.
func (c *Client) hasAPI(ctx context.Context) error {
	var said struct{ Extensions []struct{ Name string } }
	err := c.ask(ctx, "/v2/_oci/ext/discover", &said)
	switch {
	case errors.Is(err, verify.ErrNotFound):
		return ErrNoAPI
	case err != nil:
		return err
	}
	for _, e := range said.Extensions {
		if e.Name == "_diffids" {
			return nil
		}
	}
	return ErrNoAPI
}

// maxLookup is how many digests one request asks for.
const maxLookup = 100

// Records asks the Diffgate in front of the registry for what it knows of blobs,
// at most 100 at once. The caller needs the right to list the catalog.
func (c *Client) Records(ctx context.Context, digests ...digest.Digest) (api.Page, error) {
	return c.query(ctx, "digest", digests)
}

// RecordsOf is Records for the blobs that unpack to a DiffID.
func (c *Client) RecordsOf(ctx context.Context, diffIDs ...digest.Digest) (api.Page, error) {
	return c.query(ctx, "diff_id", diffIDs)
}

func (c *Client) query(ctx context.Context, key string, digests []digest.Digest) (api.Page, error) {
	if len(digests) > maxLookup {
		return api.Page{}, fmt.Errorf("%d digests, and at most %d at once", len(digests), maxLookup)
	}
	q := url.Values{}
	for _, d := range digests {
		q.Add(key, d.String())
	}
	return c.records(ctx, q)
}

// RecordsAfter returns up to n records that follow a digest, or any string, in
// the order of digests.
func (c *Client) RecordsAfter(ctx context.Context, after string, n int) (api.Page, error) {
	return c.records(ctx, url.Values{"n": {strconv.Itoa(n)}, "last": {after}})
}

func (c *Client) records(ctx context.Context, q url.Values) (api.Page, error) {
	ctx = auth.AppendScopesForHost(ctx, c.cfg.Host, auth.ScopeRegistryCatalog)
	var page api.Page
	err := c.ask(ctx, "/v2/_diffids?"+q.Encode(), &page)
	if errors.Is(err, verify.ErrNotFound) || err == nil && page.DiffIDs == nil {
		err = ErrNoAPI
	}
	return page, err
}

// ask reads a JSON answer.
func (c *Client) ask(ctx context.Context, path string, into any) error {
	return c.askWithin(ctx, docTimeout, path, into)
}

func (c *Client) askWithin(ctx context.Context, within time.Duration, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, path, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return failure(res)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}
