package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// The edge cases E35 to E48 are about transfers and about several manifests.
// Those about one image are cases of the kit (TestCases). These are elsewhere:
//
//	E34 schema 1                        TestSchema1
//	E35 image indexes                   TestImageIndexes, TestSparseImageIndex, and here
//	E36 one config, several manifests   TestMaskedMismatch, and here
//	E37 by tag and by digest            TestCases, TestManifestByDigest
//	E38 mounted, or found and skipped   TestCases, TestAhead, and here
//	E40 ways to upload                  TestUpload, TestUploadInOnePOST
//	E41 resumed, lost and wrong chunks  TestChunks, TestResume, TestRangeOfTheUpstream, and here
//	E42 another digest than streamed    TestConfirmation, TestUploadWithoutBlob
//	E43 parts of blobs, redirects       TestPartsOfBlobs, TestClientGoneMidDownload, TestDownloadsFollowRedirects
//	E45 configs too late, too large     TestConfigSizes, and here
//	E46 inline configs                  TestCases
//	E47 conflicting facts               TestIndexThatContradicts, and here
//	E48 the conformance suite           TestCases: refused, and let pass in audit mode

// tellsApart fails unless an image whose layers the repository holds is accepted
// and refused with one wrong digit in its config.
func tellsApart(t *testing.T, base, repo string, img verifytest.Image) {
	t.Helper()
	for _, tt := range []struct {
		image  verifytest.Image
		status int
		reason string
	}{
		{img, http.StatusCreated, ""},
		{verifytest.WrongDigit(img), http.StatusBadRequest, "diff_id_mismatch"},
	} {
		pushBlob(t, base, repo, tt.image.Config())
		mediaType, body := tt.image.Manifest()
		got := want(t, tt.status, putManifest(t, base, repo, tt.image.Digest().String(), mediaType, body))
		if tt.reason != "" && string(got.errors(t)[0].detail(t).Reason) != tt.reason {
			t.Errorf("got %s, want %s", got.Body, tt.reason)
		}
	}
}

