package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/proxy"
)

// The upstream builds URLs of what it is told about the way to the client. A
// client is not believed; an outer proxy that the operator named is.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	const us = "127.0.0.1" // whom both the client and an outer proxy come from
	tests := []struct {
		name    string
		trusted string
		sent    []string
		want    string // Forwarded, X-Forwarded-For, -Host, -Proto, -Port and X-Real-IP at the upstream
	}{
		{"a client that says nothing", "", nil, " | " + us + " | r | http |  | "},
		{"a client that lies", "",
			[]string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https", "X-Forwarded-Port", "1", "X-Real-IP", "6.6.6.6"},
			" | " + us + " | r | http |  | "},
		{"a client that lies in the new way", "", []string{"Forwarded", "for=6.6.6.6;host=evil;proto=https"}, " | " + us + " | r | http |  | "},
		{"an outer proxy that is not trusted", "10.0.0.0/8", []string{"X-Forwarded-Proto", "https"}, " | " + us + " | r | http |  | "},
		{"a trusted proxy that says nothing", "127.0.0.0/8", nil, " | " + us + " | r | http |  | "},
		{"a trusted proxy that ends TLS", "127.0.0.0/8", []string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "https"},
			" | 6.6.6.6, " + us + " | r | https |  | "},
		{"a trusted proxy that says all", "127.0.0.0/8",
			[]string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-For", "7.7.7.7", "X-Forwarded-Host", "a:8443, b", "X-Forwarded-Proto", "https", "X-Forwarded-Port", "8443", "X-Real-IP", "6.6.6.6"},
			" | 6.6.6.6, 7.7.7.7, " + us + " | a:8443, b | https | 8443 | 6.6.6.6"},
		{"a trusted proxy that speaks the new way", "127.0.0.1/32", []string{"Forwarded", "for=6.6.6.6;host=a;proto=https"},
			"for=6.6.6.6;host=a;proto=https | " + us + " |  |  |  | "},
	}
	var got string
	upstream := newUpstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var values []string
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip"} {
			values = append(values, strings.Join(r.Header.Values(name), " and "))
		}
		got = strings.Join(values, " | ")
		if r.Host != "r" {
			t.Errorf("the upstream is asked for the host %q, want the client's", r.Host)
		}
	}))
	for _, tt := range tests {
		p := newProxy(t, upstream.URL, trust(tt.trusted))
		req := newRequest(t, http.MethodGet, p.URL+"/v2/", nil, tt.sent...)
		req.Host = "r"
		send(t, req)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// trust returns an edit that trusts the peers in a prefix, which may be empty.
func trust(prefix string) func(*proxy.Config) {
	return func(c *proxy.Config) {
		if prefix != "" {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(prefix)}
		}
	}
}

// A body keeps its framing: a registry checks the range of a chunk only when
// it is told the length.
func TestFraming(t *testing.T) {
	t.Parallel()
	log := new(bodyLog)
	p := newProxy(t, newUpstream(t, log).URL, nil)
	for _, tt := range []struct {
		name   string
		length int64
		want   string
	}{
		{"a length stays a length", 3, `PATCH /v2/a/blobs/uploads/u len=3 "abc"`},
		{"chunks stay chunks", -1, `PATCH /v2/a/blobs/uploads/u len=-1 chunked "abc"`},
	} {
		req := newRequest(t, http.MethodPatch, p.URL+"/v2/a/blobs/uploads/u", io.MultiReader(strings.NewReader("abc")))
		req.ContentLength = tt.length
		send(t, req)
		if diff := cmp.Diff([]string{tt.want}, log.take()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// The server needs the body of its request as it was, to end the exchange.
func TestRequestIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, new(discarder)).URL, nil)
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodPut} {
		target := "/v2/a/blobs/uploads/"
		if method != http.MethodPost {
			target += "u"
		}
		r := httptest.NewRequest(method, target, strings.NewReader("abc"))
		body := r.Body
		p.Proxy.ServeHTTP(httptest.NewRecorder(), r)
		if r.Body != body {
			t.Errorf("%s: the body was replaced", method)
		}
	}
}

