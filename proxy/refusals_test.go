package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify/verifytest"
)

// A refusal leads to its report, though the registry never saw the manifest.
func TestReportOfARefusal(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	img := verifytest.WrongDigit(verifytest.Honest(2))
	refused := pushImage(t, p.URL, "library/app", "1.4", img).errors(t)[0]
	link := refused.detail(t).Report
	if want := "/v2/library/app/_diffids/manifests/" + img.Digest().String(); link != want {
		t.Fatalf("got the link %q, want %q", link, want)
	}
	got := get(t, p.URL+link)
	verdict, message := got.verdict(t)
	if got.Status != http.StatusOK || verdict != "mismatch" || message != refused.Message {
		t.Errorf("got %d %s, want a mismatch and the message of the refusal", got.Status, got.Body)
	}
	if layers := got.layers(t); len(layers) != 2 || layers[1].ConfigDiffID != img.DiffIDs[1] || layers[1].DiffID != img.Layers[1].DiffID() || layers[1].Status != "mismatch" {
		t.Errorf("got %+v of the layers", layers)
	}
	if ct := get(t, p.URL+link, "Accept", "application/vnd.diffid.v1+json").Header.Get("Content-Type"); ct != "application/vnd.diffid.v1+json" {
		t.Errorf("as version 1: got %s", ct)
	}
}

// The link of every refusal leads somewhere: also of those that name no config,
// of which only what the manifest says is told.
func TestReportOfEveryRefusal(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, p.URL, "app", img)
	_, honest := img.Manifest()
	for _, tt := range []struct {
		is, mediaType string
		body          string
		verdict       string
	}{
		{"no JSON", ocispec.MediaTypeImageManifest, "hello", "mismatch"},
		{"ambiguous", ocispec.MediaTypeImageManifest, string(honest) + string(honest), "mismatch"},
		{"another type", ocispec.MediaTypeImageIndex, string(honest), "mismatch"},
		{"an unknown type", "text/plain", string(honest), "mismatch"},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+json", "{}", "unverifiable"},
	} {
		errs := putManifest(t, p.URL, "app", "1.4", tt.mediaType, []byte(tt.body)).errors(t)
		link := errs[0].detail(t).Report
		got := get(t, p.URL+link)
		if got.Status != http.StatusOK {
			t.Errorf("%s: got %d %s from %s, want 200", tt.is, got.Status, got.Body, link)
			continue
		}
		if verdict, message := got.verdict(t); verdict != tt.verdict || message != errs[0].Message {
			t.Errorf("%s: got %s %q, want %s %q", tt.is, verdict, message, tt.verdict, errs[0].Message)
		}
	}
}

// A refusal is told in the repository it happened in, to those who may read
// the config there, and by digest only: a tag may be anybody's.
func TestWhoMayReadARefusal(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	alice, bob := user("alice"), user("bob")
	img := verifytest.WrongDigit(verifytest.NewImage(secret))
	alice.push(t, p.URL, repoAlice, img.Config())
	mediaType, body := img.Manifest()
	if got := alice.put(t, p.URL, repoAlice, "1.4", mediaType, body); got.Status != http.StatusBadRequest {
		t.Fatalf("got %d %s, want 400", got.Status, got.Body)
	}
	dgst := img.Digest().String()
	for _, tt := range []struct {
		is, repo, reference string
		user                user
		status              int
	}{
		{"who pushed it", repoAlice, dgst, alice, 200},
		{"a stranger", repoAlice, dgst, bob, 403},
		{"nobody in particular", repoAlice, dgst, "", 401},
		{"a stranger in his own repository", repoBob, dgst, bob, 404},
		{"who pushed it, elsewhere", repoShared, dgst, alice, 404},
		{"who pushed it, by tag", repoAlice, "1.4", alice, 404},
	} {
		got := tt.user.do(t, http.MethodGet, p.URL+"/v2/"+tt.repo+"/_diffids/manifests/"+tt.reference, nil)
		if got.Status != tt.status || strings.Contains(string(got.Body), secret.DiffID()) != (tt.status == 200) {
			t.Errorf("%s: got %d %s, want %d", tt.is, got.Status, got.Body, tt.status)
		}
		if tt.status == 404 && (got.codes() != "MANIFEST_UNKNOWN" || got.Header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: got %s, Cache-Control %q; want MANIFEST_UNKNOWN, no-store", tt.is, got.codes(), got.Header.Get("Cache-Control"))
		}
	}
	alice.do(t, http.MethodDelete, p.URL+"/v2/"+repoAlice+"/blobs/"+img.ConfigDigest().String(), nil)
	if got := alice.do(t, http.MethodGet, p.URL+"/v2/"+repoAlice+"/_diffids/manifests/"+dgst, nil); got.Status != http.StatusNotFound {
		t.Errorf("when the config is gone: got %d %s, want 404", got.Status, got.Body)
	}
}

// The last 256 refusals are remembered, the longest ago goes first.
func TestRefusalsKept(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	refuse := func(i int) string {
		body := fmt.Sprintf(`{"number":%d}`, i) // no config
		if got := putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageManifest, []byte(body)); got.Status != http.StatusBadRequest {
			t.Fatalf("got %d %s, want 400", got.Status, got.Body)
		}
		return p.URL + "/v2/app/_diffids/manifests/" + digest.FromString(body).String()
	}
	var links []string
	for i := range 256 {
		links = append(links, refuse(i))
	}
	refuse(0) // again, so it is the last now
	links = append(links, refuse(256))
	for i, want := range map[int]int{0: 200, 1: 404, 2: 200, 255: 200, 256: 200} {
		if got := get(t, links[i]); got.Status != want {
			t.Errorf("refusal %d of %d: got %d %s, want %d", i, len(links), got.Status, got.Body, want)
		}
	}
}

// Who fixes an image and pushes it under the same tag is told the truth about
// it; the refusal stays under its own digest.
func TestReportAfterTheFix(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Denied = true })
	lie, honest := verifytest.Swapped(verifytest.Honest(2)), verifytest.Honest(2)
	pushImage(t, p.URL, "app", "1.4", lie)
	if got := get(t, p.URL+"/v2/app/_diffids/manifests/1.4"); got.Status != http.StatusNotFound {
		t.Errorf("before the fix: got %d %s, want 404", got.Status, got.Body)
	}
	pushImage(t, p.URL, "app", "1.4", honest)
	for reference, want := range map[string]string{"1.4": "match", honest.Digest().String(): "match", lie.Digest().String(): "mismatch"} {
		got := get(t, p.URL+"/v2/app/_diffids/manifests/"+reference)
		if verdict, _ := got.verdict(t); verdict != want {
			t.Errorf("%s: got %d %s, want %s", reference, got.Status, got.Body, want)
		}
	}
}
