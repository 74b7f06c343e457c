package proxy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// imageIndex returns an image index of the images.
func imageIndex(t testing.TB, images ...verifytest.Image) []byte {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		mediaType, body := img.Manifest()
		index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: mediaType, Digest: img.Digest(), Size: int64(len(body))})
	}
	body, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// An image index is judged by its images, however they came to the registry.
func TestImageIndexes(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(2)
	lie := verifytest.WrongDigit(verifytest.Honest(1))
	for _, tt := range []struct {
		is      string
		through []verifytest.Image // pushed through the proxy
		round   []verifytest.Image // pushed straight to the registry
		status  int
		verdict verify.Verdict
	}{
		{"images that were judged", []verifytest.Image{honest}, nil, 201, verify.Match},
		{"images that went round the proxy, and are right", nil, []verifytest.Image{honest}, 201, verify.Match},
		{"images that went round the proxy, and one is false", []verifytest.Image{honest}, []verifytest.Image{lie}, 400, verify.Mismatch},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			for _, img := range tt.through {
				want(t, http.StatusCreated, pushImage(t, p.URL, "app", img.Digest().String(), img))
			}
			for _, img := range tt.round {
				want(t, http.StatusCreated, pushImage(t, reg.URL, "app", img.Digest().String(), img))
			}
			body := imageIndex(t, append(tt.through, tt.round...)...)
			got := want(t, tt.status, putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageIndex, body))
			if diff := cmp.Diff(tt.status == 201, storedManifest(t, reg.URL, "app", "1.4") != nil); diff != "" {
				t.Errorf("stored at the upstream (-want +got):\n%s", diff)
			}
			if n := p.metric(t, "diffid_manifests_checked_total", "verdict", string(tt.verdict), "direction", "push"); n < 1 {
				t.Errorf("nothing was counted as %s", tt.verdict)
			}
			if tt.status == 400 {
				e := got.errors(t)[0]
				if d := e.detail(t); d.Reason != verify.ReasonDiffIDMismatch || d.Manifest != lie.Digest() || !strings.HasPrefix(e.Message, "manifest 2 of 2: diff_id mismatch in layer 1 of 1") {
					t.Errorf("got %s, want it to name the false image", got.Body)
				}
			}
		})
	}
}

// A child that the registry does not hold is the registry's business, whatever
// is known of it from another repository.
func TestSparseImageIndex(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Mode = proxy.Audit })
	lie := verifytest.WrongDigit(verifytest.Honest(1))
	want(t, http.StatusCreated, pushImage(t, p.URL, "other", "lie", lie))
	eventually(t, func() bool { _, err := p.Index.Judgement(t.Context(), lie.Digest()); return err == nil })
	body := imageIndex(t, lie)
	there := putManifest(t, reg.URL, "app", "there", ocispec.MediaTypeImageIndex, body)
	here := putManifest(t, p.URL, "app", "here", ocispec.MediaTypeImageIndex, body)
	if here.Status != there.Status || len(here.Header.Values("Warning")) > 0 {
		t.Errorf("got %d %s with warnings %q, want the registry's own %d", here.Status, here.Body, here.Header.Values("Warning"), there.Status)
	}
}

// A manifest that was found right once passes on what is remembered of it: no
// config is read for it, and no layer is looked up.
func TestKnownManifest(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	img := verifytest.Honest(2)
	want(t, http.StatusCreated, pushImage(t, p.URL, "app", "1.4", img))
	eventually(t, func() bool { _, err := p.Index.Judgement(t.Context(), img.Digest()); return err == nil })
	lookups := p.metric(t, "diffid_index_lookups_total")
	requests.take()
	mediaType, body := img.Manifest()
	want(t, http.StatusCreated, putManifest(t, p.URL, "app", "latest", mediaType, body))
	if seen := requests.take(); len(seen) != 1 {
		t.Errorf("the upstream got %q, want the push alone", seen)
	}
	if n := p.metric(t, "diffid_index_lookups_total"); n != lookups {
		t.Errorf("got %v lookups, want %v as before", n, lookups)
	}
	// As another type, the same bytes are another claim.
	want(t, http.StatusBadRequest, putManifest(t, p.URL, "app", "list", ocispec.MediaTypeImageIndex, body))
}

// A manifest that was refused is not remembered: it is in no registry.
func TestRefusedIsNotRemembered(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	lie := verifytest.WrongDigit(verifytest.Honest(1))
	want(t, http.StatusBadRequest, pushImage(t, p.URL, "app", "1.4", lie))
	p.Proxy.Close()
	if j, err := p.Index.Judgement(t.Context(), lie.Digest()); err == nil {
		t.Errorf("got %+v", j)
	}
}

// masked is an image that has the config of another, and other layers.
func masked(img verifytest.Image) verifytest.Image {
	lie := img
	lie.Layers = append([]verifytest.Layer{}, img.Layers...)
	lie.Layers[0] = verifytest.GzipLayer(verifytest.Tar("evil", "evil\n"))
	return lie
}

