package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/mux"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"diffgate/proxy"
	"diffgate/verify/index"
)

// A reading is what a server makes of the path of a request.
type reading struct{ Route, Name, Reference, Digest string }

// A pair is the Proxy and the router of distribution, side by side.
type pair struct {
	proxy  *proxy.Proxy
	logs   *observer.ObservedLogs
	router *mux.Router
	sent   []*http.Request // that the Proxy would have sent to the upstream
}

// newPair returns a pair whose Proxy judges nothing and talks to nobody.
func newPair(t testing.TB) *pair {
	t.Helper()
	pr := &pair{router: v2.RouterWithPrefix("")}
	core, logs := observer.New(zap.InfoLevel)
	pr.logs = logs
	p, err := proxy.New(proxy.Config{
		Upstream:  &url.URL{Scheme: "http", Host: "upstream"},
		Index:     index.NewMemory(),
		Transport: pr,
		Mode:      proxy.Off,
		Log:       zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	pr.proxy = p
	return pr
}

// RoundTrip implements http.RoundTripper.
func (pr *pair) RoundTrip(r *http.Request) (*http.Response, error) {
	pr.sent = append(pr.sent, r)
	return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody}, nil
}

// registry returns how distribution reads a request; it has no Route when it
// answers that there is nothing, or points to another path.
func (pr *pair) registry(r *http.Request) reading {
	var m mux.RouteMatch
	if !pr.router.Match(r, &m) || m.Route == nil || m.Handler != nil {
		return reading{}
	}
	return reading{m.Route.GetName(), m.Vars["name"], m.Vars["reference"], m.Vars["digest"]}
}

// ours serves a request and returns how the Proxy read it, and what the
// upstream got.
func (pr *pair) ours(r *http.Request) (reading, []*http.Request) {
	pr.sent = nil
	pr.proxy.ServeHTTP(httptest.NewRecorder(), r)
	var got reading
	for _, line := range pr.logs.TakeAll() {
		fields := line.ContextMap()
		word := func(key string) string { s, _ := fields[key].(string); return s }
		got = reading{word("route"), word("vars.name"), word("vars.reference"), word("vars.digest")}
	}
	return got, pr.sent
}

// readRequest parses a request as a server does; ok is false when a server
// would not.
func readRequest(method, target string) (r *http.Request, ok bool) {
	if strings.ContainsAny(method+target, "\r\n") {
		return nil, false
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: r\r\n\r\n")))
	if err != nil {
		return nil, false
	}
	r.RemoteAddr = "127.0.0.1:1"
	return r.WithContext(context.Background()), true
}

// check compares the two for one request line.
func (pr *pair) check(t testing.TB, method, target string) {
	t.Helper()
	r, ok := readRequest(method, target)
	if !ok || len(target) > 1000 { // of which the log would tell only the start
		return
	}
	there := pr.registry(r)
	here, sent := pr.ours(r)
	known := method == "PUT" || method == "DELETE" || method == "GET"
	if known && there.Route != "" && r.URL.RawQuery == "" { // a query that cannot be read is refused first
		if diff := cmp.Diff(there, here); diff != "" {
			t.Errorf("%s %q is read differently (-distribution +proxy)\n%s", method, target, diff)
		}
	}
	for _, out := range sent {
		var wire bytes.Buffer
		if err := out.Write(&wire); err != nil {
			t.Fatalf("%s %q: %v", method, target, err)
		}
		in, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil {
			t.Errorf("%s %q reaches the upstream as what it cannot parse: %v", method, target, err)
			continue
		}
		if method != "GET" && strings.Contains(in.RequestURI, "%") {
			t.Errorf("%s %q reaches the upstream escaped: %s", method, target, in.RequestURI)
		}
		then := pr.registry(in)
		if strings.Contains(here.Route, "diffid") || strings.HasPrefix(here.Route, "repo-") { // asks what the caller may know
			if in.Method != "GET" && in.Method != "HEAD" {
				t.Errorf("%s %q makes the proxy send %s %s", method, target, in.Method, in.RequestURI)
			}
			continue
		}
		if then.Route != "" && then != here {
			t.Errorf("%s %q was judged as %+v, and the upstream gets %s, which is %+v", method, target, here, in.RequestURI, then)
		}
	}
}

// Whenever the upstream's router finds a route, so do we, with the same
// repository, reference and digest; and what we forward is read there as we
// read it.
func FuzzParse(f *testing.F) {
	for _, target := range []string{
		"/v2/", "/v2/a/b/manifests/t", "/v2/a%2Fb/manifests/t", "/v2/a/b%2Fmanifests%2Ft", "/v2/a/%6Danifests/t",
		"/v2/a/blobs/sha256%3A" + objectDigest[7:], "/v2/a/blobs/sha512:" + strings.Repeat("0", 128),
		"/v2/a/manifests/b/manifests/c", "/v2/a/blobs/uploads/manifests/t", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/u~1",
		"//v2/a/manifests/t", "/v2/a/../b/manifests/t", "/v2/a/manifests/t/", "/v2/a/manifests/t?x=%zz;y", "http://h/v2/a/manifests/t",
		"/v2/H.example:80/a/manifests/t", "/v2/[::1]:5000/a/manifests/t", "/v2/_diffids", "/v2/a/_diffids/blobs/" + objectDigest,
		"/v2/a/manifests/sha256:" + strings.Repeat("a", 31) + "/manifests/t", "/v2/a;b/manifests/t", "/v2/a/manifests/\u00fc",
		"/v2/_catalog", "/v2/a/tags/list", "/v2/a/tags/list/manifests/t", "*", "/v2/a/manifests/t%00", "/%76%32/a/manifests/t",
	} {
		for _, method := range []string{"PUT", "DELETE", "GET"} {
			f.Add(method, target)
		}
	}
	pr := newPair(f)
	f.Fuzz(func(t *testing.T, method, target string) { pr.check(t, method, target) })
}

// Names made of words that are routes too are split where distribution splits
// them.
func TestNames(t *testing.T) {
	t.Parallel()
	words := []string{"a", "blobs", "uploads", "manifests", "tags", "list", "referrers"}
	ends := []string{
		"manifests/t", "manifests/" + objectDigest, "blobs/" + objectDigest, "blobs/uploads/", "blobs/uploads/u", "blobs/uploads/u~",
		"tags/list", "referrers/" + objectDigest, "_diffids/blobs/" + objectDigest,
	}
	pr := newPair(t)
	for n := range len(words) * len(words) * len(words) {
		name := fmt.Sprintf("%s/%s/%s", words[n%7], words[n/7%7], words[n/49])
		for _, end := range ends {
			pr.check(t, "DELETE", "/v2/"+name+"/"+end)
			pr.check(t, "PUT", "/v2/"+name+"/"+end)
		}
	}
	deep := strings.TrimSuffix(strings.Repeat("a/", 30), "/")
	pr.check(t, "PUT", "/v2/"+deep+"/manifests/t")
}
