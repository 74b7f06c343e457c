package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A bodyLog answers 200 and remembers each request with its framing and body.
type bodyLog struct {
	mu    sync.Mutex // guards lines
	lines []string
}

// ServeHTTP implements http.Handler.
func (l *bodyLog) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	framing := fmt.Sprintf("len=%d", r.ContentLength)
	if len(r.TransferEncoding) > 0 {
		framing += " " + strings.Join(r.TransferEncoding, ",")
	}
	line := fmt.Sprintf("%s %s %s %q", r.Method, r.URL.Path, framing, body)
	if err != nil {
		line += " cut"
	}
	for name := range r.Trailer {
		line += " with a trailer " + name
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *bodyLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// Inputs that two servers may frame differently are refused, or forwarded in
// one framing. Nothing is ever served that hid in a body.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const (
		patch   = "PATCH /v2/a/blobs/uploads/u HTTP/1.1\r\nHost: r\r\n"
		chunked = patch + "Transfer-Encoding: chunked\r\n\r\n"
		three   = "PATCH /v2/a/blobs/uploads/u len=3 \"abc\""
		chunks  = "PATCH /v2/a/blobs/uploads/u len=-1 chunked \"abc\""
		get     = "GET /v2/ len=0 \"\""
	)
	tests := []struct {
		name   string
		input  string
		status int
		seen   string // by the upstream; nothing when empty
	}{
		{"an unknown transfer encoding", patch + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, ""},
		{"chunked is not the last encoding", patch + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501, ""},
		{"identity and a length", patch + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 501, ""},
		{"gzip under chunked", patch + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, ""},
		{"chunked twice", patch + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, ""},
		{"a space before the colon", patch + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, ""},
		{"a vertical tab", patch + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, ""},
		{"two lengths", patch + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, ""},
		{"a list of lengths", patch + "Content-Length: 3, 3\r\n\r\nabc", 400, ""},
		{"a length with a plus", patch + "Content-Length: +3\r\n\r\nabc", 400, ""},
		{"a length in hexadecimal", patch + "Content-Length: 0x3\r\n\r\nabc", 400, ""},
		{"a negative length", patch + "Content-Length: -1\r\n\r\nabc", 400, ""},
		{"a length over 64 bits", patch + "Content-Length: 99999999999999999999\r\n\r\nabc", 400, ""},
		{"a bare carriage return", patch + "X: a\rb\r\n\r\n", 400, ""},
		{"a zero byte", patch + "X: a\x00b\r\n\r\n", 400, ""},
		{"no colon", patch + "nocolon\r\n\r\n", 400, ""},
		{"a header without a name", patch + ": x\r\n\r\n", 400, ""},
		{"a space in a name", patch + "X Y: z\r\n\r\n", 400, ""},
		{"two hosts", patch + "Host: s\r\n\r\n", 400, ""},
		{"no host", "GET /v2/ HTTP/1.1\r\n\r\n", 400, ""},
		{"a host with a path", "GET /v2/ HTTP/1.1\r\nHost: r/x\r\n\r\n", 400, ""},
		{"a bad escape in the target", "GET /v2/%zz HTTP/1.1\r\nHost: r\r\n\r\n", 400, ""},
		{"a space in the target", "GET /v2/ x HTTP/1.1\r\nHost: r\r\n\r\n", 400, ""},
		{"a tab in the target", "GET /v2/\tx HTTP/1.1\r\nHost: r\r\n\r\n", 400, ""},
		{"an empty line first", "\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n", 400, ""},
		{"an unknown expectation", patch + "Expect: bogus\r\n\r\n", 417, ""},
		{"HTTP/0.9", "GET /v2/\r\n\r\n", 400, ""},
		{"HTTP/1.2", "GET /v2/ HTTP/1.2\r\nHost: r\r\n\r\n", 505, ""},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, ""},
		{"CONNECT", "CONNECT r:80 HTTP/1.1\r\nHost: r\r\n\r\n", 405, ""},
		{"a request as the body of a GET", rawRequest("GET", "/v2/", "Content-Length: 36", "\r\n"+rawRequest("GET", "/v2/hidden")), 400, ""},
		{"a request as the body of a DELETE", rawRequest("DELETE", "/v2/a/manifests/t", "Content-Length: 36", "\r\n"+rawRequest("GET", "/v2/hidden")), 400, ""},
		{"chunked in HTTP/1.0", "PATCH /v2/a/blobs/uploads/u HTTP/1.0\r\nHost: r\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "PATCH /v2/a/blobs/uploads/u len=0 \"\""},
		{"chunked in HTTP/1.0, where no body belongs", "GET /v2/ HTTP/1.0\r\nHost: r\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, get},
		{"HTTP/1.0 without a host", "GET /v2/ HTTP/1.0\r\n\r\n", 200, get},
		{"a length and chunked", patch + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, chunks},
		{"Chunked", patch + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, chunks},
		{"a chunk extension", chunked + "3;a=\"b\"\r\nabc\r\n0\r\n\r\n", 200, chunks},
		{"a trailer", patch + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: x\r\n\r\n", 200, chunks},
		{"a trailer that was not announced", chunked + "3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", 200, chunks},
		{"the same length twice", patch + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 200, three},
		{"a space behind the length", patch + "Content-Length: 3 \r\n\r\nabc", 200, three},
		{"a folded header", patch + "X: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", 200, three},
		{"bare line ends", strings.ReplaceAll(patch, "\r", "") + "Content-Length: 3\n\nabc", 200, three},
	}
	log := new(bodyLog)
	p := newProxy(t, newUpstream(t, log).URL, nil)
	for _, tt := range tests {
		a := sendRaw(t, p.URL, tt.input)
		if a.Status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, a.Status, a.Body, tt.status)
		}
		var want []string
		if tt.seen != "" {
			want = append(want, tt.seen)
		}
		if diff := cmp.Diff(want, log.take()); diff != "" {
			t.Errorf("%s: upstream requests (-want +got)\n%s", tt.name, diff)
		}
	}
}

