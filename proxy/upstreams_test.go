package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// flows are what clients do. Each has repositories of its own. One that a
// registry refuses by itself ends there.
var flows = []struct {
	name string
	run  func(c *conversation)
}{
	{"push by one PATCH", func(c *conversation) { c.image("patch", "1", onePatch) }},
	{"push by one PATCH of known length", func(c *conversation) { c.image("sized", "1", sizedPatch) }},
	{"push by one PUT", func(c *conversation) { c.image("put", "1", onePut) }},
	{"push in chunks", func(c *conversation) { c.image("chunks", "1", inChunks) }},
	{"push by one POST", func(c *conversation) { c.image("post", "1", onePost) }},
	{"push what went wrong before", stumble},
	{"mount", mount},
	{"push again", pushAgain},
	{"pull", pullAll},
	{"pull parts", pullParts},
	{"push an image index", pushIndex},
	{"list", list},
	{"delete", deleteAll},
}

// Before every registry, every flow gets through the proxy the answers that it
// gets from the registry alone, no answer leads round the proxy, and the DiffID
// index knows the layers.
func TestUpstreams(t *testing.T) {
	t.Parallel()
	for _, kind := range upstreamKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			alone := kind.serve(t)
			behind := kind.serve(t)
			p := newProxy(t, behind, func(c *proxy.Config) { c.Ahead = 0 })
			for _, flow := range flows {
				direct := &conversation{t: t, kind: kind, base: alone, registry: alone}
				through := &conversation{t: t, kind: kind, base: p.URL, registry: behind, through: p}
				flow.run(direct)
				flow.run(through)
				if diff := cmp.Diff(direct.heard, through.heard, sameHeard); diff != "" {
					t.Errorf("%s: answers (-of the registry +through the proxy):\n%s", flow.name, diff)
				}
				t.Logf("%s: %d answers", flow.name, len(direct.heard))
			}
			if bad := p.Logs.FilterLevelExact(zap.ErrorLevel).All(); len(bad) > 0 {
				t.Errorf("the log tells of errors: %v", bad)
			}
		})
	}
}

// mount takes the layers from a repository whose push the proxy did not see.
func mount(c *conversation) {
	img := imageOf("mount")
	aside := &conversation{t: c.t, kind: c.kind, base: c.registry, registry: c.registry}
	for _, l := range img.Layers {
		onePut(aside, "mount/from", l.Blob)
		a := c.say(http.MethodPost, fmt.Sprintf("/v2/mount/to/blobs/uploads/?mount=%s&from=mount%%2Ffrom", l.Digest()), nil)
		switch a.Status {
		case http.StatusAccepted: // send it, then
			if !c.end(c.path(a.Header.Get("Location")), l.Digest(), bytes.NewReader(l.Blob)) {
				return
			}
			c.knows(l, verify.Pushed)
		case http.StatusCreated:
			c.knows(l, verify.Fetched)
		default:
			return
		}
	}
	if onePut(c, "mount/to", img.Config()) {
		c.manifest("mount/to", "1", img)
	}
	c.say(http.MethodPost, "/v2/mount/to/blobs/uploads/?from=mount%2Ffrom&mount="+digest.FromString("nowhere").String(), nil)
}

// stumble does what registries refuse.
func stumble(c *conversation) {
	blob := imageOf("stumble").Layers[0].Blob
	half, dgst := len(blob)/2, digest.FromBytes(blob)
	if !onePut(c, "stumble", imageOf("stumble").Layers[1].Blob) {
		return
	}
	c.end(c.open("stumble"), digest.FromString("other"), bytes.NewReader(blob))
	if to := c.open("stumble"); to != "" {
		c.say(http.MethodPut, to, bytes.NewReader(blob), "Content-Type", octets)
	}
	if to := c.open("stumble"); to != "" {
		c.say(http.MethodPut, withDigest(to, "sha256:123"), bytes.NewReader(blob), "Content-Type", octets)
	}
	first := c.part(c.open("stumble"), bytes.NewReader(blob[:half]), "Content-Range", fmt.Sprintf("0-%d", half-1))
	c.part(first, bytes.NewReader(blob[half+1:]), "Content-Range", fmt.Sprintf("%d-%d", half+1, len(blob)-1))
	if first != "" {
		c.say(http.MethodGet, first, nil)
	}
	c.end(c.part(first, bytes.NewReader(blob[half:]), "Content-Range", fmt.Sprintf("%d-%d", half, len(blob)-1)), dgst, nil)
	if to := c.open("stumble"); to != "" {
		c.say(http.MethodDelete, to, nil)
		c.end(to, dgst, bytes.NewReader(blob))
	}
	mediaType, body := imageOf("absent").Manifest()
	c.turnedDown("MANIFEST_BLOB_UNKNOWN", "stumble", "absent", mediaType, body)
	c.turnedDown("MANIFEST_INVALID", "stumble", "nonsense", mediaType, []byte("nonsense"))
	c.turnedDown("DIGEST_INVALID", "stumble", digest.FromString("other").String(), mediaType, body)
	c.turnedDown("MANIFEST_INVALID", "stumble", "x", "application/vnd.example.unknown+json", []byte("{}"))
}

