package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	maxPage  = 8 << 20 // bytes of a page of a list
	maxPages = 100_000 // of one list, so that a registry cannot keep us for ever
	pageSize = "500"
)

// Repositories returns the names in the registry's catalog, a page at a time. It
// ends with an error when a page cannot be read.
func (c *Client) Repositories(ctx context.Context) iter.Seq2[string, error] {
	ctx = auth.AppendScopesForHost(ctx, c.cfg.Host, auth.ScopeRegistryCatalog)
	return c.list(ctx, "/v2/_catalog", func(body []byte) ([]string, error) {
		var page struct{ Repositories []string }
		err := json.Unmarshal(body, &page)
		return page.Repositories, err
	})
}

// Tags returns the tags of a repository as Repositories does.
func (c *Client) Tags(ctx context.Context, repo string) iter.Seq2[string, error] {
	ctx = c.pullScope(ctx, repo)
	return c.list(ctx, "/v2/"+repo+"/tags/list", func(body []byte) ([]string, error) {
		var page struct{ Tags []string }
		err := json.Unmarshal(body, &page)
		return page.Tags, err
	})
}

func (c *Client) pullScope(ctx context.Context, repo string) context.Context {
	return auth.AppendScopesForHost(ctx, c.cfg.Host, auth.ScopeRepository(repo, auth.ActionPull))
}

// list walks the pages of a list. parse returns the names on one.
func (c *Client) list(ctx context.Context, path string, parse func(body []byte) ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		next := path + "?n=" + pageSize
		for i := range maxPages {
			names, more, err := c.page(ctx, next, parse)
			if said := (*errcode.ErrorResponse)(nil); i == 0 && errors.As(err, &said) && said.StatusCode == http.StatusBadRequest {
				names, more, err = c.page(ctx, path, parse) // distribution refuses pages larger than its own
			}
			if err != nil {
				yield("", fmt.Errorf("list %s: %w", path, err))
				return
			}
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if more == "" || more == next {
				return
			}
			next = more
		}
		yield("", fmt.Errorf("list %s: more than %d pages", path, maxPages))
	}
}

func (c *Client) page(ctx context.Context, path string, parse func([]byte) ([]string, error)) (names []string, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, docTimeout)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, "", err
	}
	if res.StatusCode != http.StatusOK {
		return nil, "", failure(res)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage+1))
	switch {
	case err != nil:
		return nil, "", err
	case len(body) > maxPage:
		return nil, "", fmt.Errorf("a page of more than %d bytes", maxPage)
	}
	if names, err = parse(body); err != nil {
		return nil, "", fmt.Errorf("not a page of the list: %w", err)
	}
	next, err = nextPage(res)
	return names, next, err
}

// nextPage returns the path and query of the next page, which is in the Link
// header (RFC 8288; OCI distribution specification, "Listing Tags"). A link to
// another host is not followed: credentials would go there.
func nextPage(res *http.Response) (string, error) {
	link := res.Header.Get("Link")
	if link == "" {
		return "", nil
	}
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rest, "next") {
		return "", fmt.Errorf("malformed Link header %q", link)
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", fmt.Errorf("malformed Link header %q: %w", link, err)
	}
	if u.Opaque != "" {
		return "", fmt.Errorf("malformed Link header %q", link)
	}
	return res.Request.URL.ResolveReference(u).RequestURI(), nil
}

// parseErrors returns the errors in the body of an answer, as the OCI
// distribution specification, "Error Codes", has them; none in other bodies.
func parseErrors(body []byte) errcode.Errors {
	var said struct{ Errors errcode.Errors }
	if json.Unmarshal(body, &said) != nil {
		return nil
	}
	return said.Errors
}
