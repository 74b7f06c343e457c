package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// Honest images pass, and the upstream gets the bytes that the client sent.
func TestHonestImages(t *testing.T) {
	t.Parallel()
	a := verifytest.Tar("etc/motd", "hello\n")
	b := verifytest.Tar("etc/issue", "Debian\n")
	gz, tar, zst := verifytest.GzipLayer(a), verifytest.TarLayer(b), verifytest.ZstdLayer(b)
	for _, tt := range []struct {
		is    string
		image verifytest.Image
	}{
		{"OCI, gzip", verifytest.Honest(3)},
		{"OCI, zstd", verifytest.NewImage(zst)},
		{"OCI, uncompressed", verifytest.NewImage(tar)},
		{"OCI, each layer otherwise", verifytest.NewImage(gz, tar, zst)},
		{"OCI, one layer twice", verifytest.NewImage(gz, tar, gz)},
		{"OCI, one layer a thousand times", verifytest.NewImage(slices.Repeat([]verifytest.Layer{gz}, 1000)...)},
		{"OCI, one diff_id under two digests", verifytest.NewImage(tar, zst)},
		{"OCI, no layers", verifytest.NewImage()},
		{"Docker, gzip", verifytest.Honest(3).Docker()},
		{"Docker, zstd", verifytest.NewImage(zst).Docker()},
		{"Docker, uncompressed", verifytest.NewImage(tar).Docker()},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			pushBlobs(t, p.URL, "library/app", tt.image)
			mediaType, body := tt.image.Manifest()
			for _, reference := range []string{"1.4", tt.image.Digest().String()} {
				got := putManifest(t, p.URL, "library/app", reference, mediaType, body)
				if got.Status != http.StatusCreated || len(got.Header.Values("Warning")) > 0 {
					t.Fatalf("PUT %s: got %d %s, warnings %q; want 201 and none", reference, got.Status, got.Body, got.Header.Values("Warning"))
				}
				if d := got.Header.Get("Docker-Content-Digest"); d != tt.image.Digest().String() {
					t.Errorf("PUT %s: got Docker-Content-Digest %s, want %s", reference, d, tt.image.Digest())
				}
				if diff := cmp.Diff(body, storedManifest(t, reg.URL, "library/app", reference)); diff != "" {
					t.Errorf("the manifest at the upstream (-sent +stored):\n%s", diff)
				}
			}
		})
	}
}

// Every lie is refused: with the findings of package verify, each as one OCI
// error, and without a trace at the upstream. The truth still passes afterwards.
func TestLies(t *testing.T) {
	t.Parallel()
	for _, lie := range verifytest.Lies() {
		t.Run(lie.Name, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			got := pushImage(t, p.URL, "app", "1.4", lie.Image)
			if got.Status != http.StatusBadRequest {
				t.Fatalf("%s: got %d %s, want 400", lie.Is, got.Status, got.Body)
			}
			mediaType, body := lie.Image.Manifest()
			report, err := verify.Check(context.Background(), verifytest.Repo(lie.Image.Blobs()), mediaType, body)
			if err != nil {
				t.Fatal(err)
			}
			want := refusal(t, "MANIFEST_INVALID", "app", lie.Image.Digest(), report.Findings)
			if diff := cmp.Diff(want, string(got.Body)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", lie.Is, diff)
			}
			if d := got.errors(t)[0].detail(t); d.Reason != lie.Reason || d.Cause != lie.Cause {
				t.Errorf("%s: got reason %q, cause %q; want %q, %q", lie.Is, d.Reason, d.Cause, lie.Reason, lie.Cause)
			}
			for _, reference := range []string{"1.4", lie.Image.Digest().String()} {
				if stored := storedManifest(t, reg.URL, "app", reference); stored != nil {
					t.Errorf("%s: the upstream holds %s: %s", lie.Is, reference, stored)
				}
			}
			if got := pushImage(t, p.URL, "app", "1.4", verifytest.Honest(3)); got.Status != http.StatusCreated {
				t.Errorf("the truth after a lie: got %d %s, want 201", got.Status, got.Body)
			}
		})
	}
}

