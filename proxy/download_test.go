package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// serveBytes returns an upstream that answers every read with the same bytes,
// with or without their length.
func serveBytes(body []byte, length bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if length {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		} else {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(body) // the proxy may have gone
	})
}

// The DiffID index learns from a download what it would have learned from the
// upload. What it knows is not decoded again.
func TestDownload(t *testing.T) {
	t.Parallel()
	tar := verifytest.Tar("etc/motd", strings.Repeat("hello\n", 20_000))
	log := recordRequests(newRegistryHandler(t, nil))
	registry := newUpstream(t, log)
	p := newProxy(t, registry.URL, nil)
	for _, blob := range [][]byte{verifytest.Gzip(tar), verifytest.Zstd(tar), tar, verifytest.Honest(1).Config(), []byte("x"), {}} {
		dgst := pushBlob(t, registry.URL, "a/b", blob) // not through the proxy
		path := "/v2/a/b/blobs/" + dgst.String()
		log.take()
		for range 2 {
			a := do(t, http.MethodGet, p.URL+path, nil)
			if a.Status != http.StatusOK || !bytes.Equal(a.Body, blob) {
				t.Errorf("got %d and %d bytes, want 200 and %d", a.Status, len(a.Body), len(blob))
			}
			if diff := cmp.Diff(factAbout(t, blob, verify.Pulled), p.fact(t, dgst)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff([]string{"GET " + path + " len=0"}, log.take()); diff != "" {
				t.Errorf("upstream requests (-want +got)\n%s", diff)
			}
		}
	}
	if n := p.metric(t, "diffid_blobs_hashed_total", "direction", "pull"); n != 6 {
		t.Errorf("%v blobs were decoded, want each once: 6", n)
	}
}

// No client gets the whole of a blob that is not the one it asked for: not
// when the DiffID index knows the right one either. The operator is told.
func TestWrongBlob(t *testing.T) {
	t.Parallel()
	flipped := func(i int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = slices.Clone(b)
			b[(i+len(b))%len(b)] ^= 1
			return b
		}
	}
	damages := []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"the first byte flipped", flipped(0)},
		{"the last byte flipped", flipped(-1)},
		{"truncated by one byte", func(b []byte) []byte { return b[:len(b)-1] }},
		{"truncated to half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"emptied", func([]byte) []byte { return nil }},
		{"one byte longer", func(b []byte) []byte { return append(slices.Clone(b), 0) }},
		{"twice as long", func(b []byte) []byte { return slices.Concat(b, b) }},
		{"another blob", func([]byte) []byte { return []byte("another blob") }},
	}
	for _, size := range []int{8, 32 << 10, 1 << 20} {
		blob := repeated(size)
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			for _, d := range damages {
				sent := d.damage(blob)
				for framing, start := range map[string]func(*testing.T) *testProxy{
					"length": func(t *testing.T) *testProxy { return newProxy(t, newUpstream(t, serveBytes(sent, true)).URL, nil) },
					"chunks": func(t *testing.T) *testProxy { return newProxy(t, newUpstream(t, serveBytes(sent, false)).URL, nil) },
					"an end that comes late": func(t *testing.T) *testProxy {
						return newProxy(t, "http://upstream", func(c *proxy.Config) {
							c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
								return respond(r, http.StatusOK, bytes.NewReader(sent)), nil
							})
						})
					},
				} {
					t.Run(fmt.Sprintf("%s of %d, %s, %s", d.name, size, algorithm, framing), func(t *testing.T) {
						t.Parallel()
						testWrongBlob(t, start(t), algorithm.FromBytes(blob), blob, sent)
					})
				}
			}
		}
	}
}

// testWrongBlob asks for a blob of an upstream that sends other bytes.
func testWrongBlob(t *testing.T, p *testProxy, dgst digest.Digest, blob, sent []byte) {
	t.Helper()
	known := factAbout(t, blob, verify.Pushed)
	for _, state := range []string{"unknown", "known"} {
		if state == "known" {
			if err := p.Index.Put(context.Background(), known); err != nil {
				t.Fatal(err)
			}
		}
		// A range that the upstream does not heed makes no difference.
		for _, header := range [][]string{nil, {"Range", "bytes=0-3", "If-Range", `"x"`}} {
			res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil, header...))
			if err != nil {
				continue // cut before the first byte
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK && (err == nil || len(got) > 0 && len(got) >= len(sent)) {
				t.Errorf("%s: the client got %d of %d bytes, and %v", state, len(got), len(sent), err)
			}
		}
	}
	eventually(t, func() bool { return p.metric(t, "diffid_wrong_blobs_total") == 4 })
	lines := p.Logs.FilterMessageSnippet("wrong blob").FilterField(zap.Stringer("vars.digest", dgst)).All()
	if len(lines) != 4 || lines[0].ContextMap()["actual"] != dgst.Algorithm().FromBytes(sent).String() {
		t.Errorf("the log says %v", lines)
	}
	wantFacts(t, p, []digest.Digest{known.Digest})
}

