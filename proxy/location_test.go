package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A client that follows a Location comes back through the proxy, as the client
// sees it, or is told that it cannot.
func TestLocation(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://registry.example/v2/a/blobs/uploads/u?_state=Zm9v%2D-bar==&x=%2f"
	tests := []struct {
		name     string
		method   string
		status   int
		location string   // UPSTREAM stands for the upstream's own host
		trusted  []string // headers of a trusted outer proxy
		want     string
	}{
		{"a path", "POST", 202, "/v2/a/blobs/uploads/u?_state=a==", nil, "/v2/a/blobs/uploads/u?_state=a=="},
		{"the host that the client asked for", "POST", 202, "http://client.example/v2/x", nil, "http://client.example/v2/x"},
		{"the upstream's own host", "POST", 202, "http://UPSTREAM/v2/x?a=b", nil, "http://client.example/v2/x?a=b"},
		{"a host that the upstream was configured with", "POST", 202, elsewhere, nil, strings.Replace(elsewhere, "https://registry.example", "http://client.example", 1)},
		{"the right host under another scheme", "POST", 202, "https://client.example/v2/x", nil, "http://client.example/v2/x"},
		{"somebody's credentials", "POST", 202, "http://user:secret@registry.example/v2/x", nil, "http://client.example/v2/x"},
		{"a host without a scheme", "POST", 202, "//registry.example/v2/x", nil, "http://client.example/v2/x"},
		{"where a blob is", "POST", 201, "https://registry.example/v2/a/blobs/" + objectDigest, nil, "http://client.example/v2/a/blobs/" + objectDigest},
		{"a place for uploads that is no registry", "POST", 202, "https://uploads.example/put/here?sig=x", nil, "502 UNAVAILABLE"},
		{"a Location that nobody can read", "POST", 202, "http://[::1/v2/x", nil, "502 UNAVAILABLE"},
		{"storage, in a redirect", "GET", 307, "https://storage.example/bucket/blob?sig=a%2Fb==", nil, "https://storage.example/bucket/blob?sig=a%2Fb=="},
		{"storage, in a redirect of a write", "POST", 307, "https://storage.example/bucket/blob?sig=x", nil, "502 UNAVAILABLE"},
		{"the right host under another scheme, in a redirect of a write", "POST", 308, "https://client.example/v2/a/", nil, "502 UNAVAILABLE"},
		{"the host that the client asked for, in a redirect of a write", "POST", 307, "http://client.example/v2/x", nil, "http://client.example/v2/x"},
		{"the client's host and somebody's credentials", "POST", 202, "http://user:secret@client.example/v2/x?a=b", nil, "http://client.example/v2/x?a=b"},
		{"a host behind a backslash", "POST", 202, `/\evil.example/v2/x`, nil, "502 UNAVAILABLE"},
		{"a host behind two backslashes", "POST", 202, `\\evil.example/v2/x`, nil, "502 UNAVAILABLE"},
		{"a path that begins with a backslash", "POST", 202, `\evil.example`, nil, "502 UNAVAILABLE"},
		{"a backslash that ends the host", "POST", 202, `http://client.example\@evil.example/v2/x`, nil, "502 UNAVAILABLE"},
		{"a host behind three slashes", "POST", 202, "///evil.example/v2/x", nil, "502 UNAVAILABLE"},
		{"a scheme and three slashes", "POST", 202, "http:///evil.example/v2/x", nil, "502 UNAVAILABLE"},
		{"a scheme and no slash", "POST", 202, "https:evil.example/v2/x", nil, "502 UNAVAILABLE"},
		{"a host behind a backslash, in a redirect of a write", "POST", 307, `/\evil.example/v2/x`, nil, "502 UNAVAILABLE"},
		{"where an upload goes on, as a read is told", "GET", 204, `/\evil.example/v2/x`, nil, "502 UNAVAILABLE"},
		{"the upstream itself, in a redirect of a write", "POST", 307, "http://user@UPSTREAM/v2/a/", nil, "http://client.example/v2/a/"},
		{"the upstream itself, in a redirect", "POST", 301, "http://UPSTREAM/v2/a/", nil, "http://client.example/v2/a/"},
		{"a client behind TLS", "POST", 202, elsewhere, []string{"X-Forwarded-Proto", "https"}, strings.Replace(elsewhere, "registry", "client", 1)},
		{"a client that sees another host", "POST", 202, elsewhere, []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "outer.example:8443, inner"},
			strings.Replace(elsewhere, "registry.example", "outer.example:8443", 1)},
		{"a client that sees another host, in the new way", "POST", 202, elsewhere, []string{"Forwarded", `for=6.6.6.6; Host="outer.example";proto=https, for=7.7.7.7;host=inner`},
			strings.Replace(elsewhere, "registry.example", "outer.example", 1)},
	}
	var answer func(http.ResponseWriter)
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	host := strings.TrimPrefix(upstream.URL, "http://")
	for _, tt := range tests {
		answer = func(w http.ResponseWriter) {
			w.Header().Set("Location", strings.Replace(tt.location, "UPSTREAM", host, 1))
			w.WriteHeader(tt.status)
		}
		trusted := ""
		if tt.trusted != nil {
			trusted = "127.0.0.1/32"
		}
		p := newProxy(t, upstream.URL, trust(trusted))
		req := newRequest(t, tt.method, p.URL+"/v2/a/blobs/uploads/", nil, tt.trusted...)
		req.Host = "client.example"
		a := send(t, req)
		got := a.Header.Get("Location")
		if a.Status != tt.status {
			got = fmt.Sprintf("%d %s", a.Status, a.codes())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// A client of HTTP/1.0 may name no host; a path brings it back too.
func TestLocationWithoutHost(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, ok := r.Header["X-Forwarded-Host"]; ok {
			t.Errorf("the upstream is told that the client asked for the host %q", host)
		}
		w.Header().Set("Location", "https://registry.example/v2/x?y=z")
		w.WriteHeader(http.StatusAccepted)
	}))
	p := newProxy(t, upstream.URL, nil)
	a := sendRaw(t, p.URL, "POST /v2/a/blobs/uploads/ HTTP/1.0\r\n\r\n")
	if got := a.Header.Get("Location"); got != "/v2/x?y=z" {
		t.Errorf("got Location %q, want a path", got)
	}
}

// However a registry spells its Locations, every request of a push goes
// through the proxy, and all is learned on the way.
func TestPushThroughAnyLocation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*configuration.Configuration)
	}{
		{"the client's host", nil},
		{"a configured host", func(c *configuration.Configuration) { c.HTTP.Host = "https://registry.example" }},
		{"relative", func(c *configuration.Configuration) { c.HTTP.RelativeURLs = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, newUpstream(t, newRegistryHandler(t, tt.edit)).URL, nil)
			img := verifytest.Honest(1)
			if a := pushImage(t, p.URL, "a/b", "t", img); a.Status != http.StatusCreated {
				t.Fatalf("got %d %s, want 201", a.Status, a.Body)
			}
			for dgst, blob := range img.Blobs() {
				if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, dgst)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
		})
	}
}

// A client that reaches us through TLS gets Locations with https.
func TestLocationBehindOurOwnTLS(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	s := httptest.NewTLSServer(p.Proxy)
	t.Cleanup(s.Close)
	res, err := s.Client().Post(s.URL+"/v2/a/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || to.Scheme+"://"+to.Host != s.URL {
		t.Errorf("got Location %s, %v; want it at %s", to, err, s.URL)
	}
}
