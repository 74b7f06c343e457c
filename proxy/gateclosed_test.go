package proxy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A client that pushes a foreign layer behind its manifest does not get a mismatched
// image in: where missing foreign layers are allowed, they are asked for once more
// when the registry has accepted the manifest.
func TestForeignLayerBehindItsManifest(t *testing.T) {
	t.Parallel()
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	layer.MediaType, layer.URLs = verifytest.DockerForeign, []string{"https://layers.example/blob"}
	valid := verifytest.NewImage(layer).Docker()
	for _, tt := range []struct {
		is      string
		image   verifytest.Image
		comes   bool // while the manifest is being pushed
		deletes bool // the registry deletes manifests
		status  int
		stored  bool
		metric  string // the label deleted
	}{
		{"the layer stays away", verifytest.WrongDigit(valid), false, true, 201, true, ""},
		{"the layer comes and is as claimed", valid, true, true, 201, true, ""},
		{"the layer comes and is not as claimed", verifytest.WrongDigit(valid), true, true, 400, false, "yes"},
		{"the same, at a registry that does not delete", verifytest.WrongDigit(valid), true, false, 400, true, "no"},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			d := &detour{next: newRegistryHandler(t, func(c *configuration.Configuration) {
				c.Validation.Manifests.URLs.Allow = []string{"^https://layers\\.example/"}
			})}
			reg := newUpstream(t, d)
			p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Policy.AllowUnverifiable = []verify.Cause{verify.CauseForeign} })
			d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodDelete && !tt.deletes {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return true
				}
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && tt.comes {
					putBlob(t, p.URL, "app", layer.Digest(), layer.Blob)
				}
				return false
			})
			pushBlob(t, p.URL, "app", tt.image.Config())
			mediaType, body := tt.image.Manifest()
			got := want(t, tt.status, putManifest(t, p.URL, "app", tt.image.Digest().String(), mediaType, body))
			if tt.status == http.StatusBadRequest && got.errors(t)[0].detail(t).Reason != verify.ReasonDiffIDMismatch {
				t.Errorf("got %s, want a mismatch", got.Body)
			}
			if stored := storedManifest(t, reg.URL, "app", tt.image.Digest().String()) != nil; stored != tt.stored {
				t.Errorf("the registry holds the image: %t, want %t", stored, tt.stored)
			}
			for _, deleted := range []string{"yes", "no"} {
				n := 0.0
				if tt.metric != "" {
					n = p.metric(t, "diffid_late_foreign_total", "deleted", deleted)
				}
				if (n == 1) != (deleted == tt.metric) {
					t.Errorf("got %v images counted with deleted=%s", n, deleted)
				}
			}
		})
	}
}