// Of an emptied blob with a length there is no last byte to hold back; the
// client is told before it takes nothing for the whole.
func TestEmptiedBlob(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, serveBytes(nil, true)).URL, nil)
	a := do(t, http.MethodGet, p.URL+"/v2/a/blobs/"+objectDigest, nil)
	if a.Status != http.StatusBadGateway || a.codes() != "UNAVAILABLE" {
		t.Errorf("got %d %s, want 502 UNAVAILABLE", a.Status, a.Body)
	}
}

// A client of HTTP/1.0 knows the end of a body by the end of the connection;
// so it too must not get all of a wrong one.
func TestWrongBlobToOldClient(t *testing.T) {
	t.Parallel()
	blob := repeated(100_000)
	wrong := append(slices.Clone(blob[:len(blob)-1]), 'x')
	p := newProxy(t, newUpstream(t, serveBytes(wrong, false)).URL, nil)
	c := dialRaw(t, p.URL)
	if _, err := fmt.Fprintf(c, "GET /v2/a/blobs/%s HTTP/1.0\r\nHost: r\r\n\r\n", digest.FromBytes(blob)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(res.Body); len(got) >= len(wrong) {
		t.Errorf("the client got all %d bytes", len(got))
	}
}

// A blob that is right arrives, however it is framed and cut up on the way.
func TestRightBlob(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 8, 32 << 10, 32<<10 + 8, 64 << 10, 1 << 20} {
		blob := repeated(size)
		for _, dgst := range []digest.Digest{digest.SHA256.FromBytes(blob), digest.SHA512.FromBytes(blob)} {
			for _, length := range []bool{true, false} {
				p := newProxy(t, newUpstream(t, serveBytes(blob, length)).URL, nil)
				res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || !bytes.Equal(got, blob) || size > 0 && (res.ContentLength >= 0) != length {
					t.Errorf("%d bytes, length %t: got %d, %v, Content-Length %d", size, length, len(got), err, res.ContentLength)
				}
				if diff := cmp.Diff(factAbout(t, blob, verify.Pulled), p.fact(t, digest.FromBytes(blob))); diff != "" {
					t.Errorf("%d bytes of %s: (-want +got)\n%s", size, dgst.Algorithm(), diff)
				}
			}
		}
	}
}

