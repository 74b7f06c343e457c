package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/proxy"
)

// zeros is an endless body that counts what is read of it.
type zeros struct{ read atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read.Add(int64(len(p)))
	return len(p), nil
}

// unauthorized answers before it reads anything.
func unauthorized(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="x"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// An upstream that refuses a large upload before it has come is heard at once.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	for _, length := range []int64{size, -1} {
		p := newProxy(t, newUpstream(t, http.HandlerFunc(unauthorized)).URL, nil)
		body := new(zeros)
		req := newRequest(t, http.MethodPut, p.URL+"/v2/a/blobs/uploads/u?digest="+objectDigest, io.LimitReader(body, size))
		req.ContentLength = length
		a := send(t, req)
		if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("length %d: got %d %v, want 401 with a challenge", length, a.Status, a.Header)
		}
		if n := body.read.Load(); n > size/8 {
			t.Errorf("length %d: the client had to send %d bytes of %d", length, n, size)
		}
	}
}

// The answer is not lost by closing the connection in the face of a client that
// goes on sending.
func TestEarlyAnswerToBusyClient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"the upstream refuses", unauthorized, http.StatusUnauthorized},
		{"the upstream dies", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, http.StatusBadGateway},
	}
	for _, tt := range tests {
		p := newProxy(t, newUpstream(t, tt.answer).URL, nil)
		for range 10 {
			c := dialRaw(t, p.URL)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				head := rawRequest(http.MethodPatch, "/v2/a/blobs/uploads/u", "Transfer-Encoding: chunked")
				_, err := io.WriteString(c, head)
				for err == nil {
					_, err = io.WriteString(c, "1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n")
				}
			}()
			a, err := readRaw(bufio.NewReader(c), http.MethodPatch)
			if err != nil || a.Status != tt.status {
				t.Errorf("%s: got %d, %v; want %d", tt.name, a.Status, err, tt.status)
			}
			c.Close()
			<-sent
		}
	}
}

// So it is when the client has stopped sending, and waits.
func TestEarlyAnswerToWaitingClient(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, http.HandlerFunc(unauthorized)).URL, nil)
	c := dialRaw(t, p.URL)
	head := rawRequest(http.MethodPatch, "/v2/a/blobs/uploads/u", fmt.Sprintf("Content-Length: %d", 1<<30))
	if _, err := io.WriteString(c, head+strings.Repeat("x", 64<<10)); err != nil {
		t.Fatal(err)
	}
	a, err := readRaw(bufio.NewReader(c), http.MethodPatch)
	if err != nil || a.Status != http.StatusUnauthorized {
		t.Errorf("got %d, %v; want 401", a.Status, err)
	}
}

// A client that goes away in the middle of an upload: the upstream sees that
// the body is cut, nothing is learned, and nothing is left behind.
func TestClientGoneMidUpload(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Content-Length: 1048576", "Transfer-Encoding: chunked"} {
		started, seen := make(chan struct{}), make(chan error, 1)
		upstream := newUpstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadFull(r.Body, make([]byte, 4))
			close(started)
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			seen <- err
		}))
		p := newProxy(t, upstream.URL, nil)
		c := dialRaw(t, p.URL)
		head := rawRequest(http.MethodPut, "/v2/a/blobs/uploads/u?digest="+objectDigest, framing)
		if _, err := io.WriteString(c, head+"40000\r\n"+strings.Repeat("x", 128<<10)); err != nil {
			t.Fatal(err)
		}
		<-started
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-seen; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the upstream saw %v, want %v", framing, err, io.ErrUnexpectedEOF)
		}
		eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 0 })
		if n := p.metric(t, "diffid_upstream_errors_total"); n != 0 {
			t.Errorf("%s: %v failures were put down to the upstream", framing, n)
		}
		if known := p.facts(t); len(known) > 0 {
			t.Errorf("%s: the DiffID index learned %v", framing, known)
		}
	}
}

// A client that goes away while the upstream still thinks takes its request
// with it.
func TestClientGoneBeforeAnswer(t *testing.T) {
	t.Parallel()
	started, ended := make(chan struct{}), make(chan struct{})
	upstream := newUpstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(ended)
	}))
	p := newProxy(t, upstream.URL, nil)
	c := dialRaw(t, p.URL)
	if _, err := io.WriteString(c, rawRequest(http.MethodGet, "/v2/a/tags/list")); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	eventually(t, func() bool { return p.Logs.FilterMessage("request").Len() == 1 })
	if n := p.metric(t, "diffid_http_requests_total", "code", "499"); n != 1 {
		t.Errorf("counted %v clients gone, want 1", n)
	}
	if line := p.Logs.FilterMessage("request").All()[0].ContextMap(); line["http.response.status"] != int64(499) {
		t.Errorf("the access log says %v, want the status 499", line)
	}
}

