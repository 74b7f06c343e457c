package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A layerRow is what a report says of one layer.
type layerRow struct {
	Index        int           `json:"index"`
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"media_type"`
	Size         int           `json:"size"`
	UnpackedSize *int          `json:"unpacked_size"`
	Encoding     string        `json:"encoding"`
	ConfigDiffID string        `json:"config_diff_id"`
	DiffID       string        `json:"diff_id"`
	ChainID      digest.Digest `json:"chain_id"`
	Status       string        `json:"status"`
}

// layers returns what a report says of the layers.
func (a answer) layers(t testing.TB) []layerRow {
	t.Helper()
	var body struct{ Layers []layerRow }
	a.decode(t, &body)
	return body.Layers
}

// verdict returns the verdict and the message of a report.
func (a answer) verdict(t testing.TB) (verdict, message string) {
	t.Helper()
	var body struct{ Verdict, Message string }
	a.decode(t, &body)
	return body.Verdict, body.Message
}

// The report of a true image, as the API's contract shows it.
func TestReportBody(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	img := verifytest.Honest(2)
	if got := pushImage(t, p.URL, "library/app", "1.4", img); got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.Status, got.Body)
	}
	chain := identity.ChainIDs([]digest.Digest{digest.Digest(img.DiffIDs[0]), digest.Digest(img.DiffIDs[1])})
	layer := func(i int) string {
		l := img.Layers[i]
		return fmt.Sprintf(`{"index":%d,"digest":"%s","media_type":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"unpacked_size":2048,"encoding":"gzip",`+
			`"config_diff_id":"%s","diff_id":"%s","chain_id":"%s","status":"match"}`, i, l.Digest(), len(l.Blob), l.DiffID(), l.DiffID(), chain[i])
	}
	for _, reference := range []string{"1.4", img.Digest().String()} {
		want := fmt.Sprintf(`{"name":"library/app","reference":"%s","digest":"%s","media_type":"application/vnd.oci.image.manifest.v1+json",`+
			`"config":"%s","platform":"linux/amd64","verdict":"match","layers":[%s,%s]}`+"\n", reference, img.Digest(), img.ConfigDigest(), layer(0), layer(1))
		got := get(t, p.URL+"/v2/library/app/_diffids/manifests/"+reference)
		if diff := cmp.Diff(want, string(got.Body)); got.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: got %d (-want +got):\n%s", reference, got.Status, diff)
		}
	}
}

// A report has a strong tag, and no life of its own: what it says may change
// when a layer is hashed.
func TestReportHeaders(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	pushImage(t, p.URL, "app", "1.4", verifytest.Honest(1))
	path := p.URL + "/v2/app/_diffids/manifests/1.4"
	got := get(t, path)
	tag := got.Header.Get("ETag")
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "private, no-cache", "Vary": "Authorization, Accept",
		"Docker-Distribution-Api-Version": "registry/2.0", "Content-Length": fmt.Sprint(len(got.Body)),
	} {
		if got.Header.Get(k) != v {
			t.Errorf("got %s %q, want %q", k, got.Header.Get(k), v)
		}
	}
	if !strings.HasPrefix(tag, `"`) {
		t.Errorf("got ETag %s, want a strong one", tag)
	}
	if again := get(t, path, "If-None-Match", tag); again.Status != http.StatusNotModified || len(again.Body) > 0 {
		t.Errorf("with its tag: got %d %q, want 304", again.Status, again.Body)
	}
	if head := do(t, http.MethodHead, path, nil); head.Status != http.StatusOK || len(head.Body) > 0 || head.Header.Get("ETag") != tag {
		t.Errorf("HEAD: got %d %q, ETag %s; want 200, %s", head.Status, head.Body, head.Header.Get("ETag"), tag)
	}
	v1 := get(t, path, "Accept", "application/vnd.diffid.v1+json")
	if ct := v1.Header.Get("Content-Type"); ct != "application/vnd.diffid.v1+json" || string(v1.Body) != string(got.Body) {
		t.Errorf("as version 1: got %s %s", ct, v1.Body)
	}
	if text := get(t, path, "Accept", "text/plain"); text.Status != http.StatusNotAcceptable {
		t.Errorf("as text: got %d, want 406", text.Status)
	}
}