// E35: an image index in an image index has what is wrong with its images.
func TestNestedImageIndex(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	honest := verifytest.Honest(1)
	for _, tt := range []struct {
		is     string
		image  verifytest.Image
		status int
	}{
		{"an image that is right", honest, http.StatusCreated},
		{"an image that is false", verifytest.WrongDigit(honest), http.StatusBadRequest},
	} {
		p := newProxy(t, reg.URL, nil)
		want(t, http.StatusCreated, pushImage(t, reg.URL, "app", "image", tt.image))
		inner := imageIndex(t, tt.image)
		want(t, http.StatusCreated, putManifest(t, reg.URL, "app", "inner", ocispec.MediaTypeImageIndex, inner))
		outer := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%[1]q,"manifests":[{"mediaType":%[1]q,"digest":%[2]q,"size":%[3]d}]}`,
			ocispec.MediaTypeImageIndex, digest.FromBytes(inner), len(inner))
		got := putManifest(t, p.URL, "app", "outer", ocispec.MediaTypeImageIndex, outer)
		if got.Status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.is, got.Status, got.Body, tt.status)
		}
		stored := storedManifest(t, reg.URL, "app", digest.FromBytes(outer).String()) != nil
		if stored != (tt.status == http.StatusCreated) {
			t.Errorf("%s: after %d the registry holds the outer image index: %t", tt.is, got.Status, stored)
		}
	}
}

// E36: one config may serve gzip and zstd, and other layers under it are false,
// whichever comes first.
func TestOneConfigForSeveral(t *testing.T) {
	t.Parallel()
	gzip := verifytest.Honest(2)
	zstd := verifytest.NewImage(verifytest.ZstdLayer(gzip.Layers[0].Content), verifytest.ZstdLayer(gzip.Layers[1].Content))
	if gzip.ConfigDigest() != zstd.ConfigDigest() {
		t.Fatal("the images have two configs")
	}
	type push struct {
		image  verifytest.Image
		status int
	}
	good, other, bad := push{gzip, http.StatusCreated}, push{zstd, http.StatusCreated}, push{verifytest.Masked(gzip), http.StatusBadRequest}
	for _, order := range [][]push{{good, other, bad}, {other, bad, good}, {bad, good, other}, {bad, other, bad, good, bad}} {
		reg := newRegistry(t)
		p := newProxy(t, reg.URL, nil)
		for i, push := range order {
			if got := pushImage(t, p.URL, "app", "1.4", push.image); got.Status != push.status {
				t.Errorf("push %d of %d: got %d %s, want %d", i+1, len(order), got.Status, got.Body, push.status)
			}
		}
		if storedManifest(t, reg.URL, "app", bad.image.Digest().String()) != nil {
			t.Error("the registry holds the false image")
		}
	}
}

// E38: a client that finds a layer in the repository does not push it.
func TestLayersThatAreThere(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(2)
	pushBlobs(t, reg.URL, "app", img)
	for _, l := range img.Layers {
		want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+l.Digest().String(), nil))
	}
	tellsApart(t, p.URL, "app", img)
}

// E39: a mount that the registry cannot make becomes an upload, which is learned
// from as any other.
func TestMountThatBecomesAnUpload(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	img := verifytest.Honest(1)
	dgst, blob := img.Layers[0].Digest(), img.Layers[0].Blob
	query := url.Values{"mount": {dgst.String()}, "from": {"elsewhere"}}
	a := want(t, http.StatusAccepted, do(t, http.MethodPost, p.URL+"/v2/app/blobs/uploads/?"+query.Encode(), nil))
	endUpload(t, patch(t, p.URL, a.location(t, p.URL), bytes.NewReader(blob)), dgst, nil)
	if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, dgst)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	tellsApart(t, p.URL, "app", img)
}

// E41: an upload may go through several proxies, or through one that was started
// anew: none of them saw it whole, none knows it, and all judge it.
func TestUploadThroughSeveralProxies(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	img := verifytest.Honest(1)
	dgst, blob := img.Layers[0].Digest(), img.Layers[0].Blob
	half := len(blob) / 2
	proxies := []*testProxy{newProxy(t, reg.URL, nil), newProxy(t, reg.URL, nil), newProxy(t, reg.URL, nil)}
	through := func(i int, location string) string {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		return proxies[i].URL + u.RequestURI()
	}
	next := startUpload(t, proxies[0].URL, "app")
	next = patch(t, proxies[0].URL, through(0, next), bytes.NewReader(blob[:half]))
	next = patch(t, proxies[1].URL, through(1, next), bytes.NewReader(blob[half:]))
	endUpload(t, through(2, next), dgst, nil)
	for i, p := range proxies {
		if _, err := p.Index.Get(t.Context(), dgst); err == nil {
			t.Errorf("proxy %d learned a blob that it did not see whole", i+1)
		}
		tellsApart(t, p.URL, "app", img)
	}
}

// E44: a layer over a limit is refused by the limit's name, whatever its config says.
func TestBombs(t *testing.T) {
	t.Parallel()
	limits := verify.Limits{Unpacked: 1 << 20}
	content := make([]byte, 8<<20)
	gzip := verifytest.GzipLayer(content)
	zstd := verifytest.Layer{MediaType: ocispec.MediaTypeImageLayerZstd, Blob: verifytest.ZstdZeros(8 << 20), Content: content}
	for is, layer := range map[string]verifytest.Layer{"gzip": gzip, "zstd": zstd} {
		for _, way := range pushWays {
			t.Run(is+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				reg := newRegistry(t)
				p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Limits = limits })
				for _, img := range []verifytest.Image{verifytest.NewImage(layer), verifytest.WrongDigit(verifytest.NewImage(layer))} {
					for dgst, blob := range img.Blobs() {
						way.push(t, site{reg.URL, p.URL, "app"}, dgst, blob)
					}
					mediaType, body := img.Manifest()
					got := want(t, http.StatusBadRequest, putManifest(t, p.URL, "app", "1.4", mediaType, body))
					if diff := cmp.Diff([]string{"0: over_limit"}, got.findings(t)); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					if text := got.errors(t)[0].Message; !strings.Contains(text, "limits.unpacked (1048576 bytes)") {
						t.Errorf("the refusal %q does not name the limit and its value", text)
					}
				}
			})
		}
	}
}

// E45: a manifest that comes before its config is refused, and accepted or
// refused for what it is when it comes again behind it.
func TestConfigBehindManifest(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	img := verifytest.Honest(1)
	pushBlob(t, p.URL, "app", img.Layers[0].Blob)
	for _, img := range []verifytest.Image{img, verifytest.WrongDigit(img)} {
		mediaType, body := img.Manifest()
		if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_BLOB_UNKNOWN" {
			t.Errorf("before the config: got %d %s, want 400 MANIFEST_BLOB_UNKNOWN", got.Status, got.Body)
		}
	}
	tellsApart(t, p.URL, "app", img)
}

// E47: many may push one blob at once, in many ways, and it may be deleted and
// come again: what is known of it stays the same, and does not replace it.
func TestOneBlobOftenAndAgain(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	dgst, blob := img.Layers[0].Digest(), img.Layers[0].Blob
	t.Run("at once", func(t *testing.T) {
		for i := range 4 {
			for _, way := range pushWays {
				t.Run(fmt.Sprintf("%s %d", way.name, i), func(t *testing.T) {
					t.Parallel()
					way.push(t, site{reg.URL, p.URL, fmt.Sprintf("app%d/%s", i, way.name)}, dgst, blob)
				})
			}
		}
	})
	f := p.fact(t, dgst)
	if diff := cmp.Diff(factAbout(t, blob, f.Source), f); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := p.metric(t, "diffid_index_conflicts_total"); n != 0 {
		t.Errorf("got %v conflicts counted, want none", n)
	}
	pushBlob(t, p.URL, "app", blob)
	tellsApart(t, p.URL, "app", img)

	want(t, http.StatusAccepted, do(t, http.MethodDelete, p.URL+"/v2/app/blobs/"+dgst.String(), nil))
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "app", "1.5", mediaType, body); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_BLOB_UNKNOWN" {
		t.Errorf("after the layer was deleted: got %d %s, want 400 MANIFEST_BLOB_UNKNOWN", got.Status, got.Body)
	}
	pushBlob(t, p.URL, "app", blob)
	tellsApart(t, p.URL, "app", img)
}
