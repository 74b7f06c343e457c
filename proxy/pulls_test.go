package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// judgingPulls returns an edit of a Config that sets what happens to pulls.
func judgingPulls(m proxy.Mode) func(*proxy.Config) {
	return func(c *proxy.Config) { c.Pulls = m }
}

// getManifest pulls a manifest by any type.
func getManifest(t testing.TB, base, repo, reference string) answer {
	t.Helper()
	return do(t, http.MethodGet, base+"/v2/"+repo+"/manifests/"+reference, nil,
		"Accept", ocispec.MediaTypeImageManifest, "Accept", ocispec.MediaTypeImageIndex, "Accept", verifytest.DockerManifest)
}

// What came to the registry without the proxy is judged when it is read, if
// that is wanted.
func TestPulls(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(2)
	lie := verifytest.CompressedDigest(honest)
	odd := verifytest.Honest(1) // that not every runtime pulls
	odd.Layers[0].MediaType = ocispec.MediaTypeImageLayerZstd
	mediaType, child := lie.Manifest()
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, mediaType, lie.Digest(), len(child))
	for _, tt := range []struct {
		is       string
		pulls    proxy.Mode
		tag      string
		status   int
		warnings string // the begin of each, or ""
	}{
		{"an honest image passes", proxy.Enforce, "honest", 200, ""},
		{"an image that not every runtime pulls passes with a warning", proxy.Enforce, "odd", 200, `299 - "layer 1 of 1 is gzip`},
		{"a lie is denied", proxy.Enforce, "lie", 403, ""},
		{"a lie passes with a warning when pulls are audited", proxy.Audit, "lie", 200, `299 - "diff_id mismatch in layer`},
		{"a lie passes when pulls are not judged", proxy.Off, "lie", 200, ""},
		{"an image index passes: its images are judged when they are read", proxy.Enforce, "index", 200, ""},
		{"what is not there is not there", proxy.Enforce, "none", 404, ""},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			for tag, img := range map[string]verifytest.Image{"honest": honest, "lie": lie, "odd": odd} {
				want(t, http.StatusCreated, pushImage(t, reg.URL, "app", tag, img))
			}
			want(t, http.StatusCreated, putManifest(t, reg.URL, "app", "index", ocispec.MediaTypeImageIndex, index))
			stored := storedManifest(t, reg.URL, "app", tt.tag)
			p := newProxy(t, reg.URL, judgingPulls(tt.pulls))
			for range 2 { // the second time from memory
				got := want(t, tt.status, getManifest(t, p.URL, "app", tt.tag))
				for _, line := range got.Header.Values("Warning") {
					if tt.warnings == "" || !strings.HasPrefix(line, tt.warnings) {
						t.Errorf("got the warning %q, want %q", line, tt.warnings)
					}
				}
				if tt.warnings != "" && len(got.Header.Values("Warning")) == 0 {
					t.Errorf("got no warning, want %q", tt.warnings)
				}
				if tt.status == 200 && !bytes.Equal(got.Body, stored) {
					t.Errorf("got the manifest %s, want it byte for byte", got.Body)
				}
				if tt.status == 403 {
					checkDenied(t, got, lie)
				}
				eventually(t, func() bool {
					_, err := p.Index.Judgement(t.Context(), digest.FromBytes(stored))
					return err == nil || tt.pulls == proxy.Off || tt.status == 404 || tt.tag == "index"
				})
			}
		})
	}
}

// checkDenied fails unless a pull was refused with the reason.
func checkDenied(t *testing.T, got answer, lie verifytest.Image) {
	t.Helper()
	errs := got.errors(t)
	if got.codes() != "DENIED,DENIED" || !strings.HasSuffix(errs[0].Message, "(that is the digest of the compressed blob)") {
		t.Errorf("got %s, want DENIED with the reason", got.Body)
	}
	d := errs[0].detail(t)
	if d.Reason != verify.ReasonDiffIDMismatch || d.Cause != verify.CauseCompressedDigest || d.Report != "/v2/app/_diffids/manifests/"+lie.Digest().String() {
		t.Errorf("got the detail %+v", d)
	}
}

