package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ourExtension = `{"name":"_diffids","url":"https://github.com/opencontainers/image-spec/blob/main/config.md#layer-diffid",` +
	`"description":"The DiffID of each blob, and whether configs tell the truth about their layers","endpoints":["_diffids"]}`

// A client that asks which extensions there are learns of those of the
// upstream, as it tells them, and of ours.
func TestDiscover(t *testing.T) {
	t.Parallel()
	const theirs = `{"name":"_zot","url":"https://zot.test","description":"search","endpoints":["_zot/search"],"since":2}`
	for _, tt := range []struct {
		is     string
		status int // of the upstream's list
		body   string
		want   string // body, or code
	}{
		{"the upstream has none", 404, "404 page not found\n", `{"extensions":[` + ourExtension + "]}\n"},
		{"it does not know the method", 405, "", `{"extensions":[` + ourExtension + "]}\n"},
		{"it has an empty list", 200, `{"extensions":[]}`, `{"extensions":[` + ourExtension + "]}\n"},
		{"it has null", 200, `{"extensions":null}`, `{"extensions":[` + ourExtension + "]}\n"},
		{"it has one", 200, `{"extensions":[` + theirs + `]}`, `{"extensions":[` + theirs + "," + ourExtension + "]}\n"},
		{"its list is no JSON", 200, "<html>", "UNAVAILABLE"},
		{"its list is something else", 200, `{"extensions":3}`, "UNAVAILABLE"},
	} {
		d, reg := newDetour(t)
		d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/_oci/ext/discover" {
				return false
			}
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.body)
			return true
		})
		got := get(t, newProxy(t, reg.URL, nil).URL+"/v2/_oci/ext/discover")
		if got.codes() != "" {
			if got.Status != http.StatusBadGateway || got.codes() != tt.want {
				t.Errorf("%s: got %d %s, want 502 %s", tt.is, got.Status, got.Body, tt.want)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, string(got.Body)); got.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: got %d (-want +got):\n%s", tt.is, got.Status, diff)
		}
		if ct, tag := got.Header.Get("Content-Type"), got.Header.Get("ETag"); ct != "application/json" || tag == "" {
			t.Errorf("%s: got Content-Type %q, ETag %q", tt.is, ct, tag)
		}
	}
}

// The list of all digests is for those who may list the catalog. Where there
// is none, nobody may; the way that stays is named.
func TestNoCatalog(t *testing.T) {
	t.Parallel()
	const want = `{"errors":[{"code":"DENIED","message":"the registry has no catalog, so nobody may list all digests; ask for /v2/\u003cname\u003e/_diffids/blobs/\u003cdigest\u003e"}]}` + "\n"
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed} {
		d, reg := newDetour(t)
		d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/_catalog" {
				w.WriteHeader(status)
				return true
			}
			return false
		})
		p := newProxy(t, reg.URL, nil)
		p.learn(t, gzipFact(1))
		for _, path := range []string{"/v2/_diffids", "/v2/_diffids/" + gzipFact(1).Digest.String()} {
			if got := get(t, p.URL+path); got.Status != http.StatusForbidden || string(got.Body) != want {
				t.Errorf("%s when the catalog is %d: got %d %s, want 403 %s", path, status, got.Status, got.Body, want)
			}
		}
	}
}
