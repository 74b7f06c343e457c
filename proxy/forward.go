package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// forward sends the request to the upstream and its answer to the client.
//
// onResponse, if not nil, sees the answer before the client does and may wrap
// its body; its error is answered instead. The request's body is x.r.Body,
// which the caller may have wrapped.
func (x *exchange) forward(onResponse func(*http.Response) error) error {
	// Nothing is tunnelled. ReverseProxy would put the header back itself.
	x.r.Header.Del("Upgrade")
	idle := watchIdle(x)
	defer idle.stop()
	var failed error
	rp := httputil.ReverseProxy{
		Transport:     x.p.cfg.Transport,
		FlushInterval: -1,
		BufferPool:    x.p.buffers,
		ErrorLog:      x.p.errorLog,
		Rewrite:       x.rewrite,
		ModifyResponse: func(res *http.Response) error {
			x.p.cfg.Metrics.upstreamDone(x.rt.kind, res.StatusCode, x.began)
			if unread, _ := idle.body(); unread {
				x.hangUp()
			}
			if err := x.followBlob(res); err != nil {
				return err
			}
			x.followManifest(res)
			x.takeOffPrefix(res)
			if err := x.keepLocation(res); err != nil {
				return err
			}
			if onResponse != nil {
				return onResponse(res)
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	rp.ServeHTTP(x.w, x.r)
	if _, err := idle.body(); failed != nil && err != nil {
		failed = errBody(err)
	}
	var ours *httpError
	if failed != nil && !errors.As(failed, &ours) && !errors.Is(failed, context.Canceled) {
		x.p.cfg.Metrics.upstreamErrors.WithLabelValues(errorKind(failed)).Inc()
	}
	return failed
}

// rewrite makes the outgoing request: the canonical path under the upstream's,
// the query byte for byte (upload sessions are opaque), the client's Host, and
// headers that say how the client reached us.
func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	path, raw := x.rt.path, x.rt.path
	if x.rt.kind == routeOther { // unread, so as it came
		path, raw = pr.In.URL.Path, pr.In.URL.EscapedPath()
	}
	pr.Out.URL = x.p.upstream.url(path, raw, pr.In.URL.RawQuery)
	pr.Out.URL.ForceQuery = pr.In.URL.ForceQuery
	pr.Out.Host = pr.In.Host
	pr.Out.Trailer = nil
	pr.Out.Header.Del("Upgrade")
	pr.Out.Header.Del("Connection")
	for h := range pr.Out.Header {
		// Servers read Content_Range as Content-Range, or do not.
		if strings.Contains(h, "_") {
			pr.Out.Header.Del(h)
		}
	}
	setForwarded(pr.Out.Header, pr.In, x.p.cfg.TrustedProxies)
	if !isRead(pr.In.Method) {
		x.setRetry(pr.Out)
	}
}

// setRetry says whether net/http may send a write again when a connection that
// it used again turns out to be closed: a manifest may come twice, the part of
// an upload may not, and nobody can tell whether the first one arrived. A key
// allows it whatever its value; one without a value is not sent.
func (x *exchange) setRetry(out *http.Request) {
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		out.Header.Del(key)
	}
	if x.bodyCopy != nil {
		out.GetBody = x.bodyCopy
		out.Header["Idempotency-Key"] = nil
	}
}

// fromHeaders are the headers by which a proxy says how a client reached it.
var fromHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip"}

// setForwarded keeps what a trusted outer proxy said and replaces what anybody
// else did. The registry builds Location headers of it.
func setForwarded(out http.Header, in *http.Request, trusted []netip.Prefix) {
	host, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		host = in.RemoteAddr
	}
	for _, h := range fromHeaders {
		out.Del(h)
	}
	if isTrusted(host, trusted) {
		for _, h := range fromHeaders {
			if v, ok := in.Header[h]; ok {
				out[h] = slices.Clone(v)
			}
		}
	}
	if prior := out.Values("X-Forwarded-For"); len(prior) > 0 {
		host = strings.Join(prior, ", ") + ", " + host
	}
	out.Set("X-Forwarded-For", host)
	if out.Get("Forwarded") != "" {
		return // it wins at the registry, and says all of it
	}
	if out.Get("X-Forwarded-Host") == "" && in.Host != "" {
		out.Set("X-Forwarded-Host", in.Host)
	}
	if out.Get("X-Forwarded-Proto") == "" {
		out.Set("X-Forwarded-Proto", scheme(in))
	}
}

func isTrusted(host string, trusted []netip.Prefix) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// keepLocation sees to it that a client that follows a Location comes back
// through the proxy. A registry with a configured host name, or one that lost
// the Host header, names itself instead.
//
// A redirect (3xx) of a read that was not followed is the client's to follow;
// the taps miss it, the gate does not. That of a write may not lead elsewhere.
func (x *exchange) keepLocation(res *http.Response) error {
	loc := res.Header.Get("Location")
	if loc == "" {
		return nil
	}
	u, err := url.Parse(loc)
	if err != nil {
		return errUnavailable(http.StatusBadGateway, "the upstream answered with a Location that cannot be read", withoutURL(err))
	}
	seenHost, seenScheme := clientView(x.r, x.p.cfg.TrustedProxies)
	home, redirect := u.Host == seenHost && u.Scheme == seenScheme, res.StatusCode/100 == 3
	round := errUnavailable(http.StatusBadGateway, "the upstream sends uploads round the proxy; that cannot be verified", nil)
	switch {
	case redirect && isRead(x.r.Method) && u.Host != x.p.cfg.Upstream.Host:
		return nil
	case manyReadings(loc, u):
		return round
	case u.Host == "" || home && u.User == nil:
		return nil
	case home: // with credentials, which are nobody's business
	case redirect && u.Host != x.p.cfg.Upstream.Host, !redirect && !strings.HasPrefix(u.Path, "/v2/"):
		return round
	}
	u.Scheme, u.Host, u.User = seenScheme, seenHost, nil
	if seenHost == "" { // HTTP/1.0; a path will do
		u.Scheme = ""
	}
	res.Header.Set("Location", u.String())
	return nil
}

// manyReadings reports whether a Location names a host to some clients only: to
// browsers a backslash is a slash, and so are three slashes two.
func manyReadings(loc string, u *url.URL) bool {
	return strings.Contains(loc, `\`) || u.Host == "" && (u.Scheme != "" || strings.HasPrefix(loc, "//"))
}

// clientView returns the host and scheme under which the client sees us.
func clientView(r *http.Request, trusted []netip.Prefix) (host, proto string) {
	h := http.Header{}
	setForwarded(h, r, trusted)
	host, proto = h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Proto")
	for part := range strings.SplitSeq(firstElement(h.Get("Forwarded")), ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		v = strings.Trim(v, `"`)
		switch strings.ToLower(k) {
		case "host":
			host = v
		case "proto":
			proto = v
		}
	}
	host, proto = firstElement(host), firstElement(proto)
	if host == "" {
		host = r.Host
	}
	if proto == "" {
		proto = scheme(r)
	}
	return host, proto
}

func firstElement(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

// errorKind is a metric label: a fixed set of words for what went wrong.
func errorKind(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case isTimeout(err):
		return "timeout"
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &op) && op.Op == "dial":
		return "dial"
	}
	return "other"
}