// A verdict that is remembered costs the upstream the one request of the
// client; one that is not, a read of the config and of each unknown layer.
func TestPullsFromMemory(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	img := verifytest.WrongDigit(verifytest.Honest(2))
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "lie", img))
	p := newProxy(t, reg.URL, judgingPulls(proxy.Enforce))
	requests.take()
	want(t, http.StatusForbidden, getManifest(t, p.URL, "app", "lie"))
	eventually(t, func() bool { _, err := p.Index.Judgement(t.Context(), img.Digest()); return err == nil })
	if n := len(requests.take()); n < 4 {
		t.Errorf("the upstream got %d requests, want at least the manifest's, the config's and two layers'", n)
	}
	want(t, http.StatusForbidden, getManifest(t, p.URL, "app", "lie"))
	if diff := cmp.Diff([]string{"GET /v2/app/manifests/lie len=0"}, requests.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A judgement by other rules, or of the same bytes as something else, is made
// anew.
func TestPullsByOldRules(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	img := verifytest.WrongDigit(verifytest.Honest(1))
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "lie", img))
	p := newProxy(t, reg.URL, judgingPulls(proxy.Enforce))
	old := verify.Judgement{Manifest: img.Digest(), MediaType: ocispec.MediaTypeImageManifest, Rules: verify.Rules - 1,
		Config: img.ConfigDigest(), Verdict: verify.Match, JudgedAt: time.Unix(0, 0).UTC()}
	if err := p.Index.PutJudgement(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	want(t, http.StatusForbidden, getManifest(t, p.URL, "app", "lie"))
	eventually(t, func() bool {
		j, err := p.Index.Judgement(t.Context(), img.Digest())
		return err == nil && j.Rules == verify.Rules && j.Verdict == verify.Mismatch
	})
}

// What could not be found out is no verdict: an enforced pull fails, an audited
// one passes.
func TestPullsThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	for mode, status := range map[proxy.Mode]int{proxy.Enforce: http.StatusServiceUnavailable, proxy.Audit: http.StatusOK} {
		d, reg := newDetour(t)
		img := verifytest.Honest(1)
		want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "1.4", img))
		p := newProxy(t, reg.URL, judgingPulls(mode))
		d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlobGet(r, img.Layers[0].Digest()) {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		})
		if got := getManifest(t, p.URL, "app", "1.4"); got.Status != status {
			t.Errorf("%s: got %d %s, want %d", mode, got.Status, got.Body, status)
		}
		if n := p.metric(t, "diffid_manifests_checked_total", "verdict", "error", "direction", "pull"); n != 1 {
			t.Errorf("%s: got %v errors counted, want 1", mode, n)
		}
	}
}

// A manifest too large to be judged is no verdict either, and passes whole when
// pulls are audited.
func TestPullsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	img := verifytest.Honest(3)
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "1.4", img))
	_, body := img.Manifest()
	for mode, status := range map[proxy.Mode]int{proxy.Enforce: http.StatusBadGateway, proxy.Audit: http.StatusOK} {
		p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Pulls, c.MaxManifest = mode, int64(len(body)-1) })
		got := want(t, status, getManifest(t, p.URL, "app", "1.4"))
		if status == http.StatusOK && !bytes.Equal(got.Body, body) {
			t.Errorf("%s: got %d bytes of the manifest, want all %d", mode, len(got.Body), len(body))
		}
	}
}