// A false image with the config of a right one is told apart: where the right
// one was pulled, the false one seems to work.
func TestMaskedMismatch(t *testing.T) {
	t.Parallel()
	const says = "has the same config"
	honest := verifytest.Honest(2)
	lie := masked(honest)
	for _, tt := range []struct {
		is    string
		repo  string // of the right image
		mode  proxy.Mode
		wants bool
	}{
		{"in the same repository", "app", proxy.Enforce, true},
		{"in the same repository, audited", "app", proxy.Audit, true},
		{"in another repository, of which the caller is told nothing", "other", proxy.Enforce, false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Mode = tt.mode })
			want(t, http.StatusCreated, pushImage(t, p.URL, tt.repo, "1.4", honest))
			eventually(t, func() bool { _, err := p.Index.Judgement(t.Context(), honest.Digest()); return err == nil })
			got := pushImage(t, p.URL, "app", "1.5", lie)
			told := strings.Contains(string(got.Body)+strings.Join(got.Header.Values("Warning"), "\n"), says)
			if told != tt.wants {
				t.Errorf("told of the right image: %t, want %t: %d %s %q", told, tt.wants, got.Status, got.Body, got.Header.Values("Warning"))
			}
			if tt.mode == proxy.Audit { // then the registry has it, and a report says so too
				report := get(t, p.URL+"/v2/app/_diffids/manifests/1.5")
				if !strings.Contains(string(report.Body), says) {
					t.Errorf("got the report %s", report.Body)
				}
			}
			// One config under gzip and zstd is no lie.
			twin := honest
			twin.Layers = []verifytest.Layer{verifytest.ZstdLayer(honest.Layers[0].Content), honest.Layers[1]}
			if got := pushImage(t, p.URL, tt.repo, "zstd", twin); got.Status != http.StatusCreated || len(got.Header.Values("Warning")) > 0 {
				t.Errorf("the same layers compressed otherwise: got %d %s %q", got.Status, got.Body, got.Header.Values("Warning"))
			}
		})
	}
}

// Clients push a refused image again at once, up to four times: the layer that
// has to be read once more to explain the refusal is read once.
func TestLookOnce(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	lie := verifytest.Unpadded(verifytest.Honest(1))
	for range 4 {
		got := pushImage(t, p.URL, "app", "1.4", lie)
		if d := got.errors(t)[0].detail(t); d.Cause != verify.CauseUnpaddedTar {
			t.Fatalf("got %d %s", got.Status, got.Body)
		}
	}
	reads := 0
	for _, line := range requests.take() {
		if strings.HasPrefix(line, "GET /v2/app/blobs/"+lie.Layers[0].Digest().String()) {
			reads++
		}
	}
	if reads != 1 {
		t.Errorf("the layer was read %d times, want once", reads)
	}
}

// The report on a refused image index is for those who can read the manifests
// that it is about.
func TestReportOfARefusedImageIndex(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	lie := verifytest.WrongDigit(verifytest.Honest(1))
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", lie.Digest().String(), lie))
	p := newProxy(t, reg.URL, nil)
	refused := want(t, http.StatusBadRequest, putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageIndex, imageIndex(t, lie)))
	link := p.URL + refused.errors(t)[0].detail(t).Report
	want(t, http.StatusOK, get(t, link))
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool { // as a registry hides what is not for one
		if r.Header.Get("Authorization") != "Basic bob" {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	want(t, http.StatusNotFound, get(t, link, "Authorization", "Basic bob"))
	want(t, http.StatusOK, get(t, link))
}

// A client that may push and not read can push an image index of what is there.
func TestImageIndexWithoutTheRightToRead(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", img.Digest().String(), img))
	p := newProxy(t, reg.URL, nil)
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	got := want(t, http.StatusCreated, putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageIndex, imageIndex(t, img)))
	if lines := got.Header.Values("Warning"); len(lines) != 1 || !strings.Contains(lines[0], "may not be read in your name") {
		t.Errorf("got the warnings %q", lines)
	}
}

// A pull that waits for a layer to be fetched does not keep others from pushing:
// of the memory for manifests it holds what its own takes.
func TestPullsHoldNoMemory(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "1.4", img))
	mediaType, body := img.Manifest()
	goOn := make(chan struct{})
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case isBlobGet(r, img.Layers[0].Digest()):
			<-goOn
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // so that its length is not known; a client that is gone is no matter
			_, _ = w.Write(body)
			return true
		}
		return false
	})
	p := newProxy(t, reg.URL, judgingPulls(proxy.Enforce))
	var pulls sync.WaitGroup
	for range 100 { // times 4 MiB is more than there is
		pulls.Go(func() { want(t, http.StatusOK, getManifest(t, p.URL, "app", "1.4")) })
	}
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") >= 100 })
	want(t, http.StatusCreated, pushImage(t, p.URL, "other", "1.4", verifytest.NewImage(verifytest.TarLayer(verifytest.Tar("b", "2")))))
	close(goOn)
	pulls.Wait()
}
