package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// objectDigest is the digest of an empty JSON object.
const objectDigest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

// newEcho starts an upstream that answers 200 and an empty object to
// everything.
func newEcho(t testing.TB) (*requestLog, string) {
	t.Helper()
	log := recordRequests(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("From-Upstream", "yes")
		fmt.Fprint(w, "{}")
	}))
	return log, newUpstream(t, log).URL
}

// Every route, and what happens to each method. What is not listed is refused
// with 405, and the upstream sees nothing of it.
func TestRoutes(t *testing.T) {
	t.Parallel()
	const (
		reads  = "GET HEAD OPTIONS"
		writes = "POST PATCH PUT DELETE"
	)
	tests := []struct {
		path   string
		passes string // to the upstream, as sent
		ours   string // answered here
		judged string // refused here: a manifest of no bytes
	}{
		{path: "/v2/", passes: reads},
		{path: "/v2/_catalog", passes: reads},
		{path: "/v2/a/b/tags/list", passes: reads},
		{path: "/v2/a/b/referrers/" + objectDigest, passes: reads},
		{path: "/v2/a/b/blobs/" + objectDigest, passes: reads + " DELETE"},
		{path: "/v2/a/b/blobs/uploads/", passes: reads + " POST"},
		{path: "/v2/a/b/blobs/uploads/5f7b-4e_2.1=", passes: reads + " PATCH PUT DELETE"},
		{path: "/v2/a/b/blobs/uploads/wide~id:of@another+registry", passes: reads + " PATCH PUT DELETE"},
		{path: "/v2/a/b/manifests/latest", passes: reads + " DELETE", judged: "PUT"},
		{path: "/v2/a/b/manifests/" + objectDigest, passes: reads + " DELETE", judged: "PUT"},
		// The DiffID index is asked after the upstream was asked whether the
		// caller may; that request is not the caller's own.
		{path: "/v2/_diffids", ours: reads},
		{path: "/v2/_diffids/", ours: reads},
		{path: "/v2/_diffids/" + objectDigest, ours: reads},
		{path: "/v2/a/b/_diffids/blobs/" + objectDigest, ours: reads},
		{path: "/v2/a/b/_diffids/manifests/latest", ours: reads},
		{path: "/v2/_oci/ext/discover", ours: reads},
		// Unknown reads pass: other registries know more paths.
		{path: "/", passes: reads},
		{path: "/token", passes: reads},
		{path: "/v2/a/b/unknown/xyz", passes: reads},
		{path: "/v2/a/b/_oci/ext/discover", passes: reads},
		{path: "/v2/_diffids/manifests/latest", passes: reads},
	}
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	for _, tt := range tests {
		for _, method := range strings.Fields(reads + " " + writes) {
			a := sendRaw(t, p.URL, rawRequest(method, tt.path, "Content-Length: 0"))
			seen := log.take()
			asSent := fmt.Sprintf("%s %s len=0", method, tt.path)
			switch {
			case contains(tt.passes, method):
				if diff := cmp.Diff([]string{asSent}, seen); diff != "" || a.Status != http.StatusOK {
					t.Errorf("%s: got %d, want it passed on; requests (-want +got)\n%s", asSent, a.Status, diff)
				}
			case contains(tt.ours, method):
				if a.Header.Get("From-Upstream") != "" || a.Header.Get("Docker-Distribution-Api-Version") == "" {
					t.Errorf("%s: got %d and upstream requests %q, want an answer of the proxy", asSent, a.Status, seen)
				}
			case contains(tt.judged, method):
				if a.Status != http.StatusBadRequest || len(seen) > 0 {
					t.Errorf("%s: got %d and upstream requests %q, want 400 and none", asSent, a.Status, seen)
				}
			default:
				if a.Status != http.StatusMethodNotAllowed || a.codes() != "UNSUPPORTED" || len(seen) > 0 {
					t.Errorf("%s: got %d %s and upstream requests %q, want 405 UNSUPPORTED and none", asSent, a.Status, a.codes(), seen)
				}
				allowed := strings.Fields(tt.passes + " " + tt.ours + " " + tt.judged)
				got := strings.Split(a.Header.Get("Allow"), ", ")
				slices.Sort(allowed)
				slices.Sort(got)
				if diff := cmp.Diff(allowed, got); diff != "" {
					t.Errorf("%s: Allow (-want +got)\n%s", asSent, diff)
				}
			}
		}
	}
}