// Each verdict, of an image that was pushed before there was a gate, to a
// Proxy that hashes what it does not know when it is asked to.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(2)
	encrypted := verifytest.Honest(2)
	encrypted.Layers[1].MediaType += "+encrypted"
	encrypted.Layers[1].Blob = noise(1000)
	encrypted.Layers[1].Annotations = map[string]string{"org.opencontainers.image.enc.keys.jwe": "e30="}
	chart := verifytest.NewImage(verifytest.Layer{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Blob: []byte("chart")})
	chart.ConfigType, chart.RawConfig = "application/vnd.cncf.helm.config.v1+json", []byte("{}")
	for _, tt := range []struct {
		is               string
		image            verifytest.Image
		verdict, message string // its begin
		statuses         []string
	}{
		{"the truth", honest, "match", "", []string{"match", "match"}},
		{"a lie", verifytest.WrongDigit(honest), "mismatch", "diff_id mismatch in layer 2 of 2: config says ", []string{"match", "mismatch"}},
		{"a diff_id is missing", verifytest.Fewer(honest), "mismatch", "diff_id count: config lists 1 diff_id for 2 layers", []string{"uncompared", "uncompared"}},
		{"a layer is corrupt", verifytest.CutLayer(honest), "mismatch", "corrupt layer 2 of 2 (", []string{"match", "corrupt"}},
		{"a layer is ambiguous", verifytest.AmbiguousLayer(honest), "mismatch", "ambiguous layer 2 of 2 (", []string{"match", "ambiguous"}},
		{"a layer is encrypted", encrypted, "unverifiable", "unverifiable layer 2 of 2 (", []string{"match", "unverifiable"}},
		{"a chart", chart, "not_an_image", "", []string{"not_a_layer"}},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			if got := pushImage(t, reg.URL, "app", "1.4", tt.image); got.Status != http.StatusCreated {
				t.Fatalf("got %d %s, want 201", got.Status, got.Body)
			}
			p := newProxy(t, reg.URL, nil)
			path := p.URL + "/v2/app/_diffids/manifests/1.4"
			before := get(t, path)
			if verdict, _ := before.verdict(t); tt.verdict != "not_an_image" && tt.statuses[0] != "uncompared" && verdict != "unverified" {
				t.Errorf("before a layer was hashed: got %d %s, want unverified", before.Status, before.Body)
			}
			got := get(t, path+"?fetch=true")
			verdict, message := got.verdict(t)
			if got.Status != http.StatusOK || verdict != tt.verdict || !strings.HasPrefix(message, tt.message) || tt.message == "" && message != "" {
				t.Errorf("got %d %s, want %s %q", got.Status, got.Body, tt.verdict, tt.message)
			}
			var statuses []string
			for _, l := range got.layers(t) {
				statuses = append(statuses, l.Status)
			}
			if diff := cmp.Diff(tt.statuses, statuses); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
			if after := get(t, path); string(after.Body) != string(got.Body) {
				t.Errorf("when all is known: got %s, want %s", after.Body, got.Body)
			}
		})
	}
}

// What is told of a layer is what was computed; claims stand beside it. The
// ChainIDs are those of the content, not of the claims.
func TestReportOfALie(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Mode = proxy.Audit })
	honest := verifytest.Honest(3)
	lie := verifytest.Swapped(honest)
	if got := pushImage(t, p.URL, "app", "1.4", lie); got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.Status, got.Body)
	}
	var actual []digest.Digest
	var want []layerRow
	unpacked := 2048
	for i, l := range honest.Layers {
		actual = append(actual, digest.Digest(l.DiffID()))
		want = append(want, layerRow{i, l.Digest(), l.MediaType, len(l.Blob), &unpacked, "gzip", lie.DiffIDs[i], l.DiffID(),
			identity.ChainID(actual), []string{"mismatch", "mismatch", "match"}[i]})
	}
	got := get(t, p.URL+"/v2/app/_diffids/manifests/1.4")
	if verdict, _ := got.verdict(t); verdict != "mismatch" {
		t.Errorf("got %s, want mismatch", verdict)
	}
	if diff := cmp.Diff(want, got.layers(t)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

// A layer that cannot be unpacked has no DiffID, and no layer from there on a
// ChainID.
func TestReportOfACorruptLayer(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(3)
	img.Layers[1].Blob = img.Layers[1].Blob[:60]
	pushImage(t, reg.URL, "app", "1.4", img)
	layers := get(t, p.URL+"/v2/app/_diffids/manifests/1.4?fetch=true").layers(t)
	if len(layers) != 3 {
		t.Fatalf("got %d layers, want 3", len(layers))
	}
	if l := layers[1]; l.DiffID != "" || l.UnpackedSize != nil || l.Encoding != "gzip" || l.Status != "corrupt" {
		t.Errorf("got %+v of the corrupt layer", l)
	}
	if layers[0].ChainID.String() != img.DiffIDs[0] || layers[1].ChainID != "" || layers[2].ChainID != "" || layers[2].DiffID == "" {
		t.Errorf("got the ChainIDs %q, %q, %q; want that of the first layer only", layers[0].ChainID, layers[1].ChainID, layers[2].ChainID)
	}
}

// Warnings that a push would have got stand in the report.
func TestReportWarns(t *testing.T) {
	t.Parallel()
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	layer.Blob = append(layer.Blob, make([]byte, 512)...)
	img := verifytest.NewImage(layer)
	for _, tt := range []struct {
		policy                    verify.Policy
		verdict, message, warning string // begins of them
	}{
		{verify.Policy{}, "match", "", "layer 1 of 1 has zero bytes after"},
		{verify.Policy{RejectNotPortable: true}, "match", "layer 1 of 1 has zero bytes after", ""},
		{verify.Policy{IgnoreNotPortable: true}, "match", "", ""},
	} {
		reg := newRegistry(t)
		pushImage(t, reg.URL, "app", "1.4", img)
		p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Policy = tt.policy })
		got := get(t, p.URL+"/v2/app/_diffids/manifests/1.4?fetch=true")
		var body struct {
			Verdict, Message string
			Warnings         []string
		}
		got.decode(t, &body)
		warning := strings.Join(body.Warnings, "")
		if body.Verdict != tt.verdict || !strings.HasPrefix(body.Message, tt.message) || (tt.message == "") != (body.Message == "") ||
			!strings.HasPrefix(warning, tt.warning) || (tt.warning == "") != (warning == "") {
			t.Errorf("%+v: got %s", tt.policy, got.Body)
		}
	}
}

