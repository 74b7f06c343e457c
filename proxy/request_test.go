package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// What the query of a write decides must be readable in one way only; the
// query of a read, and that of an upload session, is the upstream's own.
func TestQueries(t *testing.T) {
	t.Parallel()
	const (
		session = "/v2/a/blobs/uploads/u"
		digest  = "digest=" + objectDigest
	)
	many := strings.Repeat("a=1&", 10_001)
	tests := []struct {
		name   string
		method string
		target string
		want   string // what the upstream sees, or the refusal
	}{
		{"two digests", "PUT", session + "?" + digest + "&digest=sha256:0", "400 UNSUPPORTED"},
		{"the same digest twice", "PUT", session + "?" + digest + "&" + digest, "400 UNSUPPORTED"},
		{"two digests, one escaped", "PUT", session + "?" + digest + "&%64igest=sha256:0", "400 UNSUPPORTED"},
		{"two mounts", "POST", "/v2/a/blobs/uploads/?mount=x&mount=y", "400 UNSUPPORTED"},
		{"two sources", "POST", "/v2/a/blobs/uploads/?mount=x&from=b&from=c", "400 UNSUPPORTED"},
		{"a parameter that only looks like a digest", "PUT", session + "?Digest=x&" + digest, "PUT " + session + "?Digest=x&" + digest + " len=0"},
		{"an escaped digest", "PUT", session + "?%64igest=" + objectDigest, "PUT " + session + "?%64igest=" + objectDigest + " len=0"},
		{"a semicolon in a write", "PUT", session + "?a=b;c=d", "400 UNSUPPORTED"},
		{"a bad escape in a write", "PUT", session + "?a=%zz", "400 UNSUPPORTED"},
		{"one digest behind ten thousand parameters", "PUT", session + "?" + many + digest, "400 UNSUPPORTED"},
		{"a semicolon in a read", "GET", "/v2/_catalog?a=b;c=d&x=%zz&&=", "GET /v2/_catalog?a=b;c=d&x=%zz&&= len=0"},
		{"a session's state", "PATCH", session + "?_state=Zm9v_-bar==&z=1&a=2&&b", "PATCH " + session + "?_state=Zm9v_-bar==&z=1&a=2&&b len=0"},
		{"a plus, a space, a colon, escaped or not", "PATCH", session + "?x=a+b%20c%3A:%2B", "PATCH " + session + "?x=a+b%20c%3A:%2B len=0"},
		{"a token of 4 kB", "PATCH", session + "?t=" + many[:4096], "PATCH " + session + "?t=" + many[:4096] + " len=0"},
		{"an empty query", "GET", "/v2/?", "GET /v2/? len=0"},
	}
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	for _, tt := range tests {
		a := sendRaw(t, p.URL, rawRequest(tt.method, tt.target, "Content-Length: 0"))
		got := log.take()
		if a.Status != http.StatusOK {
			got = append(got, fmt.Sprintf("%d %s", a.Status, a.codes()))
		}
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// Headers that could make the upstream read another request than we do are
// refused or dropped.
func TestHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string
		header []string
		want   string // header that reaches the upstream, or the refusal
	}{
		{"Connection takes a Content-Type away", "PATCH", []string{"Connection: Content-Type"}, "400 UNSUPPORTED"},
		{"Connection takes a Content-Range away", "PATCH", []string{"Connection: close, Content-Range"}, "400 UNSUPPORTED"},
		{"Connection takes a Range away", "GET", []string{"Connection: range"}, "400 UNSUPPORTED"},
		{"Connection takes the credentials away", "GET", []string{"Connection: keep-alive", "Connection: Authorization"}, "400 UNSUPPORTED"},
		{"Connection takes X-Forwarded-For away", "GET", []string{"Connection: X-Forwarded-For"}, "400 UNSUPPORTED"},
		{"Connection takes nothing away", "GET", []string{"Connection: keep-alive, , TE", "TE: gzip"}, ""},
		{"two Content-Types", "PATCH", []string{"Content-Type: a/b", "Content-Type: c/d"}, "400 UNSUPPORTED"},
		{"two Content-Ranges", "PATCH", []string{"Content-Range: 0-1", "Content-Range: 2-3"}, "400 UNSUPPORTED"},
		{"two Authorizations", "GET", []string{"Authorization: Basic eA==", "authorization: Basic eQ=="}, "400 UNSUPPORTED"},
		{"two Ranges", "GET", []string{"Range: bytes=0-1", "Range: bytes=2-3"}, "400 UNSUPPORTED"},
		{"two Content-Encodings", "PATCH", []string{"Content-Encoding: gzip", "Content-Encoding: zstd"}, "400 UNSUPPORTED"},
		{"two Accepts", "GET", []string{"Accept: a/b", "Accept: c/d"}, "Accept: a/b|c/d"},
		{"an underscore for a hyphen", "PATCH", []string{"Content_Range: 5-6", "Content_Length: 3"}, ""},
		{"an upgrade to HTTP/2", "GET", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"}, ""},
		{"an upgrade to something else", "GET", []string{"Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}, "Sec-Websocket-Version: 13"},
		{"an upgrade to what nobody can read", "GET", []string{"Connection: Upgrade", "Upgrade: \xff"}, ""},
		{"hop-by-hop headers", "GET", []string{"Keep-Alive: 5", "Proxy-Connection: close", "Proxy-Authorization: x"}, ""},
		{"credentials and conditions", "GET", []string{`If-None-Match: "x"`, "Authorization: Bearer y"}, `Authorization: Bearer y; If-None-Match: "x"`},
		{"headers of the client's own", "GET", []string{"User-Agent: test", "X-Meta-Source-Client: docker"}, "User-Agent: test; X-Meta-Source-Client: docker"},
	}
	var got string
	upstream := newUpstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = describe(r.Header)
	}))
	p := newProxy(t, upstream.URL, nil)
	for _, tt := range tests {
		got = ""
		target := "/v2/a/blobs/uploads/u"
		a := sendRaw(t, p.URL, rawRequest(tt.method, target, append(tt.header, "Content-Length: 0")...))
		if a.Status != http.StatusOK {
			got += fmt.Sprintf("%d %s", a.Status, a.codes())
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// describe returns headers in order, but for those that go with every request.
func describe(h http.Header) string {
	var b bytes.Buffer
	if err := h.WriteSubset(&b, map[string]bool{
		"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true, "Content-Length": true,
	}); err != nil {
		return err.Error()
	}
	var lines []string
	s := bufio.NewScanner(&b)
	for s.Scan() {
		name, _, _ := strings.Cut(s.Text(), ":")
		if n := len(lines); n > 0 && strings.HasPrefix(lines[n-1], name+":") {
			lines[n-1] += "|" + strings.TrimPrefix(s.Text(), name+": ")
			continue
		}
		lines = append(lines, s.Text())
	}
	return strings.Join(lines, "; ")
}

// A body is refused where none belongs, and when the upstream would take it
// for parameters; the connection is closed, since it was not read.
func TestBodies(t *testing.T) {
	t.Parallel()
	const (
		session = "/v2/a/blobs/uploads/u"
		form    = "application/x-www-form-urlencoded"
	)
	tests := []struct {
		name        string
		method      string
		target      string
		contentType string
		want        string
	}{
		{"GET", "GET", "/v2/", "", "400 UNSUPPORTED"},
		{"HEAD", "HEAD", "/v2/", "", "400 "},
		{"OPTIONS", "OPTIONS", "/v2/", "", "400 UNSUPPORTED"},
		{"DELETE", "DELETE", "/v2/a/manifests/t", "", "400 UNSUPPORTED"},
		{"a form", "PUT", session, form, "415 UNSUPPORTED"},
		{"a form with a charset", "PATCH", session, form + "; charset=utf-8", "415 UNSUPPORTED"},
		{"a form with a parameter that nobody can read", "PUT", session, form + "; =", "415 UNSUPPORTED"},
		{"a form in capitals", "PUT", session, strings.ToUpper(form), "415 UNSUPPORTED"},
		{"a form of many parts", "PUT", session, "multipart/form-data; boundary=x", "415 UNSUPPORTED"},
		{"a mount in a form", "POST", "/v2/a/blobs/uploads/", form, "415 UNSUPPORTED"},
		{"a form as a manifest", "PUT", "/v2/a/manifests/t", form, "415 UNSUPPORTED"},
		{"bytes", "PATCH", session, "application/octet-stream", "200 "},
		{"bytes of no type", "PATCH", session, "", "200 "},
	}
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	for _, tt := range tests {
		contentType := "X-None: none"
		if tt.contentType != "" {
			contentType = "Content-Type: " + tt.contentType
		}
		a := sendRaw(t, p.URL, rawRequest(tt.method, tt.target, contentType, "Content-Length: 3", "\r\nabc"))
		passed := strings.HasPrefix(tt.want, "200")
		if got := fmt.Sprintf("%d %s", a.Status, a.codes()); got != tt.want || a.Closed == passed || (len(log.take()) > 0) != passed {
			t.Errorf("%s: got %s, closed %t; want %s", tt.name, got, a.Closed, tt.want)
		}
	}
	// Without a body there is nothing that could be parameters.
	if a := do(t, http.MethodPut, p.URL+session, nil, "Content-Type", form); a.Status != http.StatusOK {
		t.Errorf("form without a body: got %d, want 200", a.Status)
	}
}

// A form in the body of a PUT would name another digest than the query does:
// the registry would confirm a blob that is not the one that passed.
func TestFormOverridesNothing(t *testing.T) {
	t.Parallel()
	honours := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", r.FormValue("digest"))
		w.WriteHeader(http.StatusCreated)
	})
	p := newProxy(t, newUpstream(t, honours).URL, nil)
	body := []byte(url.Values{"digest": {digest.FromString("the blob that was sent before").String()}}.Encode())
	for _, contentType := range []string{"application/x-www-form-urlencoded", "application/x-www-form-urlencoded; ="} {
		target := withDigest(p.URL+"/v2/a/blobs/uploads/u", digest.FromBytes(body))
		a := do(t, http.MethodPut, target, body, "Content-Type", contentType)
		if a.Status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: got %d, want 415", contentType, a.Status)
		}
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}

// What follows a refused body on a connection is not served.
func TestNothingBehindARefusal(t *testing.T) {
	t.Parallel()
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	c := dialRaw(t, p.URL)
	hidden := rawRequest("GET", "/v2/hidden")
	refused := rawRequest("PUT", "/v2/a%2Fb/manifests/t", fmt.Sprintf("Content-Length: %d", len(hidden)), "\r\n"+hidden)
	if _, err := io.WriteString(c, refused+rawRequest("GET", "/v2/second")); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	if a, err := readRaw(br, "PUT"); err != nil || a.Status != http.StatusBadRequest {
		t.Fatalf("got %d %v, want 400", a.Status, err)
	}
	if a, err := readRaw(br, "GET"); err == nil {
		t.Errorf("the second request got %d, want a closed connection", a.Status)
	}
	if seen := log.take(); len(seen) > 0 {
		t.Errorf("the upstream saw %q", seen)
	}
}