func contains(list, word string) bool { return slices.Contains(strings.Fields(list), word) }

// A write must be spelled the one way that every server reads alike. What
// passes reaches the upstream as it was parsed.
func TestSpellings(t *testing.T) {
	t.Parallel()
	const digest = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	colon := strings.Replace(digest, ":", "%3A", 1)
	long := strings.Repeat("a", 255)
	tests := []struct {
		name   string
		method string // what is sent to path
		path   string
		want   string // what the upstream sees of it, or the refusal
	}{
		{"an escaped slash in a name", "DELETE", "/v2/a%2Fb/manifests/t", "400 NAME_INVALID"},
		{"an escaped slash behind a name", "DELETE", "/v2/a/b%2Fmanifests%2Ft", "400 NAME_INVALID"},
		{"an escaped letter in a route", "DELETE", "/v2/a/b/%6Danifests/t", "400 NAME_INVALID"},
		{"an escaped letter in a name", "PUT", "/v2/g%6f%6fd/manifests/t", "400 NAME_INVALID"},
		{"an escaped letter in v2", "PUT", "/%76%32/a/manifests/t", "400 NAME_INVALID"},
		{"escaped dots", "PUT", "/v2/a/%2e%2e/manifests/t", "405 UNSUPPORTED"},
		{"escaped dots and slashes", "PUT", "/v2/x%2F..%2Fsecret/manifests/t", "405 UNSUPPORTED"},
		{"escaped twice", "PUT", "/v2/a%252Fb/manifests/t", "405 UNSUPPORTED"},
		{"two slashes at the start", "PUT", "//v2/a/manifests/t", "405 UNSUPPORTED"},
		{"two slashes before the name", "PUT", "/v2//a/manifests/t", "405 UNSUPPORTED"},
		{"two slashes before the tag", "PUT", "/v2/a/manifests//t", "405 UNSUPPORTED"},
		{"a dot segment", "PUT", "/v2/./a/manifests/t", "405 UNSUPPORTED"},
		{"a double dot segment", "PUT", "/v2/a/x/../manifests/t", "405 UNSUPPORTED"},
		{"a slash at the end of a manifest", "PUT", "/v2/a/manifests/t/", "405 UNSUPPORTED"},
		{"a slash at the end of a session", "PUT", "/v2/a/blobs/uploads/u/", "405 UNSUPPORTED"},
		{"a slash in a session of another registry", "PUT", "/v2/a/blobs/uploads/u~/v", "405 UNSUPPORTED"},
		{"no slash behind uploads", "POST", "/v2/a/blobs/uploads", "405 UNSUPPORTED"},
		{"an escaped colon in a digest", "DELETE", "/v2/a/blobs/" + colon, "DELETE /v2/a/blobs/" + digest + " len=0"},
		{"an escaped colon in small letters", "DELETE", "/v2/a/blobs/" + strings.ToLower(colon), "DELETE /v2/a/blobs/" + digest + " len=0"},
		{"an escaped colon in a read", "GET", "/v2/a/manifests/" + colon, "GET /v2/a/manifests/" + digest + " len=0"},
		{"an escaped slash in a read", "GET", "/v2/a%2Fb/manifests/t", "GET /v2/a/b/manifests/t len=0"},
		{"V2", "PUT", "/V2/a/manifests/t", "405 UNSUPPORTED"},
		{"capitals in a name", "PUT", "/v2/Repo/manifests/t", "405 UNSUPPORTED"},
		{"capitals in a host before the name", "DELETE", "/v2/Host.example:5000/a/manifests/t", "DELETE /v2/Host.example:5000/a/manifests/t len=0"},
		{"capitals in a session of another registry", "PATCH", "/v2/a/blobs/uploads/ABC", "PATCH /v2/a/blobs/uploads/ABC len=0"},
		{"a semicolon", "PUT", "/v2/a;b/manifests/t", "405 UNSUPPORTED"},
		{"a semicolon behind a tag", "PUT", "/v2/a/manifests/t;a=b", "405 UNSUPPORTED"},
		{"an escaped question mark", "PUT", "/v2/a/manifests/t%3Fx", "405 UNSUPPORTED"},
		{"an escaped hash sign", "PUT", "/v2/a/manifests/t%23x", "405 UNSUPPORTED"},
		{"an escaped zero byte", "PUT", "/v2/a/manifests/t%00", "405 UNSUPPORTED"},
		{"an escaped line end", "PUT", "/v2/a/manifests/t%0d%0aX:y", "405 UNSUPPORTED"},
		{"a backslash", "PUT", `/v2/a\b/manifests/t`, "405 UNSUPPORTED"},
		{"an escaped backslash", "PUT", "/v2/a%5Cb/manifests/t", "405 UNSUPPORTED"},
		{"letters beyond ASCII", "PUT", "/v2/a/manifests/\u00fc", "405 UNSUPPORTED"},
		{"our own path, escaped", "PUT", "/v2/%5fdiffids", "400 NAME_INVALID"},
		{"a name of 255 bytes", "DELETE", "/v2/" + long + "/manifests/t", "DELETE /v2/" + long + "/manifests/t len=0"},
		{"a name of 256 bytes", "DELETE", "/v2/" + long + "a/manifests/t", "400 NAME_INVALID"},
		{"a tag of 129 bytes", "PUT", "/v2/a/manifests/" + long[:129], "405 UNSUPPORTED"},
		{"an unclean read", "GET", "/v2/a/../b/./c//d", "GET /v2/a/../b/./c//d len=0"},
		{"an unknown read, escaped", "GET", "/v2/%41%2f;x/y", "GET /v2/%41%2f;x/y len=0"},
		{"a host in the request line", "GET", "http://other.example/v2/", "GET /v2/ len=0"},
		{"a host and a manifest in the request line", "DELETE", "http://other.example/v2/a/manifests/t", "DELETE /v2/a/manifests/t len=0"},
		{"a host and no path in the request line", "GET", "http://other.example", "400 UNSUPPORTED"},
	}
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	for _, tt := range tests {
		a := sendRaw(t, p.URL, rawRequest(tt.method, tt.path, "Content-Length: 0"))
		got := log.take()
		if a.Status != http.StatusOK {
			got = append(got, fmt.Sprintf("%d %s", a.Status, a.codes()))
		}
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Errorf("%s: %s %.80s (-want +got)\n%s", tt.name, tt.method, tt.path, diff)
		}
	}
}

