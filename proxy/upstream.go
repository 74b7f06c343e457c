package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// An upstream makes the proxy's own requests to the registry. Each is made in
// the name of a client's request: with its Host and its Authorization, and
// with no other credential.
type upstream struct {
	base      *url.URL
	prefix    prefix
	transport http.RoundTripper
	storage   http.RoundTripper // follows redirects of the registry
	limits    verify.Limits
	maxConfig int64
}

func newUpstream(cfg Config) *upstream {
	u := &upstream{base: cfg.Upstream, prefix: prefix(strings.TrimSuffix(cfg.Upstream.Path, "/")), transport: cfg.Transport, limits: cfg.Limits, maxConfig: cfg.MaxConfig}
	u.storage = cfg.Transport
	if t, ok := cfg.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, ControlContext: u.checkStorage}).DialContext
		if t.TLSClientConfig != nil {
			t.TLSClientConfig.Certificates = nil // they are for the registry
		}
		u.storage = t
	}
	return u
}

// A caller is in whose name a request is made.
type caller struct {
	host          string
	authorization string
	forwarded     http.Header
}

func (x *exchange) caller() caller {
	h := http.Header{}
	setForwarded(h, x.r, x.p.cfg.TrustedProxies)
	return caller{host: x.r.Host, authorization: x.r.Header.Get("Authorization"), forwarded: h}
}

// stallLimit is how long an upstream may send nothing of a blob.
const stallLimit = time.Minute

// url returns where something of the registry is at the upstream. The raw path
// is as in a [url.URL].
func (u *upstream) url(path, raw, query string) *url.URL {
	at := &url.URL{Scheme: u.base.Scheme, Host: u.base.Host, Path: string(u.prefix) + path, RawQuery: query}
	if raw != "" {
		at.RawPath = string(u.prefix) + raw
	}
	return at
}

// do sends a request without a body. The path must be canonical.
func (u *upstream) do(ctx context.Context, c caller, method, path, query string, accept ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.base.Scheme+"://"+u.base.Host, nil)
	if err != nil {
		return nil, err
	}
	req.URL = u.url(path, "", query)
	req.Host = c.host
	for k, v := range c.forwarded {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "diffgate")
	req.Header.Set("Accept-Encoding", "identity") // bytes are asked for, to be hashed
	if len(accept) > 0 {
		req.Header["Accept"] = accept
	}
	if c.authorization != "" {
		req.Header.Set("Authorization", c.authorization)
	}
	return u.transport.RoundTrip(req)
}

// maxRedirects bounds how far a blob is followed into storage.
const maxRedirects = 3

// follow goes after redirects that the registry answers blob reads with. It
// takes no header along but what says which part is wanted: a storage service
// has no business with credentials.
func (u *upstream) follow(ctx context.Context, res *http.Response, header http.Header) (*http.Response, error) {
	for hops := 0; ; hops++ {
		if !isRedirect(res.StatusCode) {
			return res, nil
		}
		if hops == maxRedirects {
			drain(res)
			return nil, fmt.Errorf("the upstream redirects more than %d times", maxRedirects)
		}
		from := res.Request.URL
		to, err := res.Location()
		drain(res)
		if err != nil {
			return nil, fmt.Errorf("redirect of the upstream: %w", withoutURL(err))
		}
		if to.Scheme != "https" && (to.Scheme != "http" || from.Scheme == "https") {
			return nil, fmt.Errorf("redirect of the upstream to a %s URL is not followed", to.Scheme)
		}
		req, err := http.NewRequestWithContext(ctx, res.Request.Method, to.String(), nil)
		if err != nil {
			return nil, withoutURL(err)
		}
		for _, h := range partial {
			if v := header.Values(h); len(v) > 0 {
				req.Header[h] = v
			}
		}
		req.Header.Set("User-Agent", "diffgate")
		req.Header.Set("Accept-Encoding", "identity")
		if res, err = u.storage.RoundTrip(req); err != nil {
			return nil, err
		}
	}
}