// A HEAD is answered as a GET is, before and after the verdict is remembered.
func TestPullsByHead(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	honest := verifytest.Honest(1)
	lie := verifytest.WrongDigit(honest)
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "honest", honest))
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "lie", lie))
	for _, tt := range []struct {
		pulls   proxy.Mode
		tag     string
		status  int
		warning bool
	}{
		{proxy.Enforce, "honest", 200, false},
		{proxy.Enforce, "lie", 403, false},
		{proxy.Audit, "lie", 200, true},
		{proxy.Enforce, "none", 404, false},
	} {
		p := newProxy(t, reg.URL, judgingPulls(tt.pulls))
		for range 2 {
			got := do(t, http.MethodHead, p.URL+"/v2/app/manifests/"+tt.tag, nil, "Accept", ocispec.MediaTypeImageManifest)
			if got.Status != tt.status || (len(got.Header.Values("Warning")) > 0) != tt.warning || len(got.Body) > 0 {
				t.Errorf("%s, %s: got %d %v, want %d", tt.pulls, tt.tag, got.Status, got.Header, tt.status)
			}
			dgst := map[string]digest.Digest{"honest": honest.Digest(), "lie": lie.Digest()}[tt.tag]
			eventually(t, func() bool { _, err := p.Index.Judgement(t.Context(), dgst); return err == nil || dgst == "" })
		}
	}
}

// An upstream that encodes manifests, or gives parts of them, is not asked to.
func TestPullsAreWhole(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "1.4", img))
	p := newProxy(t, reg.URL, judgingPulls(proxy.Enforce))
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") && (r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Range") != "") {
			t.Errorf("%s %s has Accept-Encoding %q and Range %q", r.Method, r.URL.Path, r.Header.Get("Accept-Encoding"), r.Header.Get("Range"))
		}
		return false
	})
	mediaType, body := img.Manifest()
	got := do(t, http.MethodGet, p.URL+"/v2/app/manifests/1.4", nil, "Accept", mediaType, "Accept-Encoding", "gzip", "Range", "bytes=0-5")
	if got.Status != http.StatusOK || !bytes.Equal(got.Body, body) {
		t.Errorf("got %d %s, want all of the manifest", got.Status, got.Body)
	}
}

// A registry that serves every manifest as JSON is judged by what the manifest
// says it is, however it is read.
func TestPullsServedAsJSON(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(1)
	lie := verifytest.WrongDigit(honest)
	mediaType, body := honest.Manifest()
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, mediaType, honest.Digest(), len(body))
	reg := newRegistryHandler(t, nil)
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.ServeHTTP(servedAsJSON{w}, r)
	}))
	for tag, img := range map[string]verifytest.Image{"honest": honest, "lie": lie} {
		want(t, http.StatusCreated, pushImage(t, upstream.URL, "app", tag, img))
	}
	want(t, http.StatusCreated, putManifest(t, upstream.URL, "app", "index", ocispec.MediaTypeImageIndex, index))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		p := newProxy(t, upstream.URL, judgingPulls(proxy.Enforce))
		for tag, status := range map[string]int{"honest": 200, "lie": 403, "index": 200} {
			for range 2 {
				got := do(t, method, p.URL+"/v2/app/manifests/"+tag, nil, "Accept", mediaType, "Accept", ocispec.MediaTypeImageIndex)
				if got.Status != status {
					t.Errorf("%s %s: got %d %s, want %d", method, tag, got.Status, got.Body, status)
				}
			}
		}
		if n := p.metric(t, "diffid_manifests_checked_total"); n != 4 {
			t.Errorf("%s: %v manifests were judged, want each of the two images twice", method, n)
		}
	}
}

// servedAsJSON makes every type JSON.
type servedAsJSON struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w servedAsJSON) WriteHeader(status int) {
	w.Header().Set("Content-Type", "application/json")
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w servedAsJSON) Write(p []byte) (int, error) {
	w.Header().Set("Content-Type", "application/json")
	return w.ResponseWriter.Write(p)
}

// An artifact of a type that nobody judges passes, however it is read.
func TestPullsOfAnotherType(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-artifact")
		w.Header().Set("Docker-Content-Digest", digest.FromString("{}").String())
		fmt.Fprint(w, "{}")
	}))
	p := newProxy(t, upstream.URL, judgingPulls(proxy.Enforce))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		want(t, http.StatusOK, do(t, method, p.URL+"/v2/app/manifests/t", nil))
	}
}