// An image index has the verdict of its worst child; a platform asks for the
// report of one.
func TestReportOfAnImageIndex(t *testing.T) {
	t.Parallel()
	reg := newUpstream(t, newRegistryHandler(t, func(c *configuration.Configuration) { c.Validation.Manifests.Indexes.Platforms = "none" }))
	p := newProxy(t, reg.URL, nil)
	children := map[string]verifytest.Image{
		"true":  verifytest.Honest(1),
		"false": verifytest.WrongDigit(verifytest.Honest(2)),
		"gone":  verifytest.Honest(4),
	}
	chart := verifytest.NewImage(verifytest.Layer{MediaType: "text/plain", Blob: []byte("chart")})
	chart.ConfigType, chart.RawConfig = ocispec.MediaTypeEmptyJSON, []byte("{}")
	children["artifact"] = chart
	for name, img := range children {
		if name != "gone" {
			if got := pushImage(t, reg.URL, "app", name, img); got.Status != http.StatusCreated {
				t.Fatalf("%s: got %d %s, want 201", name, got.Status, got.Body)
			}
		}
	}
	platforms := map[string]string{
		"true": `"os":"linux","architecture":"amd64","variant":"v2"`, "false": `"os":"linux","architecture":"amd64"`,
		"gone": `"os":"windows","architecture":"amd64"`, "artifact": `"os":"unknown","architecture":"unknown"`,
	}
	slashed := map[string]string{"true": "linux/amd64/v2", "false": "linux/amd64", "gone": "windows/amd64", "artifact": "unknown/unknown"}
	verdicts := map[string]string{"true": "match", "false": "mismatch", "gone": "unverified", "artifact": "not_an_image"}
	for tag, tt := range map[string]struct {
		children []string
		verdict  string
	}{
		"both":      {[]string{"true", "false"}, "mismatch"},
		"sparse":    {[]string{"true", "gone"}, "unverified"},
		"worst":     {[]string{"gone", "artifact", "false", "true"}, "mismatch"},
		"attested":  {[]string{"true", "artifact"}, "match"},
		"artifacts": {[]string{"artifact"}, "not_an_image"},
		"nothing":   {nil, "not_an_image"},
	} {
		var entries, want []string
		for _, c := range tt.children {
			entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"platform":{%s}}`, ocispec.MediaTypeImageManifest, children[c].Digest(), platforms[c]))
			want = append(want, fmt.Sprintf(`{"digest":"%s","platform":"%s","verdict":"%s"}`, children[c].Digest(), slashed[c], verdicts[c]))
		}
		body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(entries, ",") + `]}`)
		if got := putManifest(t, reg.URL, "app", tag, ocispec.MediaTypeImageIndex, body); got.Status != http.StatusCreated {
			t.Fatalf("%s: got %d %s, want 201", tag, got.Status, got.Body)
		}
		manifests := ""
		if len(want) > 0 {
			manifests = `,"manifests":[` + strings.Join(want, ",") + `]`
		}
		got := string(get(t, p.URL+"/v2/app/_diffids/manifests/"+tag+"?fetch=true").Body)
		if tt.verdict == "mismatch" {
			from, to := strings.Index(got, `,"message":`), strings.Index(got, `,"manifests":`)
			told := fmt.Sprintf("manifest %d of %d: diff_id mismatch in layer", 1+slices.Index(tt.children, "false"), len(tt.children))
			if from < 0 || to < from || strings.Count(got[from:to], told) != 2 { // as message and as finding
				t.Fatalf("%s: got %s, want the mismatch of the child", tag, got)
			}
			got = got[:from] + got[to:]
		}
		if diff := cmp.Diff(fmt.Sprintf(`{"name":"app","reference":"%s","digest":"%s","media_type":"%s","verdict":"%s"%s}`+"\n",
			tag, digest.FromBytes(body), ocispec.MediaTypeImageIndex, tt.verdict, manifests), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tag, diff)
		}
	}
	for platform, want := range map[string]string{
		"linux/amd64": "false", "linux/amd64/v2": "true", "unknown/unknown": "artifact", // asked of "worst"
		"windows/amd64": "", "linux/ar": "", "plan9/386": "",
	} {
		got := get(t, p.URL+"/v2/app/_diffids/manifests/worst?platform="+platform)
		if want == "" {
			if got.Status != http.StatusNotFound || got.codes() != "MANIFEST_UNKNOWN" {
				t.Errorf("%s: got %d %s, want 404 MANIFEST_UNKNOWN", platform, got.Status, got.Body)
			}
			continue
		}
		var report struct {
			Reference string
			Digest    digest.Digest
		}
		got.decode(t, &report)
		if verdict, _ := got.verdict(t); report.Digest != children[want].Digest() || verdict != verdicts[want] || report.Reference != "worst" {
			t.Errorf("%s: got %d %s, want the report of the one that is %s", platform, got.Status, got.Body, want)
		}
	}
}

// A report is about what the registry holds. When that cannot be read, or is
// not what was asked for, there is none.
func TestReportOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	_, body := img.Manifest()
	for _, tt := range []struct {
		is     string
		status int
		body   []byte
		want   int
		code   string
	}{
		{"the registry fails", 500, nil, 503, "UNAVAILABLE"},
		{"it asks for patience", 429, nil, 429, "TOOMANYREQUESTS"},
		{"it gives another manifest", 200, []byte("{}"), 502, "UNAVAILABLE"},
		{"it gives too much", 200, make([]byte, len(body)+1), 502, "UNAVAILABLE"},
		{"it gives the manifest", 200, body, 200, ""},
	} {
		reg := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.WriteHeader(tt.status)
			_, _ = w.Write(tt.body) // the client may have enough of it
		}))
		p := newProxy(t, reg.URL, func(c *proxy.Config) { c.MaxManifest = int64(len(body)) })
		got := get(t, p.URL+"/v2/app/_diffids/manifests/"+img.Digest().String())
		if got.Status != tt.want || got.codes() != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.is, got.Status, got.Body, tt.want, tt.code)
		}
		if verdict, _ := got.verdict(t); got.Status == 200 && verdict != "mismatch" {
			t.Errorf("%s, as an image index: got %s, want mismatch", tt.is, got.Body)
		}
	}
}

// An image that an image index names very many times is read once at most.
func TestReportOfALargeImageIndex(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	child := verifytest.Honest(1)
	pushImage(t, p.URL, "app", "child", child)
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, ocispec.MediaTypeImageManifest, child.Digest())
	body := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Repeat(entry+",", 500) + entry + `]}`
	want(t, http.StatusCreated, putManifest(t, p.URL, "app", "1.4", ocispec.MediaTypeImageIndex, []byte(body)))
	requests.take()
	got := get(t, p.URL+"/v2/app/_diffids/manifests/1.4")
	var report struct{ Manifests []struct{ Verdict string } }
	got.decode(t, &report)
	if verdict, _ := got.verdict(t); verdict != "match" || len(report.Manifests) != 501 || report.Manifests[500].Verdict != "match" {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
	reads := 0
	for _, line := range requests.take() {
		if strings.Contains(line, "/v2/app/manifests/"+child.Digest().String()) {
			reads++
		}
	}
	if reads > 1 {
		t.Errorf("the child was asked for %d times, want once at most", reads)
	}
}