// refusal returns the body of an answer that refuses a manifest.
func refusal(t testing.TB, code, repo string, manifest digest.Digest, findings []verify.Finding) string {
	t.Helper()
	var errs []string
	for _, f := range findings {
		if f.Severity != verify.False {
			continue
		}
		message, err := json.Marshal(f.Message)
		if err != nil {
			t.Fatal(err)
		}
		detail := fmt.Sprintf(`"reason":%q`, f.Reason)
		for _, member := range []struct{ name, value string }{
			{"cause", string(f.Cause)}, {"layer", fmt.Sprint(f.Layer)}, {"digest", f.Digest.String()},
			{"config_diff_id", f.Claimed.String()}, {"diff_id", f.Actual.String()},
		} {
			switch {
			case member.name == "layer" && f.Layer >= 0:
				detail += `,"layer":` + member.value
			case member.name != "layer" && member.value != "":
				detail += fmt.Sprintf(`,%q:%q`, member.name, member.value)
			}
		}
		detail += fmt.Sprintf(`,"report":"/v2/%s/_diffids/manifests/%s"`, repo, manifest)
		errs = append(errs, fmt.Sprintf(`{"code":%q,"message":%s,"detail":{%s}}`, code, message, detail))
	}
	return `{"errors":[` + strings.Join(errs, ",") + "]}\n"
}

// The body of a refusal, as the API's contract shows it.
func TestRefusalBody(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(3)
	swapped, fewer := verifytest.Swapped(honest), verifytest.Fewer(honest)
	id, blob := honest.DiffIDs, func(i int) digest.Digest { return honest.Layers[i].Digest() }
	short := func(d digest.Digest) string { return d.String()[:len("sha256:")+12] }
	for _, tt := range []struct {
		is    string
		image verifytest.Image
		want  string
	}{
		{"each false diff_id is an error of its own", swapped, fmt.Sprintf(`{"errors":[`+
			`{"code":"MANIFEST_INVALID",`+
			`"message":"diff_id mismatch in layer 1 of 3: config says %[2]s, blob %[6]s unpacks to %[1]s (that is the diff_id of layer 2 of 3)",`+
			`"detail":{"reason":"diff_id_mismatch","cause":"other_layer","layer":0,"digest":"%[3]s","config_diff_id":"%[2]s","diff_id":"%[1]s",`+
			`"report":"/v2/app/_diffids/manifests/%[5]s"}},`+
			`{"code":"MANIFEST_INVALID",`+
			`"message":"diff_id mismatch in layer 2 of 3: config says %[1]s, blob %[7]s unpacks to %[2]s (that is the diff_id of layer 1 of 3)",`+
			`"detail":{"reason":"diff_id_mismatch","cause":"other_layer","layer":1,"digest":"%[4]s","config_diff_id":"%[1]s","diff_id":"%[2]s",`+
			`"report":"/v2/app/_diffids/manifests/%[5]s"}}]}`+"\n",
			id[0], id[1], blob(0), blob(1), swapped.Digest(), short(blob(0)), short(blob(1)))},
		{"a wrong count is told once, with both counts", fewer, fmt.Sprintf(`{"errors":[`+
			`{"code":"MANIFEST_INVALID",`+
			`"message":"diff_id count: config lists 2 diff_ids for 3 layers (layer 3 of 3 has none)",`+
			`"detail":{"reason":"diff_id_count","digest":"%s","report":"/v2/app/_diffids/manifests/%s"}}]}`+"\n",
			fewer.ConfigDigest(), fewer.Digest())},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, newRegistry(t).URL, nil)
			got := pushImage(t, p.URL, "app", "1.4", tt.image)
			if diff := cmp.Diff(tt.want, string(got.Body)); diff != "" {
				t.Errorf("%d (-want +got):\n%s", got.Status, diff)
			}
			if ct := got.Header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("got Content-Type %q, want application/json", ct)
			}
		})
	}
}

