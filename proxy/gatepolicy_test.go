package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A warningHeader is one that clients can read: a code, no agent, and one
// quoted string of printable ASCII without an escape.
var warningHeader = regexp.MustCompile(`^299 - "[ !#$&-\[\]-~]+"$`)

// checkWarnings reports the Warning headers that a client's parser may
// stumble over (OCI distribution specification, "Warnings").
func checkWarnings(t *testing.T, lines []string) {
	t.Helper()
	total := 0
	for _, line := range lines {
		total += len("Warning: ") + len(line) + len("\r\n")
		if !warningHeader.MatchString(line) {
			t.Errorf("got the header Warning: %q", line)
		}
	}
	if total > 4096 {
		t.Errorf("got %d bytes of Warning headers, want at most 4096", total)
	}
}

// What is true and yet of no use to some runtime, or cannot be found out,
// passes with a warning or not at all, as the policy says.
func TestPolicy(t *testing.T) {
	t.Parallel()
	tar := verifytest.Tar("etc/motd", "hello\n")
	typed := func(l verifytest.Layer, mediaType string) verifytest.Layer {
		l.MediaType = mediaType
		return l
	}
	zeros := verifytest.GzipLayer(tar)
	zeros.Blob = append(zeros.Blob, make([]byte, 512)...)
	noType := verifytest.NewImage(verifytest.GzipLayer(tar))
	noType.RawConfig = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"la\"\\%%\u00e9","diff_ids":[%q]}}`, noType.DiffIDs[0])
	strict := verify.Policy{RejectNotPortable: true}
	lenient := verify.Policy{AllowUnverifiable: []verify.Cause{verify.CauseEncrypted}}
	encrypted := typed(verifytest.TarLayer(noise(1000)), "application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
	encrypted.Annotations = map[string]string{"org.opencontainers.image.enc.keys.jwe": "e30="}
	for _, tt := range []struct {
		is     string
		image  verifytest.Image
		policy verify.Policy
		want   string // the begin of the warning, or "": 201 without one, or the reason of a refusal
	}{
		{"zeros after the gzip stream, which only some runtimes take", verifytest.NewImage(zeros), verify.Policy{}, `299 - "layer 1 of 1 has zero bytes after the gzip stream`},
		{"the same in a strict shop", verifytest.NewImage(zeros), strict, "not_portable"},
		{"the same where nobody cares", verifytest.NewImage(zeros), verify.Policy{IgnoreNotPortable: true}, ""},
		{"gzip that is called zstd", verifytest.NewImage(typed(verifytest.GzipLayer(tar), ocispec.MediaTypeImageLayerZstd)), verify.Policy{}, `299 - "layer 1 of 1 is gzip and its media type says zstd`},
		{"an encrypted layer, whose diff_id is not proven", verifytest.WrongDigit(verifytest.NewImage(encrypted)), verify.Policy{}, "unverifiable"},
		{"the same where encrypted layers are allowed", verifytest.WrongDigit(verifytest.NewImage(encrypted)), lenient, `299 - "unverifiable layer 1 of 1 (`},
		{"text of the config that would break out of the header", noType, verify.Policy{}, `299 - "rootfs.type is 'la/'// /u00e9', not 'layers'`},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Policy = tt.policy })
			got := pushImage(t, p.URL, "app", "1.4", tt.image)
			lines := got.Header.Values("Warning")
			checkWarnings(t, lines)
			switch {
			case got.Status == http.StatusBadRequest:
				if d := got.errors(t)[0].detail(t); string(d.Reason) != tt.want {
					t.Errorf("got reason %q, want %q", d.Reason, tt.want)
				}
			case got.Status != http.StatusCreated, tt.want == "" && len(lines) > 0,
				tt.want != "" && (len(lines) != 1 || !strings.HasPrefix(lines[0], tt.want)):
				t.Errorf("got %d, warnings %q; want %q", got.Status, lines, tt.want)
			}
		})
	}
}

// However much there is to warn about, the headers stay small enough for every
// client, and those that are there are whole.
func TestManyWarnings(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Mode = proxy.Audit })
	got := pushImage(t, p.URL, "app", "1.4", verifytest.EmptyString(verifytest.Honest(30)))
	lines := got.Header.Values("Warning")
	checkWarnings(t, lines)
	if got.Status != http.StatusCreated || len(lines) < 8 {
		t.Errorf("got %d with %d warnings, want 201 with as many as 4096 bytes take", got.Status, len(lines))
	}
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasSuffix(line, `(audit mode)"`) {
			t.Errorf("got the warning %q, want it whole", line)
		}
	}
	if got, want := lines[len(lines)-1], fmt.Sprintf(`299 - "and %d more"`, 30-len(lines)+1); got != want {
		t.Errorf("got the last warning %q, want %q", got, want)
	}
}

