package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify/verifytest"
)

// newObliging returns a registry of one upload that takes what came of each
// part for the whole, also when it was cut.
func newObliging() http.Handler {
	var mu sync.Mutex
	var came []byte
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part, _ := io.ReadAll(r.Body) // it does not care
		mu.Lock()
		defer mu.Unlock()
		came = append(came, part...)
		h := w.Header()
		h.Set("Location", r.URL.Path)
		switch r.Method {
		case http.MethodPost:
			h.Set("Location", path.Join(r.URL.Path, "u"))
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPatch:
			h.Set("Range", fmt.Sprintf("0-%d", max(len(came)-1, 0)))
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			h.Set("Docker-Content-Digest", digest.FromBytes(came).String())
			w.WriteHeader(http.StatusCreated)
		}
	})
}

// Wherever a client is cut off, nothing is learned unless the whole body came,
// whatever the upstream says of it.
func TestCutUploads(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	n := len(blob)
	plain := fmt.Sprintf("Content-Length: %d", n)
	const chunked = "Transfer-Encoding: chunked"
	first := fmt.Sprintf("%x\r\n%s\r\n", n/2, blob[:n/2])
	second := fmt.Sprintf("%x\r\n%s", n-n/2, blob[n/2:])
	tests := []struct {
		is, framing, body string
		known             bool
	}{
		{"behind the header", plain, "", false},
		{"behind the first byte", plain, string(blob[:1]), false},
		{"in the middle", plain, string(blob[:n/2]), false},
		{"before the last byte", plain, string(blob[:n-1]), false},
		{"when all came", plain, string(blob), true},
		{"behind the header, in chunks", chunked, "", false},
		{"in a chunk's length", chunked, first[:1], false},
		{"in a chunk", chunked, first[:len(first)/2], false},
		{"between two chunks", chunked, first, false},
		{"before the last byte of the last chunk", chunked, first + second[:len(second)-1], false},
		{"behind the last byte of the last chunk", chunked, first + second, false},
		{"before the final chunk", chunked, first + second + "\r\n", false},
		{"in the final chunk", chunked, first + second + "\r\n0\r\n", false},
		{"when all chunks came", chunked, first + second + "\r\n0\r\n\r\n", true},
	}
	for _, method := range []string{http.MethodPut, http.MethodPatch} {
		for _, tt := range tests {
			t.Run(method+" "+tt.is, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, "http://upstream", func(c *proxy.Config) { c.Transport = through(newObliging()) })
				target := withDigest(startUpload(t, p.URL, "a"), digest.FromBytes(blob))
				c := dialRaw(t, p.URL)
				head := rawRequest(method, strings.TrimPrefix(target, p.URL), "Content-Type: "+octets, tt.framing)
				if _, err := io.WriteString(c, head+tt.body); err != nil {
					t.Fatal(err)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				eventually(t, func() bool { return p.Logs.FilterMessage("request").Len() == 2 })
				if method == http.MethodPatch {
					want(t, http.StatusCreated, do(t, http.MethodPut, target, nil))
				}
				if known := p.knows(t, blob); known != tt.known {
					t.Errorf("the DiffID index knows the blob: %t, want %t", known, tt.known)
				}
				if known := p.facts(t); !tt.known && len(known) > 0 {
					t.Errorf("the DiffID index learned %v", known)
				}
			})
		}
	}
}

// A client that is cut off in the header made no request.
func TestCutHeader(t *testing.T) {
	t.Parallel()
	log := recordRequests(new(discarder))
	p := newProxy(t, newUpstream(t, log).URL, nil)
	target := withDigest(startUpload(t, p.URL, "a"), digest.FromString("x"))
	log.take()
	c := dialRaw(t, p.URL)
	head := rawRequest(http.MethodPut, strings.TrimPrefix(target, p.URL), "Content-Length: 1")
	if _, err := io.WriteString(c, strings.TrimSuffix(head, "\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	do(t, http.MethodGet, p.URL+"/v2/", nil) // the proxy goes on
	if diff := cmp.Diff([]string{"GET /v2/ len=0"}, log.take()); diff != "" {
		t.Errorf("upstream requests (-want +got)\n%s", diff)
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}