// inlineIndex returns an image index that has an image in its descriptor's data.
func inlineIndex(img verifytest.Image) []byte {
	mediaType, body := img.Manifest()
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"data":%q}]}`,
		ocispec.MediaTypeImageIndex, mediaType, img.Digest(), len(body), base64.StdEncoding.EncodeToString(body))
}

// A manifest that stands in a descriptor is judged as if it were held, when the
// image index is pushed and when it is pulled.
func TestInlineManifests(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	pushing, pulling := newProxy(t, reg.URL, nil), newProxy(t, reg.URL, judgingPulls(proxy.Enforce))
	valid := verifytest.Honest(1)
	for is, tt := range map[string]struct {
		image          verifytest.Image
		pushed, pulled int
	}{
		"valid":      {valid, 201, 200},
		"mismatched": {verifytest.WrongDigit(valid), 400, 403},
	} {
		tag := is
		want(t, http.StatusCreated, pushImage(t, reg.URL, "app", tag+"-image", tt.image)) // which the registry wants to hold
		index := inlineIndex(tt.image)
		want(t, tt.pushed, putManifest(t, pushing.URL, "app", tag, ocispec.MediaTypeImageIndex, index))
		want(t, http.StatusCreated, putManifest(t, reg.URL, "app", tag, ocispec.MediaTypeImageIndex, index))
		got := want(t, tt.pulled, getManifest(t, pulling.URL, "app", tag))
		if tt.pulled == http.StatusOK && !bytes.Equal(got.Body, index) {
			t.Errorf("%s: got %s, want the image index", is, got.Body)
		}
	}
}

// A manifest that the registry keeps elsewhere, as GitLab's dependency proxy does,
// is read there and judged when pulls are judged: otherwise the client would go
// there itself.
func TestPullsFollowRedirects(t *testing.T) {
	t.Parallel()
	valid := verifytest.Honest(1)
	_, other := verifytest.Honest(2).Manifest()
	for _, tt := range []struct {
		is     string
		mode   proxy.Mode
		image  verifytest.Image
		body   []byte // at the other place; nil: the image's manifest
		status int
	}{
		{"a valid image", proxy.Enforce, valid, nil, 200},
		{"a mismatched image", proxy.Enforce, verifytest.WrongDigit(valid), nil, 403},
		{"a mismatched image, in audit mode", proxy.Audit, verifytest.WrongDigit(valid), nil, 200},
		{"other bytes", proxy.Enforce, valid, other, 502},
		{"pulls are not judged", proxy.Off, valid, nil, 307},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			mediaType, body := tt.image.Manifest()
			if tt.body != nil {
				body = tt.body
			}
			storage := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "" {
					t.Error("the storage service got credentials")
				}
				w.Header().Set("Content-Type", mediaType)
				_, _ = w.Write(body) // the reader may not want it
			}))
			d, reg := newDetour(t)
			pushBlobs(t, reg.URL, "app", tt.image)
			p := newProxy(t, reg.URL, judgingPulls(tt.mode))
			d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Location", storage.URL+"/object?signature=1")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			})
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := do(t, method, p.URL+"/v2/app/manifests/"+tt.image.Digest().String(), nil, "Accept", mediaType, "Authorization", "Bearer t")
				if got.Status != tt.status {
					t.Errorf("%s: got %d %s, want %d", method, got.Status, got.Body, tt.status)
				}
				if got.Status == http.StatusOK && method == http.MethodGet && !bytes.Equal(got.Body, body) {
					t.Errorf("got %s, want the manifest", got.Body)
				}
			}
		})
	}
}

// A redirect that cannot be followed is refused when pulls are enforced, and passed
// on when they are audited.
func TestPullsWithRedirectsToNowhere(t *testing.T) {
	t.Parallel()
	for mode, status := range map[proxy.Mode]int{proxy.Enforce: http.StatusForbidden, proxy.Audit: http.StatusTemporaryRedirect} {
		reg := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}))
		p := newProxy(t, reg.URL, judgingPulls(mode))
		if got := getManifest(t, p.URL, "app", "1.4"); got.Status != status {
			t.Errorf("%s: got %d %s, want %d", mode, got.Status, got.Body, status)
		}
	}
}

// An image index may name layers, as the caches of BuildKit before 0.21 do. A
// registry that answers 500 for a layer that is asked for as a manifest does not
// fail the push, whether the layers are known or not.
func TestImageIndexOfLayers(t *testing.T) {
	t.Parallel()
	layers := verifytest.Honest(3).Layers
	config := []byte(`{"layers":[],"records":[]}`)
	entries := []string{fmt.Sprintf(`{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":%q,"size":%d}`, digest.FromBytes(config), len(config))}
	for _, l := range layers {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, l.MediaType, l.Digest(), len(l.Blob)))
	}
	body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(entries, ",") + `]}`)
	for _, known := range []bool{true, false} {
		for _, answer := range []int{404, 400, 500, 405} {
			var asked []string
			stored := false
			reg := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/"):
					stored = true
					w.WriteHeader(http.StatusCreated)
				case strings.Contains(r.URL.Path, "/manifests/"):
					asked = append(asked, r.URL.Path)
					w.WriteHeader(answer)
				}
			}))
			p := newProxy(t, reg.URL, nil)
			for _, l := range layers {
				if known {
					if err := p.Index.Put(t.Context(), factAbout(t, l.Blob, verify.Pushed)); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := putManifest(t, p.URL, "app", "cache", ocispec.MediaTypeImageIndex, body)
			if got.Status != http.StatusCreated || !stored || len(got.Header.Values("Warning")) > 0 {
				t.Errorf("known %t, %d: got %d %s, warnings %q; want 201 and none", known, answer, got.Status, got.Body, got.Header.Values("Warning"))
			}
			if questions := map[bool]int{true: 1, false: 4}[known]; len(asked) != questions {
				t.Errorf("known %t, %d: asked for %q, want %d questions", known, answer, asked, questions)
			}
		}
	}
}

// An artifact manifest goes to the registry, whose answer counts. One that runtimes
// could read as an image does not.
func TestArtifactManifests(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{"application/vnd.oci.artifact.manifest.v1+json", "application/vnd.cncf.oras.artifact.manifest.v1+json"} {
		for body, want := range map[string]int{
			`{"mediaType":%q,"artifactType":"application/x","blobs":[]}`:               http.StatusTeapot,
			`{"mediaType":%q,"blobs":[],"layers":null,"config":null}`:                  http.StatusTeapot,
			`{"mediaType":%q,"layers":[]}`:                                             http.StatusBadRequest,
			`{"mediaType":%q,"config":{"digest":"x"}}`:                                 http.StatusBadRequest,
			`{"mediaType":%q,"Layers":[]}`:                                             http.StatusBadRequest,
			`{"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":%q}`: http.StatusBadRequest,
		} {
			reg := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
			p := newProxy(t, reg.URL, nil)
			body := fmt.Sprintf(body, mediaType)
			if !json.Valid([]byte(body)) {
				t.Fatalf("%s is no JSON", body)
			}
			if got := putManifest(t, p.URL, "app", "1.4", mediaType, []byte(body)); got.Status != want {
				t.Errorf("%s: got %d %s, want %d", body, got.Status, got.Body, want)
			}
		}
	}
}