// An upstream that cannot be reached makes an answer that clients of
// registries understand.
func TestUpstreamDead(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "http://127.0.0.1:1", nil) // where nobody listens
	tests := []struct{ method, path, body string }{
		{http.MethodGet, "/v2/", ""},
		{http.MethodHead, "/v2/", ""},
		{http.MethodGet, "/v2/a/blobs/" + objectDigest, ""},
		{http.MethodPost, "/v2/a/blobs/uploads/", ""},
		{http.MethodPatch, "/v2/a/blobs/uploads/u", "body"},
		{http.MethodDelete, "/v2/a/manifests/t", ""},
	}
	for _, tt := range tests {
		a := do(t, tt.method, p.URL+tt.path, []byte(tt.body))
		if a.Status != http.StatusBadGateway || a.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: got %d %v", tt.method, tt.path, a.Status, a.Header)
		}
		if tt.method == http.MethodHead {
			continue
		}
		want := `{"errors":[{"code":"UNAVAILABLE","message":"the upstream registry cannot be reached"}]}` + "\n"
		if diff := cmp.Diff(want, string(a.Body)); diff != "" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %s (-want +got)\n%s", tt.method, tt.path, a.Header.Get("Content-Type"), diff)
		}
	}
	if n := p.metric(t, "diffid_upstream_errors_total", "kind", "dial"); n != float64(len(tests)) {
		t.Errorf("counted %v failures to dial, want %d", n, len(tests))
	}
	// The address is for the operator, not for the client.
	if logged := fmt.Sprint(p.Logs.FilterMessage("request").All()[0].ContextMap()["error"]); !strings.Contains(logged, "connection refused") {
		t.Errorf("the log says %q", logged)
	}
}

// An upstream that dies in the middle of an answer: the client must not take
// what it got for the whole.
func TestUpstreamDiesMidDownload(t *testing.T) {
	t.Parallel()
	const half = 100 << 10
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", fmt.Sprint(2*half))
		}
		_, _ = w.Write(make([]byte, half))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	p := newProxy(t, upstream.URL, nil)
	for _, path := range []string{"/v2/a/blobs/" + objectDigest, "/v2/a/manifests/t"} {
		for _, query := range []string{"", "?length"} {
			res, err := client.Do(newRequest(t, http.MethodGet, p.URL+path+query, nil))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if !errors.Is(err, io.ErrUnexpectedEOF) || n > half {
				t.Errorf("%s%s: got %d bytes and %v, want %v", path, query, n, err, io.ErrUnexpectedEOF)
			}
		}
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
	if n := p.metric(t, "diffid_wrong_blobs_total"); n != 0 {
		t.Errorf("%v wrong blobs were reported; none was whole", n)
	}
}

// An upstream that drops the connection on a write: an upload is not sent
// twice, whatever the client says of it, so the client is told; a manifest is,
// because it is the same manifest then.
func TestUpstreamDropsUpload(t *testing.T) {
	t.Parallel()
	const session, manifest = "/v2/a/blobs/uploads/u", "/v2/a/manifests/t"
	put := session + "?digest=" + objectDigest
	tests := []struct {
		name         string
		method, path string
		body         string
		header       []string
		times        int // that the upstream is asked
		status       int
	}{
		{"a part of an upload", "PATCH", session, "{}", nil, 1, 502},
		{"a part of an upload with a key", "PATCH", session, "{}", []string{"Idempotency-Key", "k"}, 1, 502},
		{"an upload", "PUT", put, "{}", nil, 1, 502},
		{"the end of an upload", "PUT", put, "", nil, 1, 502},
		{"the end of an upload with a key", "PUT", put, "", []string{"Idempotency-Key", "k"}, 1, 502},
		{"the end of an upload with a key of old", "PUT", put, "", []string{"X-Idempotency-Key", "k"}, 1, 502},
		{"the begin of an upload with a key", "POST", "/v2/a/blobs/uploads/", "", []string{"Idempotency-Key", "k"}, 1, 502},
		{"a manifest", "PUT", manifest, "{}", nil, 2, 201},
		{"a manifest with a key", "PUT", manifest, "{}", []string{"Idempotency-Key", "k"}, 2, 201},
		{"a read", "GET", manifest, "", nil, 2, 201},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var drops atomic.Int32
			var key atomic.Bool
			bodies := new(bodyLog)
			upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				bodies.ServeHTTP(w, r)
				if drops.Add(-1) >= 0 {
					panic(http.ErrAbortHandler)
				}
				if _, ok := r.Header["Idempotency-Key"]; ok {
					key.Store(true)
				}
				w.WriteHeader(http.StatusCreated)
			}))
			p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Mode = proxy.Off }) // who refuses no manifest
			do(t, http.MethodGet, p.URL+"/v2/", nil)                                     // a connection to be used again
			drops.Store(1)
			if a := do(t, tt.method, p.URL+tt.path, []byte(tt.body), tt.header...); a.Status != tt.status {
				t.Errorf("got %d %s, want %d", a.Status, a.Body, tt.status)
			}
			path, _, _ := strings.Cut(tt.path, "?")
			want := slices.Repeat([]string{fmt.Sprintf("%s %s len=%d %q", tt.method, path, len(tt.body), tt.body)}, tt.times)
			if diff := cmp.Diff(want, bodies.take()); diff != "" {
				t.Errorf("the upstream saw (-want +got)\n%s", diff)
			}
			if key.Load() {
				t.Error("the upstream got a key that is ours")
			}
			if known := p.facts(t); len(known) > 0 {
				t.Errorf("the DiffID index learned %v", known)
			}
		})
	}
}

// An upstream that drops every connection is asked twice for a manifest, and
// not for ever.
func TestUpstreamDropsEveryManifest(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	upstream := newUpstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
	}))
	p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Mode = proxy.Off })
	do(t, http.MethodGet, p.URL+"/v2/", nil)
	a := do(t, http.MethodPut, p.URL+"/v2/a/manifests/t", []byte("{}"))
	if a.Status != http.StatusBadGateway || a.codes() != "UNAVAILABLE" || asked.Load() != 2 {
		t.Errorf("got %d %s after %d requests, want 502 UNAVAILABLE after 2", a.Status, a.Body, asked.Load())
	}
}