// An answer has room for eight errors; then it counts.
func TestManyFalseLayers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		layers, entries int
		last            string
	}{
		{8, 8, "diff_id mismatch in layer 8 of 8: "},
		{9, 9, "and 1 more"},
		{20, 9, "and 12 more"},
	} {
		p := newProxy(t, newRegistry(t).URL, nil)
		got := pushImage(t, p.URL, "app", "1.4", verifytest.EmptyString(verifytest.Honest(tt.layers)))
		errs := got.errors(t)
		if len(errs) != tt.entries || !strings.HasPrefix(errs[len(errs)-1].Message, tt.last) {
			t.Errorf("%d false layers: got %d errors, the last %q; want %d, %q", tt.layers, len(errs), errs[len(errs)-1].Message, tt.entries, tt.last)
		}
	}
}

// With code: denied, which some clients show better, only status and code of a
// refusal differ. What is missing is still told as missing.
func TestDenied(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Denied = true })
	img := verifytest.WrongDigit(verifytest.Honest(2))
	got := pushImage(t, p.URL, "app", "1.4", img)
	if got.Status != http.StatusForbidden || got.codes() != "DENIED" {
		t.Errorf("got %d %s, want 403 DENIED", got.Status, got.codes())
	}
	if d := got.errors(t)[0].detail(t); d.Reason != verify.ReasonDiffIDMismatch {
		t.Errorf("got reason %q, want diff_id_mismatch", d.Reason)
	}
	if storedManifest(t, reg.URL, "app", "1.4") != nil {
		t.Error("the upstream holds the manifest")
	}
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "empty", "1.4", mediaType, body); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_BLOB_UNKNOWN" {
		t.Errorf("without its blobs: got %d %s, want 400 MANIFEST_BLOB_UNKNOWN", got.Status, got.codes())
	}
}

// In audit mode everything passes; what would have been refused is told in
// Warning headers, logged and counted.
func TestAudit(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Mode = proxy.Audit })
	img := verifytest.Swapped(verifytest.Honest(3))
	got := pushImage(t, p.URL, "app", "1.4", img)
	if got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.Status, got.Body)
	}
	_, body := img.Manifest()
	if diff := cmp.Diff(body, storedManifest(t, reg.URL, "app", "1.4")); diff != "" {
		t.Errorf("the manifest at the upstream (-sent +stored):\n%s", diff)
	}
	short := func(i int) string { return img.Layers[i].Digest().String()[:19] }
	want := []string{
		fmt.Sprintf(`299 - "diff_id mismatch in layer 1 of 3: config says %s, blob %s unpacks to %s (that is the diff_id of layer 2 of 3) (audit mode)"`,
			img.DiffIDs[0], short(0), img.DiffIDs[1]),
		fmt.Sprintf(`299 - "diff_id mismatch in layer 2 of 3: config says %s, blob %s unpacks to %s (that is the diff_id of layer 1 of 3) (audit mode)"`,
			img.DiffIDs[1], short(1), img.DiffIDs[0]),
	}
	if diff := cmp.Diff(want, got.Header.Values("Warning")); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if n := p.metric(t, "diffid_manifests_checked_total", "verdict", "mismatch", "mode", "audit"); n != 1 {
		t.Errorf("got %v manifests counted as mismatch in audit mode, want 1", n)
	}
	if n := p.metric(t, "diffid_manifests_rejected_total"); n != 0 {
		t.Errorf("got %v manifests counted as rejected, want 0", n)
	}
	var logged []string
	for _, e := range p.Logs.FilterMessage("manifest is false").All() {
		f := e.ContextMap()
		logged = append(logged, fmt.Sprint(f["mode"], " ", f["vars.name"], " ", f["vars.reference"], " ", f["diffid.reason"], " ", f["diffid.cause"], " ", f["diffid.layer"], " ", f["diffid.expected"], " ", f["diffid.actual"]))
	}
	wantLogged := []string{
		"audit app 1.4 diff_id_mismatch other_layer 0 " + img.DiffIDs[0] + " " + img.DiffIDs[1],
		"audit app 1.4 diff_id_mismatch other_layer 1 " + img.DiffIDs[1] + " " + img.DiffIDs[0],
	}
	if diff := cmp.Diff(wantLogged, logged); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// In audit mode also what is plainly invalid, unknown or not to be found out is