// partial are the headers of a read that say which part of a blob is wanted.
var partial = []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// metadata are the services that tell a machine in a cloud its credentials and
// that are not on its link: of AWS, Google, Alibaba and Azure.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16")}

// checkStorage keeps a redirect from reaching services of this machine, its
// link and its cloud, unless the upstream is there itself. Object storage may
// well be on a private network.
func (u *upstream) checkStorage(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := to.Addr().Unmap()
	home, err := netip.ParseAddr(u.base.Hostname())
	local := err == nil && home.Unmap().IsLoopback() || strings.EqualFold(u.base.Hostname(), "localhost")
	switch {
	case ip.IsLoopback() && local, err == nil && home.Unmap() == ip:
		return nil
	case ip.IsLoopback(), ip.IsLinkLocalUnicast(), ip.IsUnspecified(), slices.Contains(metadata, ip):
		return fmt.Errorf("redirect of the upstream to %s is not followed", ip)
	}
	return nil
}

// drain lets a connection be used again.
func drain(res *http.Response) {
	// What is left is an error body, or nothing; an unread one costs a connection.
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	res.Body.Close()
}

// maxErrorBody bounds what is relayed of an upstream's error.
const maxErrorBody = 16 << 10

// answerError makes the upstream's answer an error and closes its body: not found,
// or something for the client to see, or something else.
func answerError(res *http.Response) error {
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotFound:
		return verify.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
		if err != nil {
			return err
		}
		return &upstreamError{status: res.StatusCode, header: res.Header, body: body}
	}
	return &answeredError{res.StatusCode}
}

func blobPath(repo string, dgst digest.Digest) string {
	return "/v2/" + repo + "/blobs/" + dgst.String()
}

// has reports whether the caller may read a blob of the repository: nil,
// verify.ErrNotFound, an *upstreamError, or that it could not be found out.
func (u *upstream) has(ctx context.Context, c caller, repo string, dgst digest.Digest) error {
	res, err := u.do(ctx, c, http.MethodHead, blobPath(repo, dgst), "")
	if err != nil {
		return err
	}
	if res, err = u.follow(ctx, res, nil); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return answerError(res)
	}
	drain(res)
	return nil
}

// blob opens a blob. The body fails when the upstream stalls; it must be
// closed. Nothing is proven of it yet.
func (u *upstream) blob(ctx context.Context, c caller, repo string, dgst digest.Digest) (*stallBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
	res, err := u.do(ctx, c, http.MethodGet, blobPath(repo, dgst), "")
	if err == nil {
		res, err = u.follow(ctx, res, nil)
	}
	if err == nil && res.StatusCode != http.StatusOK {
		err = answerError(res)
	}
	if err != nil {
		stall.Stop()
		cancel(nil)
		return nil, stalled(ctx, err)
	}
	return &stallBody{body: res.Body, ctx: ctx, cancel: cancel, timer: stall, doubt: doubtful(res)}, nil
}

// doubtful reports whether a body may be other than what the upstream holds,
// without anybody being wrong: encoded on the way in spite of what was asked for,
// or cut, where only the end of the connection is its end.
func doubtful(res *http.Response) bool {
	encoding := res.Header.Get("Content-Encoding")
	return encoding != "" && encoding != "identity" ||
		res.ContentLength < 0 && len(res.TransferEncoding) == 0 && res.ProtoMajor < 2
}

var errStalled = fmt.Errorf("the upstream sent nothing for %s", stallLimit)

func stalled(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// A stallBody ends with an error when no byte comes for stallLimit.
type stallBody struct {
	body   io.ReadCloser
	ctx    context.Context // the request's; its cause tells a stall from a shutdown
	cancel context.CancelCauseFunc
	timer  *time.Timer
	doubt  bool // see doubtful
}

func (b *stallBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.timer.Reset(stallLimit)
	if err != nil && err != io.EOF {
		err = stalled(b.ctx, err)
	}
	return n, err
}

func (b *stallBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.body.Close()
}
