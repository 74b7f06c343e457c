package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A detour passes requests on, but for those that its function answers.
type detour struct {
	next http.Handler

	mu   sync.Mutex // guards take
	take func(http.ResponseWriter, *http.Request) bool
}

// answerWith makes f answer; it returns false for what is to be passed on.
func (d *detour) answerWith(f func(http.ResponseWriter, *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take = f
}

// ServeHTTP implements http.Handler.
func (d *detour) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	take := d.take
	d.mu.Unlock()
	if take == nil || !take(w, r) {
		d.next.ServeHTTP(w, r)
	}
}

// newDetour starts a registry behind a detour.
func newDetour(t testing.TB) (*detour, *httptest.Server) {
	t.Helper()
	d := &detour{next: newRegistryHandler(t, nil)}
	return d, newUpstream(t, d)
}

// isBlobGet reports whether a request reads the given blob.
func isBlobGet(r *http.Request, dgst digest.Digest) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+dgst.String())
}

// handlerTransport is a RoundTripper whose upstream is a handler in the same
// goroutine.
type handlerTransport struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	h.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r
	return res, nil
}

// An ociError is one error of an answer.
type ociError struct {
	Code    string
	Message string
	Detail  json.RawMessage
}

// An errorDetail is what the gate tells programs.
type errorDetail struct {
	Reason       verify.Reason
	Cause        verify.Cause
	Layer        *int
	Digest       digest.Digest
	ConfigDiffID verify.DiffID `json:"config_diff_id"`
	DiffID       verify.DiffID `json:"diff_id"`
	Manifest     digest.Digest
	Runtimes     []verify.Runtime
	Report       string
}

// errors returns the OCI errors of the answer.
func (a answer) errors(t testing.TB) []ociError {
	t.Helper()
	var body struct{ Errors []ociError }
	a.decode(t, &body)
	return body.Errors
}

// decode reads the JSON of the answer.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("%v in the answer %d %q", err, a.Status, a.Body)
	}
}

// detail returns the detail of an error.
func (e ociError) detail(t testing.TB) errorDetail {
	t.Helper()
	var d errorDetail
	if len(e.Detail) > 0 {
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			t.Fatalf("%v in the detail %s", err, e.Detail)
		}
	}
	return d
}

// pushBlobs pushes what an image's manifest names.
func pushBlobs(t testing.TB, base, repo string, img verifytest.Image) {
	t.Helper()
	for _, blob := range img.Blobs() {
		pushBlob(t, base, repo, blob)
	}
}

// storedManifest returns the manifest that a registry holds, or nil.
func storedManifest(t testing.TB, base, repo, reference string) []byte {
	t.Helper()
	a := do(t, http.MethodGet, base+"/v2/"+repo+"/manifests/"+reference, nil, "Accept", "*/*",
		"Accept", "application/vnd.oci.image.manifest.v1+json", "Accept", verifytest.DockerManifest,
		"Accept", "application/vnd.oci.image.index.v1+json", "Accept", "application/vnd.docker.distribution.manifest.list.v2+json")
	switch a.Status {
	case http.StatusOK:
		return a.Body
	case http.StatusNotFound:
		return nil
	}
	t.Fatalf("GET manifest %s of %s: got %d %s, want 200 or 404", reference, repo, a.Status, a.Body)
	return nil
}

// readBody reads the body of a request that a test's upstream got.
func readBody(t testing.TB, r io.Reader) []byte {
	t.Helper()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return body
}