// What is not the whole blob passes as the registry gives it out, and nothing
// is learned of it.
func TestPartsOfBlobs(t *testing.T) {
	t.Parallel()
	registry := newRegistry(t)
	blob := repeated(100_000)
	dgst := pushBlob(t, registry.URL, "a", blob)
	p := newProxy(t, registry.URL, nil)
	tests := []struct {
		name   string
		method string
		path   string
		header []string
		status int
	}{
		{"HEAD", "HEAD", dgst.String(), nil, 200},
		{"one range", "GET", dgst.String(), []string{"Range", "bytes=5-9"}, 206},
		{"the end", "GET", dgst.String(), []string{"Range", "bytes=-7"}, 206},
		{"two ranges", "GET", dgst.String(), []string{"Range", "bytes=0-4,10-14"}, 206},
		{"a range behind the end", "GET", dgst.String(), []string{"Range", "bytes=200000-"}, 416},
		{"a range if it is unchanged", "GET", dgst.String(), []string{"Range", "bytes=5-9", "If-Range", `"` + dgst.String() + `"`}, 206},
		{"only if it changed", "GET", dgst.String(), []string{"If-None-Match", `"` + dgst.String() + `"`}, 304},
		{"HEAD of what is not there", "HEAD", objectDigest, nil, 404},
		{"what is not there", "GET", objectDigest, nil, 404},
		{"an unknown algorithm", "GET", "md5:900150983cd24fb0d6963f7d28e17f72", nil, 400},
	}
	for _, tt := range tests {
		var answers []answer
		for _, base := range []string{registry.URL, p.URL} {
			req := newRequest(t, tt.method, base+"/v2/a/blobs/"+tt.path, nil, tt.header...)
			req.Host = "registry.example"
			a := send(t, req)
			a.Header.Del("Date")
			if boundary, ok := strings.CutPrefix(a.Header.Get("Content-Type"), "multipart/byteranges; boundary="); ok {
				a.Header.Del("Content-Type") // the boundary is random
				a.Body = bytes.ReplaceAll(a.Body, []byte(boundary), nil)
			}
			answers = append(answers, a)
		}
		if diff := cmp.Diff(answers[0], answers[1]); diff != "" || answers[0].Status != tt.status {
			t.Errorf("%s: got %d, want %d as the registry alone (-registry +proxy)\n%s", tt.name, answers[1].Status, tt.status, diff)
		}
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}

// Whatever an upstream says of their encoding, the bytes that it sends are the
// blob, or no client gets the whole of them.
func TestEncodedBlobs(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", strings.Repeat("b", 1<<16)))
	for _, tt := range []struct {
		is       string
		encoding string
		sent     []byte
		right    bool
	}{
		{"the blob, said to be gzip", "gzip", blob, true},
		{"the blob, said to be itself", "identity", blob, true},
		{"the blob, said to be what nobody knows", "x-unknown", blob, true},
		{"the blob encoded for the way", "gzip", verifytest.Gzip(blob), false},
		{"another blob, said to be gzip", "gzip", repeated(100_000), false},
		{"another blob, said to be itself", "identity", repeated(100_000), false},
	} {
		for _, length := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, length %t", tt.is, length), func(t *testing.T) {
				t.Parallel()
				upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if got := r.Header.Get("Accept-Encoding"); got != "identity" {
						t.Errorf("the upstream is asked for the encoding %q, want identity", got)
					}
					w.Header().Set("Content-Encoding", tt.encoding)
					serveBytes(tt.sent, length).ServeHTTP(w, r)
				}))
				p := newProxy(t, upstream.URL, nil)
				checkEncodedBlob(t, p, digest.FromBytes(blob), tt.encoding, tt.sent, tt.right, length)
				if known := p.knows(t, blob); known != tt.right {
					t.Errorf("the DiffID index knows the blob: %t, want %t", known, tt.right)
				}
			})
		}
	}
}

// checkEncodedBlob asks for a blob of which an upstream sends the right bytes or
// wrong ones.
func checkEncodedBlob(t *testing.T, p *testProxy, dgst digest.Digest, encoding string, sent []byte, right, length bool) {
	t.Helper()
	res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil, "Accept-Encoding", "gzip"))
	if err != nil {
		if right {
			t.Fatal(err)
		}
		return // cut before the first byte
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if right != (err == nil) || right != bytes.Equal(got, sent) {
		t.Errorf("got %d of %d bytes and %v; they are right: %t", len(got), len(sent), err, right)
	}
	if res.Header.Get("Content-Encoding") != encoding || (res.ContentLength == int64(len(sent))) != length {
		t.Errorf("got Content-Encoding %q and Content-Length %d", res.Header.Get("Content-Encoding"), res.ContentLength)
	}
}

// Answers that hold no blob pass too.
func TestOtherAnswersToDownload(t *testing.T) {
	t.Parallel()
	blob := repeated(100_000)
	tests := []struct {
		name   string
		status int
		header []string
		body   []byte
	}{
		{"a redirect to storage", 307, []string{"Location", "https://storage.example/x"}, nil},
		{"a part that nobody asked for", 206, []string{"Content-Range", "bytes 0-9/100000"}, blob[:10]},
		{"an error", 500, nil, []byte("{}")},
	}
	for _, tt := range tests {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for kv := range slices.Chunk(tt.header, 2) {
				w.Header().Set(kv[0], kv[1])
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write(tt.body)
		}))
		p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.PassRedirects = true })
		a := do(t, http.MethodGet, p.URL+"/v2/a/blobs/"+digest.FromBytes(blob).String(), nil)
		if a.Status != tt.status || !bytes.Equal(a.Body, tt.body) {
			t.Errorf("%s: got %d and %d bytes, want %d and %d", tt.name, a.Status, len(a.Body), tt.status, len(tt.body))
		}
		if known := p.facts(t); len(known) > 0 {
			t.Errorf("%s: the DiffID index learned %v", tt.name, known)
		}
	}
}

// A client that goes away in the middle of a download: nothing is learned, and
// the upstream need not go on.
func TestClientGoneMidDownload(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, new(zeros)); err != nil { // for ever
			close(gone)
		}
	}))
	p := newProxy(t, upstream.URL, nil)
	res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+objectDigest, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
	res.Body.Close()
	<-gone
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 0 })
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}