// A body that ends in a framing error is the client's fault and not a failure
// of the upstream, which sees a cut body or nothing at all.
func TestBrokenChunks(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body string }{
		{"a bare line feed behind a size", "3\nabc\r\n0\r\n\r\n"},
		{"a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"},
		{"a size with a plus", "+3\r\nabc\r\n0\r\n\r\n"},
		{"a size over 64 bits", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
		{"no line end behind a chunk", "3\r\nabc0\r\n\r\n"},
		{"a chunk that is longer than its size", "3\r\nabcdef\r\n0\r\n\r\n"},
		{"a broken second chunk", "3\r\nabc\r\nzz\r\n0\r\n\r\n"},
	}
	log := new(bodyLog)
	upstream := newUpstream(t, log)
	p := newProxy(t, upstream.URL, nil)
	for _, tt := range tests {
		a := sendRaw(t, p.URL, rawRequest("PATCH", "/v2/a/blobs/uploads/u", "Transfer-Encoding: chunked", "\r\n"+tt.body))
		if a.Status != http.StatusBadRequest || a.codes() != "BLOB_UPLOAD_INVALID" || !a.Closed {
			t.Errorf("%s: got %d %s, closed %t; want 400 BLOB_UPLOAD_INVALID and a closed connection", tt.name, a.Status, a.codes(), a.Closed)
		}
	}
	upstream.Close() // waits until all is read
	for _, line := range log.take() {
		if !strings.HasSuffix(line, " cut") {
			t.Errorf("the upstream saw a whole request: %s", line)
		}
	}
	if n := p.metric(t, "diffid_upstream_errors_total"); n != 0 {
		t.Errorf("%v failures were put down to the upstream", n)
	}
}

// A client that is told to wait before it sends a body is asked for it only
// when the upstream asks, and the upstream may answer without it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), err)
	}))
	p := newProxy(t, upstream.URL, nil)
	waiting := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	t.Cleanup(waiting.CloseIdleConnections)
	for range 20 {
		for _, authorization := range []string{"", "Basic eA=="} {
			body := &watchedBody{Reader: strings.NewReader("abc")}
			req := newRequest(t, http.MethodPut, p.URL+"/v2/a/blobs/uploads/u", body, "Expect", "100-continue")
			req.ContentLength = 3
			want := "401 "
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
				want = "200 abc<nil>"
			}
			res, err := waiting.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(res.Body)
			res.Body.Close()
			if got := fmt.Sprintf("%d %s", res.StatusCode, answer); got != want || err != nil {
				t.Fatalf("got %s, %v; want %s", got, err, want)
			}
			if body.read != (authorization != "") {
				t.Fatalf("%s: the client sent its body: %t", want, body.read)
			}
		}
	}
}

// A watchedBody knows whether it was read.
type watchedBody struct {
	io.Reader
	read bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.read = true
	return b.Reader.Read(p)
}

// Bytes that arrive one by one make the same request.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	log := new(bodyLog)
	p := newProxy(t, newUpstream(t, log).URL, nil)
	c := dialRaw(t, p.URL)
	for b := range slices.Chunk([]byte(rawRequest("PATCH", "/v2/a/blobs/uploads/u", "Content-Length: 3", "Connection: close", "\r\nabc")), 1) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		t.Errorf("got %q %v, want 200", answer, err)
	}
	if diff := cmp.Diff([]string{`PATCH /v2/a/blobs/uploads/u len=3 "abc"`}, log.take()); diff != "" {
		t.Errorf("upstream requests (-want +got)\n%s", diff)
	}
}
