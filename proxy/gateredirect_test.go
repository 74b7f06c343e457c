package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// redirectBlobs makes a registry answer reads of blobs with a redirect.
func redirectBlobs(d *detour, to func(dgst string) string) {
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		_, dgst, ok := strings.Cut(r.URL.Path, "/blobs/")
		if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
			return false
		}
		w.Header().Set("Location", to(dgst))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
}

// newStorage starts a storage service that holds an image's blobs. Redirects of
// its own lead from /3/ to /2/ and so on.
func newStorage(t testing.TB, requests *[]*http.Request, img verifytest.Image) *httptest.Server {
	t.Helper()
	return newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests = append(*requests, r)
		hops, dgst, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if n := strings.Index("0123456789", hops); n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d/%s?signature=next", n-1, dgst), http.StatusFound)
			return
		}
		_, _ = w.Write(img.Blobs()[digest.Digest(dgst)]) // the reader may not want it
	}))
}

// A registry may keep its blobs elsewhere. The gate goes after them, a few
// steps, and takes no credential along: the storage service is not the
// registry.
func TestTheGateFollowsRedirects(t *testing.T) {
	t.Parallel()
	for hops, status := range map[int]int{0: 201, 2: 201, 3: 502} { // behind the registry's own
		var requests []*http.Request
		img := verifytest.Honest(1)
		storage := newStorage(t, &requests, img)
		d, reg := newDetour(t)
		p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Fetches = 1 })
		pushBlobs(t, reg.URL, "app", img)
		redirectBlobs(d, func(dgst string) string { return fmt.Sprintf("%s/%d/%s?signature=first", storage.URL, hops, dgst) })
		mediaType, body := img.Manifest()
		got := do(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", body, "Content-Type", mediaType,
			"Authorization", "Bearer token", "Cookie", "session=1", "Proxy-Authorization", "Basic YTpi", "X-Registry-Auth", "x")
		if got.Status != status {
			t.Errorf("%d more redirects: got %d %s, want %d", hops, got.Status, got.Body, status)
		}
		if len(requests) == 0 {
			t.Errorf("%d more redirects: the storage service was not asked", hops)
		}
		for _, r := range requests {
			for _, h := range []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Registry-Auth", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Referer"} {
				if v := r.Header.Values(h); len(v) > 0 {
					t.Errorf("%d more redirects: the storage service got %s %q", hops, h, v)
				}
			}
			if want := strings.TrimPrefix(storage.URL, "http://"); r.Host != want || !strings.HasPrefix(r.URL.RawQuery, "signature=") {
				t.Errorf("%d more redirects: the storage service was asked for %s of %s, want %s", hops, r.URL, r.Host, want)
			}
		}
	}
}

// A registry on another machine cannot send the gate to services of this one,
// or of its link: they may trust whoever can reach them.
func TestTheGateIsNotSentHome(t *testing.T) {
	t.Parallel()
	var requests []*http.Request
	img := verifytest.Honest(1)
	storage := newStorage(t, &requests, img)
	d, reg := newDetour(t)
	pushBlobs(t, reg.URL, "app", img)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "registry.test:80" {
			return nil, fmt.Errorf("unwanted connection to %s", addr)
		}
		return dialLoopback(ctx, network, strings.TrimPrefix(reg.URL, "http://"))
	}}
	p, err := proxy.New(proxy.Config{Upstream: &url.URL{Scheme: "http", Host: "registry.test"}, Index: index.NewMemory(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	s := newUpstream(t, p)
	t.Cleanup(func() { s.Close(); p.Close(); transport.CloseIdleConnections() })
	_, port, _ := strings.Cut(strings.TrimPrefix(storage.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254", "[fe80::1%25lo]"} {
		redirectBlobs(d, func(dgst string) string { return "http://" + host + ":" + port + "/0/" + dgst })
		if got := pushManifest(t, s.URL, img); got.Status != http.StatusBadGateway || got.codes() != "UNAVAILABLE" {
			t.Errorf("to %s: got %d %s, want 502 UNAVAILABLE", host, got.Status, got.Body)
		}
	}
	if len(requests) > 0 {
		t.Errorf("the service on this machine was asked %d times", len(requests))
	}
	d.answerWith(nil)
	if got := pushManifest(t, s.URL, img); got.Status != http.StatusCreated {
		t.Errorf("without a redirect: got %d %s, want 201", got.Status, got.Body)
	}
}

// What was asked for over TLS is not fetched without.
func TestTheGateKeepsTLS(t *testing.T) {
	t.Parallel()
	var requests []*http.Request
	img := verifytest.Honest(1)
	storage := newStorage(t, &requests, img)
	d := &detour{next: newRegistryHandler(t, nil)}
	reg := httptest.NewTLSServer(d)
	t.Cleanup(reg.Close)
	transport, err := proxy.NewTransport(proxy.TransportConfig{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Transport = transport })
	redirectBlobs(d, func(dgst string) string { return storage.URL + "/0/" + dgst })
	if got := pushManifest(t, p.URL, img); got.Status != http.StatusBadGateway {
		t.Errorf("got %d %s, want 502", got.Status, got.Body)
	}
	if len(requests) > 0 {
		t.Errorf("the storage service was asked %d times", len(requests))
	}
}