// What is no image passes unjudged and unwarned: storers must not fail on types
// that they do not know (OCI image specification, manifest.md).
func TestNoImages(t *testing.T) {
	t.Parallel()
	blob := []byte("{}")
	layer := func(mediaType string) verifytest.Layer {
		return verifytest.Layer{MediaType: mediaType, Blob: blob, Content: blob}
	}
	artifact := func(config, layerType string) (string, []byte) {
		img := verifytest.NewImage(layer(layerType))
		img.ConfigType, img.RawConfig = config, blob
		return img.Manifest()
	}
	attestation := verifytest.NewImage(layer(verifytest.InToto))
	for _, tt := range []struct {
		is  string
		put func() (mediaType string, body []byte)
	}{
		{"a Helm chart", func() (string, []byte) {
			return artifact("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
		}},
		{"a signature under a config type of its own", func() (string, []byte) {
			return artifact("application/vnd.dev.cosign.config.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json")
		}},
		{"an artifact with the empty config", func() (string, []byte) { return artifact(ocispec.MediaTypeEmptyJSON, "text/plain") }},
		{"an attestation with an image config", attestation.Manifest},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			pushBlob(t, p.URL, "app", blob)
			pushBlob(t, p.URL, "app", attestation.Config())
			mediaType, body := tt.put()
			got := putManifest(t, p.URL, "app", "1.4", mediaType, body)
			if got.Status != http.StatusCreated || len(got.Header.Values("Warning")) > 0 {
				t.Fatalf("got %d %s, warnings %q; want 201 and none", got.Status, got.Body, got.Header.Values("Warning"))
			}
			if diff := cmp.Diff(body, storedManifest(t, reg.URL, "app", "1.4")); diff != "" {
				t.Errorf("the manifest at the upstream (-sent +stored):\n%s", diff)
			}
			if n := p.metric(t, "diffid_manifests_checked_total", "verdict", "not_an_image"); n != 1 {
				t.Errorf("got %v manifests counted as not_an_image, want 1", n)
			}
		})
	}
}

// A config type that runtimes take for an image's is no way round the gate.
func TestConfigTypesThatDodge(t *testing.T) {
	t.Parallel()
	for _, configType := range []string{"", "application/octet-stream", "application/json", "text/html", verifytest.DockerConfig} {
		img := verifytest.WrongDigit(verifytest.Honest(2))
		img.ConfigType = configType
		p := newProxy(t, newRegistry(t).URL, nil)
		if got := pushImage(t, p.URL, "app", "1.4", img); got.Status != http.StatusBadRequest {
			t.Errorf("a lie whose config has the type %q: got %d %s, want 400", configType, got.Status, got.Body)
		}
	}
}

// Schema 1 manifests carry no diff_ids. Refusing them closes a way round the
// gate: skopeo, podman and buildah try schema 1 when schema 2 is refused.
func TestSchema1(t *testing.T) {
	t.Parallel()
	body := []byte(`{"schemaVersion":1,"name":"app","tag":"1.4","architecture":"amd64","fsLayers":[],"history":[]}`)
	for _, mediaType := range []string{
		"application/vnd.docker.distribution.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v1+prettyjws",
	} {
		// No registry of today takes schema 1, so the upstream says yes to all.
		var stored [][]byte
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				stored = append(stored, readBody(t, r.Body))
				w.WriteHeader(http.StatusCreated)
			}
		}))
		p := newProxy(t, upstream.URL, nil)
		got := putManifest(t, p.URL, "app", "1.4", mediaType, body)
		want := "Docker schema 1 manifests carry no diff_ids and are refused (verify.schema1)"
		if errs := got.errors(t); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_INVALID" || errs[0].Message != want || errs[0].detail(t).Reason != verify.ReasonSchema1 {
			t.Errorf("%s: got %d %s", mediaType, got.Status, got.Body)
		}
		if len(stored) > 0 {
			t.Errorf("%s: the upstream got %s", mediaType, stored)
		}
		p = newProxy(t, upstream.URL, func(c *proxy.Config) { c.Policy.AllowSchema1 = true })
		got = putManifest(t, p.URL, "app", "1.4", mediaType, body)
		warned := []string{`299 - "Docker schema 1 manifests carry no diff_ids: nothing was verified"`}
		if lines := got.Header.Values("Warning"); got.Status != http.StatusCreated || !slices.Equal(lines, warned) {
			t.Errorf("%s where it is allowed: got %d, warnings %q; want 201, %q", mediaType, got.Status, lines, warned)
		}
		if diff := cmp.Diff([][]byte{body}, stored); diff != "" {
			t.Errorf("%s where it is allowed: the upstream got (-want +got):\n%s", mediaType, diff)
		}
	}
}

