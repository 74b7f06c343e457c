package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
)

// The media types of our own answers.
const (
	typeJSON   = "application/json"
	typeV1     = "application/vnd.diffid.v1+json"
	typeNDJSON = "application/x-ndjson"
	typeText   = "text/plain"
)

// own makes a handler of a route that is answered here. allow asks the
// upstream, in the caller's name, whether the caller may know; so the DiffID
// index tells nobody what the registry would not.
func own(allow, answer handler) handler {
	return func(x *exchange) error {
		x.w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if x.r.Method == http.MethodOptions {
			x.w.Header().Set("Allow", x.p.table[x.rt.kind].allowed())
			x.w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err := allow(x); err != nil {
			return err
		}
		return answer(x)
	}
}

// mayList asks for the catalog, the one other list over all repositories.
func mayList(x *exchange) error {
	c := x.caller()
	if x.p.listers.has(c) {
		return nil
	}
	res, err := x.p.upstream.do(x.r.Context(), c, http.MethodGet, "/v2/_catalog", "n=1", typeJSON)
	if err != nil {
		return err
	}
	switch res.StatusCode {
	case http.StatusOK:
		drain(res)
		x.p.listers.add(c)
		return nil
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		drain(res)
		return errRefused(http.StatusForbidden, errcode.ErrorCodeDenied,
			"the registry has no catalog, so nobody may list all digests; ask for /v2/<name>/_diffids/blobs/<digest>")
	}
	return answerError(res)
}

// validDigest reads a digest that a client sent.
func validDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", errRefused(http.StatusBadRequest, errcode.ErrorCodeDigestInvalid, "%q is not a digest", printable(s))
	}
	return d, nil
}

// negotiate returns the first type of the Accept header that is offered.
func negotiate(r *http.Request, offered ...string) (string, error) {
	accepted := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accepted) == "" {
		return offered[0], nil
	}
	for part := range strings.SplitSeq(accepted, ",") {
		t, _, _ := strings.Cut(part, ";")
		t = strings.ToLower(strings.TrimSpace(t))
		for _, o := range offered {
			if t == o || t == "*/*" || strings.HasSuffix(t, "/*") && strings.HasPrefix(o, strings.TrimSuffix(t, "*")) {
				return o, nil
			}
		}
	}
	return "", errRefused(http.StatusNotAcceptable, errcode.ErrorCodeUnsupported, "this can be had as %s", strings.Join(offered, ", "))
}

// sendETagged answers with a body whose strong ETag is its digest, or 304.
func (x *exchange) sendETagged(contentType, cache string, body []byte) {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	x.sendTagged(contentType, cache, tag, body)
}

func (x *exchange) sendTagged(contentType, cache, tag string, body []byte) {
	h := x.w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", cache)
	h.Set("Vary", "Authorization, Accept")
	if matches(x.r.Header.Get("If-None-Match"), tag) {
		x.w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method != http.MethodHead {
		x.write(body)
	}
}

// matches reports whether an If-None-Match header names the tag (RFC 9110,
// section 13.1.2: the comparison is weak).
func matches(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		t = strings.TrimSpace(t)
		if t == "*" || t != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// pageSize reads n as the tags list does: too much is clamped.
func (p *Proxy) pageSize(s string) (int, error) {
	if s == "" {
		return min(100, p.cfg.MaxEntries), nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, errRefused(http.StatusBadRequest, errcode.ErrorCodePaginationNumberInvalid, "n must be a number from 0, not %q", printable(s))
	}
	return min(n, p.cfg.MaxEntries), nil
}

// indexError is an error of the DiffID index.
func indexError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errUnavailable(http.StatusServiceUnavailable, "the DiffID index cannot be read", fmt.Errorf("read DiffID index: %w", err))
}
