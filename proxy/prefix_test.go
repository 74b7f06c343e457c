package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify/verifytest"
)

// Where an answer leads, a client that knows nothing of the upstream's path
// comes back through the proxy.
func TestPrefixIsTakenOff(t *testing.T) {
	t.Parallel()
	const seal = "?_state=a%2Fb=="
	tests := []struct {
		name     string
		status   int
		location string // UPSTREAM stands for the upstream's own host
		link     string
		trusted  []string // headers of a trusted outer proxy
		want     []string // Location and Link
	}{
		{"a path", 202, "/reg/v2/a/blobs/uploads/u" + seal, "", nil, []string{"/v2/a/blobs/uploads/u" + seal, ""}},
		{"the client's host", 202, "http://client.example/reg/v2/a/blobs/uploads/u" + seal, "", nil, []string{"http://client.example/v2/a/blobs/uploads/u" + seal, ""}},
		{"the upstream's own host", 202, "http://UPSTREAM/reg/v2/x" + seal, "", nil, []string{"http://client.example/v2/x" + seal, ""}},
		{"a host that the upstream was configured with", 202, "https://registry.example/reg/v2/x", "", nil, []string{"http://client.example/v2/x", ""}},
		{"a client that sees another host", 201, "https://outer.example/reg/v2/x", "", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "outer.example"},
			[]string{"https://outer.example/v2/x", ""}},
		{"the same in the new way", 201, "https://outer.example/reg/v2/x", "", []string{"Forwarded", "host=outer.example;proto=https"}, []string{"https://outer.example/v2/x", ""}},
		{"an upstream where the path was taken off", 202, "/v2/a/blobs/uploads/u", "", nil, []string{"/v2/a/blobs/uploads/u", ""}},
		{"a repository of the path's name", 202, "/reg/v2/reg/v2/blobs/uploads/u", "", nil, []string{"/v2/reg/v2/blobs/uploads/u", ""}},
		{"escapes", 202, "/reg/v2/a/blobs/uploads/u%2Fv%3D", "", nil, []string{"/v2/a/blobs/uploads/u%2Fv%3D", ""}},
		{"a redirect of the upstream to itself", 301, "/reg/v2/", "", nil, []string{"/v2/", ""}},
		{"storage that happens to have the path", 307, "https://storage.example/reg/v2/blob", "", nil, []string{"https://storage.example/reg/v2/blob", ""}},
		{"the next page", 200, "", `</reg/v2/a/tags/list?last=b%2Fc&n=2>; rel="next"`, nil, []string{"", `</v2/a/tags/list?last=b%2Fc&n=2>; rel="next"`}},
		{"the next page with the client's host", 200, "", `<http://client.example/reg/v2/_catalog?n=1>; rel="next"`, nil, []string{"", `<http://client.example/v2/_catalog?n=1>; rel="next"`}},
		{"a link to elsewhere", 200, "", `<https://docs.example/reg/v2/>; rel="help"`, nil, []string{"", `<https://docs.example/reg/v2/>; rel="help"`}},
		{"a link that is none", 200, "", "</reg/v2/a", nil, []string{"", "</reg/v2/a"}},
	}
	var answer func(http.ResponseWriter)
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) })).URL
	for _, tt := range tests {
		answer = func(w http.ResponseWriter) {
			for name, value := range map[string]string{"Location": tt.location, "Link": tt.link} {
				if value != "" {
					w.Header().Set(name, strings.Replace(value, "UPSTREAM", strings.TrimPrefix(upstream, "http://"), 1))
				}
			}
			w.WriteHeader(tt.status)
		}
		trusted := ""
		if tt.trusted != nil {
			trusted = "127.0.0.1/32"
		}
		p := newProxy(t, upstream+"/reg", trust(trusted))
		req := newRequest(t, http.MethodGet, p.URL+"/v2/a/tags/list", nil, tt.trusted...)
		req.Host = "client.example"
		a := send(t, req)
		if diff := cmp.Diff(tt.want, []string{a.Header.Get("Location"), a.Header.Get("Link")}); diff != "" || a.Status != tt.status {
			t.Errorf("%s: got %d; Location and Link (-want +got)\n%s", tt.name, a.Status, diff)
		}
	}
}

// What the proxy asks for itself is under the path too. The upload that it opens
// to learn of a challenge, it ends.
func TestChallengeUnderAPath(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	there := recordRequests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/reg/v2/app/blobs/uploads/u?_state=x%3D")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	p := newProxy(t, newUpstream(t, there).URL+"/reg", nil)
	if got := pushManifest(t, p.URL, img); got.Status != http.StatusUnauthorized {
		t.Errorf("got %d %s, want 401", got.Status, got.Body)
	}
	want := []string{
		"GET /reg/v2/app/blobs/" + img.ConfigDigest().String() + " len=0",
		"POST /reg/v2/app/blobs/uploads/ len=0",
		"DELETE /reg/v2/app/blobs/uploads/u?_state=x%3D len=0",
	}
	if diff := cmp.Diff(want, there.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