// A Content-Type that says nothing is refused: the registry might read an
// image where the gate did not look for one.
func TestUnknownContentTypes(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.WrongDigit(verifytest.Honest(1))
	pushBlobs(t, p.URL, "app", img)
	_, body := img.Manifest()
	for _, contentType := range []string{
		"application/vnd.example.manifest.v7+json",
		"application/json",
		"text/plain",
		"application/octet-stream",
		ocispec.MediaTypeImageManifest + "; nonsense",
		ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex,
		"",
	} {
		got := putManifest(t, p.URL, "app", "1.4", contentType, body)
		if errs := got.errors(t); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_INVALID" || errs[0].detail(t).Reason != verify.ReasonUnknownMediaType {
			t.Errorf("Content-Type %q: got %d %s, want 400 unknown_media_type", contentType, got.Status, got.Body)
		}
	}
	req := newRequest(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", strings.NewReader(string(body)))
	if got := send(t, req); got.Status != http.StatusBadRequest {
		t.Errorf("no Content-Type: got %d %s, want 400", got.Status, got.Body)
	}
	if storedManifest(t, reg.URL, "app", "1.4") != nil {
		t.Error("the upstream holds the manifest")
	}
}

// Parameters and case of the Content-Type do not count, for the lie as for the
// truth.
func TestContentTypesWithParameters(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	honest := verifytest.Honest(1)
	lie := verifytest.WrongDigit(honest)
	pushBlobs(t, p.URL, "app", honest)
	pushBlobs(t, p.URL, "app", lie)
	for _, contentType := range []string{
		ocispec.MediaTypeImageManifest + "; charset=utf-8",
		strings.Replace(ocispec.MediaTypeImageManifest, "application", "Application", 1),
	} {
		_, body := lie.Manifest()
		if got := putManifest(t, p.URL, "app", "1.4", contentType, body); got.Status != http.StatusBadRequest || got.errors(t)[0].detail(t).Reason != verify.ReasonDiffIDMismatch {
			t.Errorf("a lie as %q: got %d %s, want 400 diff_id_mismatch", contentType, got.Status, got.Body)
		}
		_, body = honest.Manifest()
		if got := putManifest(t, p.URL, "app", "1.4", contentType, body); got.Status != http.StatusCreated {
			t.Errorf("the truth as %q: got %d %s, want 201", contentType, got.Status, got.Body)
		}
	}
}

// A foreign layer need not be in the registry. If it is, it is judged; if not,
// it cannot be, and what its URLs lead to is nobody's word.
func TestForeignLayers(t *testing.T) {
	t.Parallel()
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	layer.MediaType = verifytest.DockerForeign
	honest := verifytest.NewImage(layer).Docker()
	allowed := verify.Policy{AllowUnverifiable: []verify.Cause{verify.CauseForeign}}
	for _, tt := range []struct {
		is     string
		image  verifytest.Image
		held   bool
		policy verify.Policy
		status int
		want   string // begin of the warning, or reason
	}{
		{"it is held, and as claimed", honest, true, verify.Policy{}, 201, ""},
		{"it is held, and not as claimed", verifytest.WrongDigit(honest), true, verify.Policy{}, 400, "diff_id_mismatch"},
		{"it is elsewhere", honest, false, verify.Policy{}, 400, "unverifiable"},
		{"it is elsewhere, and that is allowed", honest, false, allowed, 201, `299 - "unverifiable layer 1 of 1 (`},
		{"it is elsewhere, and that is allowed, whatever is claimed", verifytest.WrongDigit(honest), false, allowed, 201, `299 - "unverifiable layer 1 of 1 (`},
		{"it is held, and not as claimed, where it might be elsewhere", verifytest.WrongDigit(honest), true, allowed, 400, "diff_id_mismatch"},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			mirror := newUpstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the URL was fetched") }))
			reg := newUpstream(t, newRegistryHandler(t, func(c *configuration.Configuration) {
				c.Validation.Manifests.URLs.Allow = []string{"^http://127.0.0.1:"}
			}))
			p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Policy = tt.policy })
			pushBlob(t, p.URL, "app", tt.image.Config())
			if tt.held {
				pushBlob(t, p.URL, "app", layer.Blob)
			}
			mediaType, body := tt.image.Manifest()
			body = bytes.Replace(body, []byte(`"layers":[{`), fmt.Appendf(nil, `"layers":[{"urls":[%q],`, mirror.URL), 1)
			got := putManifest(t, p.URL, "app", "1.4", mediaType, body)
			said := strings.Join(got.Header.Values("Warning"), " ")
			if got.Status == http.StatusBadRequest {
				said = string(got.errors(t)[0].detail(t).Reason)
			}
			if got.Status != tt.status || !strings.HasPrefix(said, tt.want) || tt.want == "" && said != "" {
				t.Errorf("got %d %s, warnings %q; want %d %q", got.Status, got.Body, said, tt.status, tt.want)
			}
		})
	}
}

// bigManifest returns an honest image's manifest of exactly n bytes.
func bigManifest(t testing.TB, img verifytest.Image, n int) []byte {
	t.Helper()
	_, body := img.Manifest()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	m["annotations"] = json.RawMessage(`{"filler":""}`)
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.Replace(string(body), `"filler":"`, `"filler":"`+strings.Repeat("x", n-len(body)), 1))
}