// Answers reach the client as the upstream gave them: status, headers, framing
// and bytes.
func TestAnswers(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("stored packed")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var accepted string
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepted = strings.Join(r.Header.Values("Accept-Encoding"), "|")
		h := w.Header()
		switch r.URL.Path {
		case "/v2/packed":
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(packed.Bytes())
		case "/v2/chunks":
			fmt.Fprint(w, "a")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "b")
		case "/v2/error":
			h.Set("WWW-Authenticate", `Bearer realm="https://auth.example/token",service="r"`)
			h.Add("Warning", `299 - "one"`)
			h.Add("Warning", `299 - "two"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`)
		case "/v2/nothing":
			h.Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/v2/hop":
			h.Set("Connection", "X-Hop")
			h.Set("X-Hop", "1")
			h.Set("Keep-Alive", "5")
		}
	}))
	p := newProxy(t, upstream.URL, nil)
	tests := []struct {
		name, path, want string
	}{
		{"content encoding is the upstream's", "/v2/packed",
			fmt.Sprintf("200 Content-Encoding: gzip; Content-Type: application/octet-stream; len=%d %q", packed.Len(), packed.String())},
		{"chunks", "/v2/chunks", `200 Content-Type: text/plain; charset=utf-8; len=-1 "ab"`},
		{"an error", "/v2/error",
			`401 Content-Type: text/plain; charset=utf-8; Warning: 299 - "one"|299 - "two"; Www-Authenticate: Bearer realm="https://auth.example/token",service="r"; len=61 "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"who are you?\"}]}"`},
		{"nothing new", "/v2/nothing", `304 Etag: "x"; len=0 ""`},
		{"hop-by-hop headers end here", "/v2/hop", `200 ; len=0 ""`},
	}
	for _, tt := range tests {
		res, err := client.Do(newRequest(t, http.MethodGet, p.URL+tt.path, nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		length := res.ContentLength
		res.Header.Del("Date")
		got := fmt.Sprintf("%d %s; len=%d %q", res.StatusCode, describe(res.Header), length, body)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
		if accepted != "" {
			t.Errorf("%s: the upstream was asked for %q, which the client did not", tt.name, accepted)
		}
	}
}

// Answers that come before the answer pass, and trailers come behind it.
func TestBeforeAndBehind(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</hint>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "Announced")
		fmt.Fprint(w, "body")
		w.Header().Set("Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"Surprise", "yes")
	}))
	p := newProxy(t, upstream.URL, nil)
	var early []string
	req := newRequest(t, http.MethodGet, p.URL+"/v2/", nil)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			early = append(early, fmt.Sprintf("%d %s", code, h.Get("Link")))
			return nil
		},
	}))
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if string(body) != "body" || err != nil || res.Header.Get("Link") != "" {
		t.Errorf("got %q with Link %q, %v", body, res.Header.Get("Link"), err)
	}
	if diff := cmp.Diff([]string{"103 </hint>"}, early); diff != "" {
		t.Errorf("before the answer (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(http.Header{"Announced": {"yes"}, "Surprise": {"yes"}}, res.Trailer); diff != "" {
		t.Errorf("behind the answer (-want +got)\n%s", diff)
	}
}

// Redirects are the client's to follow, but for those of blobs.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	log := recordRequests(http.RedirectHandler("/v2/elsewhere", http.StatusMovedPermanently))
	p := newProxy(t, newUpstream(t, log).URL, func(c *proxy.Config) { c.Mode = proxy.Off }) // who refuses no manifest
	for _, request := range []string{"GET /v2/", "GET /v2/a/manifests/t", "DELETE /v2/a/manifests/t", "POST /v2/a/blobs/uploads/",
		"PATCH /v2/a/blobs/uploads/u", "PUT /v2/a/blobs/uploads/u?digest=" + objectDigest, "PUT /v2/a/manifests/t"} {
		method, path, _ := strings.Cut(request, " ")
		a := do(t, method, p.URL+path, nil)
		if a.Status != http.StatusMovedPermanently || a.Header.Get("Location") != "/v2/elsewhere" {
			t.Errorf("%s: got %d to %q, want 301 to /v2/elsewhere", request, a.Status, a.Header.Get("Location"))
		}
		if diff := cmp.Diff([]string{request + " len=0"}, log.take()); diff != "" {
			t.Errorf("upstream requests (-want +got)\n%s", diff)
		}
	}
}

// A write that the upstream sends elsewhere would not pass there.
func TestWritesAreNotSentRound(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.RedirectHandler("https://registry.example/v2/elsewhere", http.StatusTemporaryRedirect))
	p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Mode = proxy.Off }) // who refuses no manifest
	for _, request := range []string{
		"POST /v2/a/blobs/uploads/", "PATCH /v2/a/blobs/uploads/u", "PUT /v2/a/blobs/uploads/u?digest=" + objectDigest,
		"PUT /v2/a/manifests/t", "DELETE /v2/a/manifests/t",
	} {
		method, path, _ := strings.Cut(request, " ")
		if a := do(t, method, p.URL+path, nil); a.Status != http.StatusBadGateway || a.codes() != "UNAVAILABLE" {
			t.Errorf("%s: got %d to %q, want 502 UNAVAILABLE", request, a.Status, a.Header.Get("Location"))
		}
	}
}

// An upstream that would like to speak another protocol is not let through to
// the client.
func TestNoTunnel(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n", ""} {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n%s\r\nfree text", header)
			_, _ = io.Copy(io.Discard, c)
		}))
		p := newProxy(t, upstream.URL, nil)
		a := sendRaw(t, p.URL, rawRequest("GET", "/v2/", "Connection: Upgrade", "Upgrade: websocket"))
		if a.Status != http.StatusBadGateway || a.codes() != "UNAVAILABLE" {
			t.Errorf("%q: got %d %s, want 502 UNAVAILABLE", header, a.Status, a.Body)
		}
	}
}