// A fact that ended at a limit was found under the limits of another run. It is
// learned again, once.
func TestLimitsOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	p := newProxy(t, reg.URL, nil)
	pushBlobs(t, reg.URL, "app", img)
	old := factAbout(t, img.Layers[0].Blob, verify.Pushed)
	old.Problem, old.Reason, old.Unpacked, old.UnpackedSize = verify.Limit, "it unpacks to more than limits.unpacked (1 bytes)", "", 1
	old.LearnedAt = old.LearnedAt.AddDate(-1, 0, 0)
	if err := p.Index.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	reads := 0
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if isBlobGet(r, img.Layers[0].Digest()) {
			reads++
		}
		return false
	})
	for range 2 {
		want(t, http.StatusCreated, pushManifest(t, p.URL, img))
	}
	if reads != 1 {
		t.Errorf("the layer was read %d times, want once", reads)
	}
}

// Layers that are slow to decode are fetched one at a time, whichever client sends them.
// Neither they nor an upload that stands still make other pushes wait.
func TestSlowLane(t *testing.T) {
	t.Parallel()
	slow := func(body string) verifytest.Image {
		tar := verifytest.Tar("etc/motd", body)
		return verifytest.NewImage(verifytest.Layer{MediaType: verifytest.DockerTar, Blob: verifytest.XZ(tar), Content: tar})
	}
	first, second, ordinary := slow("first"), slow("second"), verifytest.Honest(1)
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Fetches, c.Ahead = 1, -1 })
	stub := verifytest.XZ(noise(300 << 10))[:100<<10]
	patch(t, p.URL, startUpload(t, p.URL, "standstill"), bytes.NewReader(stub))
	for _, img := range []verifytest.Image{first, second, ordinary} {
		pushBlobs(t, reg.URL, "app", img)
	}
	inLane, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	reads := map[digest.Digest]int{}
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		for _, img := range []verifytest.Image{first, second} {
			dgst := img.Layers[0].Digest()
			if !isBlobGet(r, dgst) {
				continue
			}
			mu.Lock()
			reads[dgst]++
			n := reads[dgst]
			mu.Unlock()
			if n == 2 && dgst == first.Layers[0].Digest() { // the first read found that it is slow
				close(inLane)
				<-release
			}
		}
		return false
	})
	var work sync.WaitGroup
	push := func(img verifytest.Image) {
		if got := pushManifest(t, p.URL, img); got.Status != http.StatusCreated {
			t.Errorf("got %d %s, want 201", got.Status, got.Body)
		}
	}
	work.Go(func() { push(first) })
	select {
	case <-inLane:
	case <-time.After(10 * time.Second):
		t.Fatal("the first slow layer was not read a second time, in the slow lane")
	}
	work.Go(func() { push(second) })
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return reads[second.Layers[0].Digest()] == 1 })
	want(t, http.StatusCreated, pushManifest(t, p.URL, ordinary))
	mu.Lock()
	if n := reads[second.Layers[0].Digest()]; n != 1 {
		t.Errorf("the second slow layer was read %d times beside the first, want once, to see that it is slow", n)
	}
	mu.Unlock()
	close(release)
	work.Wait()
}

// What a client pushes through the proxy makes it ask the registry for nothing,
// artifacts included: the config decides whether they are judged, and it passed a
// moment ago. What went round the proxy costs a read of the config, and of each layer
// only if the config says diff_ids.
func TestQuestionsOfAPush(t *testing.T) {
	t.Parallel()
	tar := verifytest.Tar("Chart.yaml", "name: app\n")
	chart := verifytest.NewImage(verifytest.Layer{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Blob: verifytest.Gzip(tar), Content: tar})
	chart.ConfigType, chart.RawConfig = "application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"app","version":"1"}`)
	payload := []byte(`{"critical":{}}`)
	signature := verifytest.NewImage(verifytest.Layer{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Blob: payload, Content: payload})
	for is, tt := range map[string]struct {
		image         verifytest.Image
		seen, unasked int // requests that the push of the manifest makes, after a push through the proxy and round it
	}{
		"a chart":     {chart, 1, 2},
		"a signature": {signature, 1, 3},
		"an image":    {verifytest.Honest(3), 1, 5},
	} {
		for _, through := range []bool{true, false} {
			requests := recordRequests(newRegistryHandler(t, nil))
			reg := newUpstream(t, requests)
			p := newProxy(t, reg.URL, nil)
			to := map[bool]string{true: p.URL, false: reg.URL}[through]
			for dgst, blob := range tt.image.Blobs() {
				putBlob(t, to, "app", dgst, blob)
			}
			requests.take()
			mediaType, body := tt.image.Manifest()
			want(t, http.StatusCreated, putManifest(t, p.URL, "app", "1.4", mediaType, body))
			questions := map[bool]int{true: tt.seen, false: tt.unasked}[through]
			if got := requests.take(); len(got) != questions {
				t.Errorf("%s, pushed through the proxy: %t: %d requests, want %d:\n%s", is, through, len(got), questions, strings.Join(got, "\n"))
			}
		}
	}
}