// turnedDown pushes a manifest that the gate turns down in its own words. Some
// registries take it.
func (c *conversation) turnedDown(code, repo, reference, mediaType string, body []byte) {
	c.t.Helper()
	if c.through == nil {
		return
	}
	a := putManifest(c.t, c.base, repo, reference, mediaType, body)
	if a.Status != http.StatusBadRequest || a.codes() != code {
		c.t.Errorf("PUT %s of %s: got %d %s, want 400 %s", reference, repo, a.Status, a.Body, code)
	}
}

func pushAgain(c *conversation) {
	img, ok := c.image("again", "1", onePatch)
	if !ok {
		return
	}
	for _, l := range img.Layers {
		c.say(http.MethodHead, "/v2/again/blobs/"+l.Digest().String(), nil)
	}
	for _, reference := range []string{"1", "2", img.Digest().String()} {
		c.manifest("again", reference, img)
	}
	onePut(c, "again", img.Layers[0].Blob)
	other := imageOf("again another")
	for dgst, blob := range other.Blobs() {
		c.endQuietly("again", dgst, blob)
	}
	c.manifest("again", "1", other)
	c.say(http.MethodHead, "/v2/again/manifests/1", nil, "Accept", other.MediaType)
}

// endQuietly pushes a blob and notes nothing: maps have no order.
func (c *conversation) endQuietly(repo string, dgst digest.Digest, blob []byte) {
	endUpload(c.t, c.base+c.path(startUpload(c.t, c.base, repo)), dgst, blob)
}

func pullAll(c *conversation) {
	img, pushed := c.image("pull", "1", onePatch)
	for _, reference := range []string{"1", img.Digest().String(), "none", digest.FromString("none").String()} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			c.say(method, "/v2/pull/manifests/"+reference, nil, "Accept", img.MediaType)
		}
	}
	c.say(http.MethodGet, "/v2/pull/manifests/1", nil, "Accept", verifytest.DockerManifest)
	c.say(http.MethodGet, "/v2/pull/manifests/1", nil, "Accept", img.MediaType, "If-None-Match", `"`+img.Digest().String()+`"`)
	for _, dgst := range []digest.Digest{img.ConfigDigest(), img.Layers[0].Digest(), img.Layers[1].Digest(), digest.FromString("none"), "sha256:123"} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			c.say(method, "/v2/pull/blobs/"+dgst.String(), nil)
		}
	}
	c.say(http.MethodGet, "/v2/pull/blobs/"+img.ConfigDigest().String(), nil, "If-None-Match", `"`+img.ConfigDigest().String()+`"`)
	c.say(http.MethodGet, "/v2/other/blobs/"+img.ConfigDigest().String(), nil)
	if !pushed {
		c.knows(img.Layers[0], verify.Pulled, verify.Fetched) // it was found, too
		c.manifest("pull", "2", img)
	}
}

func pullParts(c *conversation) {
	img, _ := c.image("parts", "1", onePut)
	for _, part := range []string{"bytes=0-9", "bytes=5-", "bytes=-5", "bytes=0-0,4-5", "bytes=99999-", "bytes=9-0", "lines=1-2"} {
		c.say(http.MethodGet, "/v2/parts/blobs/"+img.Layers[0].Digest().String(), nil, "Range", part)
		c.say(http.MethodGet, "/v2/parts/manifests/1", nil, "Range", part, "Accept", img.MediaType)
	}
	c.say(http.MethodHead, "/v2/parts/blobs/"+img.Layers[0].Digest().String(), nil, "Range", "bytes=0-9")
}

func list(c *conversation) {
	for _, tag := range []string{"b", "a", "c"} {
		c.image("list", tag, onePut)
	}
	paths := []string{
		"", "list/tags/list", "list/tags/list?n=2", "list/tags/list?n=2&last=a", "list/tags/list?n=0", "none/tags/list",
		"list/referrers/" + imageOf("lista").Digest().String(), "nonsense", "_oci/ext/nonsense",
	}
	if !c.kind.shuffles {
		paths = append(paths, "_catalog", "_catalog?n=2", "_catalog?n=2&last=chunks", "_catalog?n=99999")
	}
	for _, path := range paths {
		c.say(http.MethodGet, "/v2/"+path, nil)
	}
}

func deleteAll(c *conversation) {
	img, ok := c.image("delete", "1", onePut)
	if !ok {
		c.say(http.MethodDelete, "/v2/delete/manifests/1", nil)
		return
	}
	c.manifest("delete", "2", img)
	for range 2 {
		c.say(http.MethodDelete, "/v2/delete/manifests/2", nil)
		c.say(http.MethodDelete, "/v2/delete/manifests/"+img.Digest().String(), nil)
		c.say(http.MethodDelete, "/v2/delete/blobs/"+img.Layers[0].Digest().String(), nil)
		c.say(http.MethodHead, "/v2/delete/blobs/"+img.Layers[0].Digest().String(), nil)
		c.say(http.MethodGet, "/v2/delete/manifests/1", nil, "Accept", img.MediaType)
	}
	c.manifest("delete", "3", img) // of a layer that is gone
	onePatch(c, "delete", img.Layers[0].Blob)
	c.manifest("delete", "4", img)
}