// left to the upstream.
func TestAuditLeavesTheRestToTheUpstream(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Mode = proxy.Audit })
	if got := putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageManifest, []byte("{")); got.Status != http.StatusBadRequest || strings.Contains(string(got.Body), "report") {
		t.Errorf("no JSON: got %d %s, want the registry's own 400", got.Status, got.Body)
	}
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if isBlobGet(r, img.ConfigDigest()) {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated || len(got.Header.Values("Warning")) > 0 {
		t.Errorf("a config that cannot be read: got %d, warnings %q; want 201 and none", got.Status, got.Header.Values("Warning"))
	}
	if n := p.metric(t, "diffid_manifests_checked_total", "verdict", "error", "mode", "audit"); n != 1 {
		t.Errorf("got %v manifests counted as error, want 1", n)
	}
	if n := p.Logs.FilterMessage("manifest could not be judged").Len(); n != 1 {
		t.Errorf("got %d lines that say so, want 1", n)
	}
}

// With mode: off nothing is judged, and nothing asked of the upstream.
func TestOff(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, func(c *proxy.Config) { c.Mode = proxy.Off })
	img := verifytest.WrongDigit(verifytest.Honest(2))
	pushBlobs(t, p.URL, "app", img)
	requests.take()
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated || len(got.Header.Values("Warning")) > 0 {
		t.Errorf("a lie: got %d, warnings %q; want 201 and none", got.Status, got.Header.Values("Warning"))
	}
	want := []string{fmt.Sprintf("PUT /v2/app/manifests/1.4 len=%d", len(body))}
	if diff := cmp.Diff(want, requests.take()); diff != "" {
		t.Errorf("requests at the upstream (-want +got):\n%s", diff)
	}
	if n := p.metric(t, "diffid_manifests_checked_total"); n != 0 {
		t.Errorf("got %v manifests judged, want 0", n)
	}
}

// Of an honest push the upstream sees the requests of the client, no more: what
// passed is known.
func TestAnHonestPushCostsNothing(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	img := verifytest.Honest(3)
	pushBlobs(t, p.URL, "app", img)
	requests.take()
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.Status, got.Body)
	}
	want := []string{fmt.Sprintf("PUT /v2/app/manifests/1.4 len=%d", len(body))}
	if diff := cmp.Diff(want, requests.take()); diff != "" {
		t.Errorf("requests at the upstream (-want +got):\n%s", diff)
	}
}

// Of two pushes of one tag at once, one of them a lie, the lie is never stored:
// what is forwarded is what was judged.
func TestTruthAndLieAtOnce(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	honest := verifytest.Honest(2)
	lie := verifytest.Swapped(honest)
	pushBlobs(t, p.URL, "app", honest)
	pushBlobs(t, p.URL, "app", lie)
	var wg sync.WaitGroup
	for img, want := range map[*verifytest.Image]int{&honest: http.StatusCreated, &lie: http.StatusBadRequest} {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					if got := pushManifest(t, p.URL, *img); got.Status != want {
						t.Errorf("got %d %s, want %d", got.Status, got.Body, want)
					}
				}
			})
		}
	}
	wg.Wait()
	_, body := honest.Manifest()
	if diff := cmp.Diff(body, storedManifest(t, reg.URL, "app", "1.4")); diff != "" {
		t.Errorf("the manifest at the upstream (-true +stored):\n%s", diff)
	}
	if storedManifest(t, reg.URL, "app", lie.Digest().String()) != nil {
		t.Error("the upstream holds the lie")
	}
}