// Requests that are no requests of a registry are refused.
func TestMethods(t *testing.T) {
	t.Parallel()
	log, upstream := newEcho(t)
	p := newProxy(t, upstream, nil)
	for _, line := range []string{
		"CONNECT r:443", "CONNECT /v2/", "TRACE /v2/", "PRI /v2/", "PROPFIND /v2/", "MKCOL /v2/a/manifests/t",
		"put /v2/a/manifests/t", "Put /v2/a/manifests/t", strings.Repeat("A", 8192) + " /v2/a/manifests/t",
	} {
		method, target, _ := strings.Cut(line, " ")
		a := sendRaw(t, p.URL, rawRequest(method, target))
		if a.Status != http.StatusMethodNotAllowed || a.codes() != "UNSUPPORTED" {
			t.Errorf("%.40s: got %d %s, want 405 UNSUPPORTED", line, a.Status, a.codes())
		}
	}
	// The registry ignores it, and so do we: this is a POST, and refused.
	a := do(t, http.MethodPost, p.URL+"/v2/a/manifests/t", []byte("{}"), "X-HTTP-Method-Override", "PUT")
	if a.Status != http.StatusMethodNotAllowed {
		t.Errorf("POST that would like to be a PUT: got %d, want 405", a.Status)
	}
	if seen := log.take(); len(seen) > 0 {
		t.Errorf("the upstream saw %q", seen)
	}
}