func pushIndex(c *conversation) {
	one, ok := c.image("index", "one", onePatch)
	if !ok {
		return
	}
	two, _ := c.image("index", "two", onePut)
	body := imageIndex(c.t, one, two)
	c.put("index", "both", ocispec.MediaTypeImageIndex, body)
	c.put("index", digest.FromBytes(body).String(), ocispec.MediaTypeImageIndex, body)
	c.say(http.MethodGet, "/v2/index/manifests/both", nil, "Accept", ocispec.MediaTypeImageIndex)
	c.put("index", "absent", ocispec.MediaTypeImageIndex, imageIndex(c.t, one, imageOf("absent")))
}

// Before every registry that would take it, a lie of each sort is refused, as an
// image and within an image index, and the registry does not get it.
func TestLiesBeforeUpstreams(t *testing.T) {
	t.Parallel()
	var lies []verifytest.Lie
	for _, lie := range verifytest.Lies() {
		if !slices.ContainsFunc(lies, func(l verifytest.Lie) bool { return l.Reason == lie.Reason }) {
			lies = append(lies, lie)
		}
	}
	for _, kind := range upstreamKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			behind := kind.serve(t)
			p := newProxy(t, behind, nil)
			for _, lie := range lies {
				direct := &conversation{t: t, base: behind, registry: behind}
				through := &conversation{t: t, base: p.URL, registry: behind, through: p}
				refuseLie(t, direct, through, lie)
			}
		})
	}
}

func refuseLie(t *testing.T, direct, through *conversation, lie verifytest.Lie) {
	repo := "lie/" + strings.ToLower(lie.Name)
	taken := true
	for _, blob := range lie.Image.Blobs() {
		taken = taken && onePatch(through, repo, blob)
	}
	mediaType, body := lie.Image.Manifest()
	if !taken {
		if a := through.put(repo, "1", mediaType, body); a.Status/100 == 2 {
			t.Errorf("%s: got %d", lie.Name, a.Status)
		}
		return
	}
	for _, reference := range []string{"1", lie.Image.Digest().String()} {
		a := through.put(repo, reference, mediaType, body)
		if a.Status != http.StatusBadRequest || !strings.Contains(a.codes(), "MANIFEST_INVALID") || a.errors(t)[0].detail(t).Reason != lie.Reason {
			t.Errorf("%s: got %d %s", lie.Name, a.Status, a.Body)
		}
		if stored := storedManifest(t, through.registry, repo, reference); stored != nil {
			t.Errorf("%s: the registry holds it", lie.Name)
		}
	}
	if a := direct.put(repo, lie.Image.Digest().String(), mediaType, body); a.Status != http.StatusCreated {
		t.Fatalf("%s: the registry itself answers %d %s", lie.Name, a.Status, a.Body)
	}
	index := imageIndex(t, lie.Image)
	a := through.put(repo, "index", ocispec.MediaTypeImageIndex, index)
	if a.Status != http.StatusBadRequest || a.errors(t)[0].detail(t).Reason != lie.Reason || a.errors(t)[0].detail(t).Manifest != lie.Image.Digest() {
		t.Errorf("%s: within an image index: got %d %s", lie.Name, a.Status, a.Body)
	}
}

// Of a host that has more than the registry, nothing else is reached.
func TestUpstreamUnderAPath(t *testing.T) {
	t.Parallel()
	there := recordRequests(http.NotFoundHandler())
	p := newProxy(t, newUpstream(t, there).URL+"/some/reg", nil)
	for _, tt := range []struct {
		target, want string // what the upstream is asked for
	}{
		{"/v2/_oci/ext/x?a=%2f", "/some/reg/v2/_oci/ext/x?a=%2f"},
		{"/v2/a%2Fb/c", "/some/reg/v2/a%2Fb/c"},
		{"/v2", "/some/reg/v2"},
		{"/", "/some/reg/"},
		{"/secret", "/some/reg/secret"},
		{"//secret", "/some/reg//secret"},
		{"/v2/../secret", ""},
		{"/v2/%2e%2e/%2E./secret", ""},
		{"/v2/..;/secret", ""},
		{`/v2/..\..\secret`, ""},
	} {
		a := sendRaw(t, p.URL, "GET "+tt.target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		want := []string{"GET " + tt.want + " len=0"}
		status := http.StatusNotFound
		if tt.want == "" {
			want, status = nil, http.StatusBadRequest
		}
		if diff := cmp.Diff(want, there.take()); diff != "" || a.Status != status {
			t.Errorf("%s: got %d, want %d; requests (-want +got):\n%s", tt.target, a.Status, status, diff)
		}
	}
}
