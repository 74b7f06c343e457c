package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// An upstreamKind is a registry that the proxy may stand before.
type upstreamKind struct {
	name     string
	start    func(testing.TB) http.Handler // an empty one
	shuffles bool                          // its catalog has no order
	under    string                        // the path that it is under
}

// upstreamKinds are the registries that run in this process.
var upstreamKinds = []upstreamKind{
	distribution("in memory", nil),
	distribution("in memory with a cache", cached),
	{name: "on disk", start: func(t testing.TB) http.Handler { return newRegistryHandler(t, onDisk(t)) }},
	{name: "on disk with a cache", start: func(t testing.TB) http.Handler {
		return newRegistryHandler(t, func(c *configuration.Configuration) { onDisk(t)(c); cached(c) })
	}},
	distribution("that says it has another name", func(c *configuration.Configuration) { c.HTTP.Host = "https://registry.example:8443" }),
	distribution("that names no host", func(c *configuration.Configuration) { c.HTTP.RelativeURLs = true }),
	underPath("", nil),
	underPath(" that says it has another name", func(c *configuration.Configuration) { c.HTTP.Host = "https://registry.example:8443" }),
	underPath(" that names no host", func(c *configuration.Configuration) { c.HTTP.RelativeURLs = true }),
	distribution("that deletes nothing", func(c *configuration.Configuration) { delete(c.Storage, "delete") }),
	{name: "that is read only", start: readOnly},
	{name: "of go-containerregistry", shuffles: true, start: func(testing.TB) http.Handler {
		return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	}},
	{name: "of CUE", start: func(testing.TB) http.Handler { return ociserver.New(ocimem.New(), nil) }},
}

// distribution is distribution's registry with other settings.
func distribution(name string, edit func(*configuration.Configuration)) upstreamKind {
	return upstreamKind{name: name, start: func(t testing.TB) http.Handler { return newRegistryHandler(t, edit) }}
}

// underPath is distribution's registry under a path.
func underPath(name string, edit func(*configuration.Configuration)) upstreamKind {
	kind := distribution("under a path"+name, func(c *configuration.Configuration) {
		c.HTTP.Prefix = "/some/reg/"
		if edit != nil {
			edit(c)
		}
	})
	kind.under = "/some/reg"
	return kind
}

// serve starts an empty one and returns its URL.
func (k upstreamKind) serve(t testing.TB) string {
	return newUpstream(t, k.start(t)).URL + k.under
}

func cached(c *configuration.Configuration) {
	c.Storage["cache"] = configuration.Parameters{"blobdescriptor": "inmemory"}
}

func onDisk(t testing.TB) func(*configuration.Configuration) {
	dir := t.TempDir()
	return func(c *configuration.Configuration) {
		delete(c.Storage, "inmemory")
		c.Storage["filesystem"] = configuration.Parameters{"rootdirectory": dir}
	}
}

// readOnly returns a registry that holds two images and takes no more.
func readOnly(t testing.TB) http.Handler {
	disk := onDisk(t)
	writable := newUpstream(t, newRegistryHandler(t, disk))
	for _, repo := range []string{"pull", "parts"} {
		pushImage(t, writable.URL, repo, "1", imageOf(repo+"1"))
	}
	return newRegistryHandler(t, func(c *configuration.Configuration) {
		disk(c)
		c.Storage["maintenance"]["readonly"] = map[any]any{"enabled": true}
	})
}

// A conversation is what a client says to a registry and what it hears.
type conversation struct {
	t        testing.TB
	kind     upstreamKind
	base     string
	registry string     // behind base
	through  *testProxy // that base is of; nil when the client speaks to the registry itself
	heard    []heard
}

// A heard is one answer, without what differs between two answers of the same
// registry.
type heard struct {
	To     string // method and path
	Status int
	Header http.Header
	Body   string
}

var (
	uploadPath = regexp.MustCompile(`/blobs/uploads/[^/?]+`)
	uploadSeal = regexp.MustCompile(`_state=[^&]*`)
)

// say sends a request and notes the answer. The target is a path with a query.
func (c *conversation) say(method, target string, body io.Reader, header ...string) answer {
	c.t.Helper()
	a := send(c.t, newRequest(c.t, method, c.base+target, body, header...))
	if c.through != nil {
		c.comesBack(a)
	}
	h := a.Header.Clone()
	h.Del("Date")
	for i, link := range h["Link"] {
		h["Link"][i] = strings.Replace(link, "<"+c.under(), "<", 1)
	}
	if to := h.Get("Location"); to != "" {
		h.Set("Location", anySession(c.path(to)))
	}
	if h.Get("Docker-Upload-Uuid") != "" {
		h.Set("Docker-Upload-Uuid", "SESSION")
	}
	if a.Status >= http.StatusBadRequest && method != http.MethodHead {
		h.Del("Content-Length") // some errors quote the session; the body is compared
	}
	text := string(a.Body)
	if _, boundary, ok := strings.Cut(h.Get("Content-Type"), "boundary="); ok {
		h.Set("Content-Type", "multipart")
		text = strings.ReplaceAll(text, boundary, "BOUNDARY")
	}
	c.heard = append(c.heard, heard{method + " " + anySession(target), a.Status, h, anySession(text)})
	return a
}

// anySession replaces what is random in the URL of an upload.
func anySession(s string) string {
	return uploadSeal.ReplaceAllString(uploadPath.ReplaceAllString(s, "/blobs/uploads/SESSION"), "_state=STATE")
}

// comesBack fails the test when an answer leads the client round the proxy.
func (c *conversation) comesBack(a answer) {
	c.t.Helper()
	to := a.Header.Get("Location")
	if !strings.HasPrefix(to, c.base+"/v2/") && !strings.HasPrefix(to, "/v2/") && to != "" {
		c.t.Errorf("the client is sent to %s, round the proxy at %s", to, c.base)
	}
}

// under is the path that the client looks for the registry under.
func (c *conversation) under() string {
	c.t.Helper()
	u, err := url.Parse(c.base)
	if err != nil {
		c.t.Fatal(err)
	}
	return u.Path
}

// path returns the path and the query of a URL of the registry.
func (c *conversation) path(location string) string {
	c.t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimPrefix(u.RequestURI(), c.under())
}

// open opens an upload, and returns where it goes on, or nothing when the
// registry opens none.
func (c *conversation) open(repo string) string {
	c.t.Helper()
	a := c.say(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if a.Status != http.StatusAccepted {
		return ""
	}
	return c.path(a.Header.Get("Location"))
}

// part sends a part of a blob, and returns where the upload goes on, or nothing
// when the registry did not take it.
func (c *conversation) part(to string, body io.Reader, header ...string) string {
	c.t.Helper()
	if to == "" {
		return ""
	}
	a := c.say(http.MethodPatch, to, body, append(header, "Content-Type", octets)...)
	if a.Status != http.StatusAccepted {
		return ""
	}
	return c.path(a.Header.Get("Location"))
}

// end sends the rest of a blob, and reports whether the registry has it now.
func (c *conversation) end(to string, dgst digest.Digest, body io.Reader, header ...string) bool {
	c.t.Helper()
	return to != "" && c.say(http.MethodPut, withDigest(to, dgst), body, append(header, "Content-Type", octets)...).Status == http.StatusCreated
}

// A sendWay is how a client sends a blob. It reports whether the registry
// has it now.
type sendWay func(c *conversation, repo string, blob []byte) bool

func onePut(c *conversation, repo string, blob []byte) bool {
	return c.end(c.open(repo), digest.FromBytes(blob), bytes.NewReader(blob))
}

// onePatch is how docker does it: no length before the bytes.
func onePatch(c *conversation, repo string, blob []byte) bool {
	return c.end(c.part(c.open(repo), io.MultiReader(bytes.NewReader(blob))), digest.FromBytes(blob), nil)
}

// sizedPatch is how skopeo does it.
func sizedPatch(c *conversation, repo string, blob []byte) bool {
	return c.end(c.part(c.open(repo), bytes.NewReader(blob)), digest.FromBytes(blob), nil)
}

// inChunks sends a blob as the specification says, and asks in between how far
// it came. The last chunk goes with the PUT.
func inChunks(c *conversation, repo string, blob []byte) bool {
	first, second := len(blob)/3, 2*len(blob)/3
	to := c.part(c.open(repo), bytes.NewReader(blob[:first]), "Content-Range", fmt.Sprintf("0-%d", first-1))
	if to == "" {
		return false
	}
	if a := c.say(http.MethodGet, to, nil); a.Status == http.StatusNoContent {
		to = c.path(a.Header.Get("Location"))
	}
	to = c.part(to, bytes.NewReader(blob[first:second]), "Content-Range", fmt.Sprintf("%d-%d", first, second-1))
	return c.end(to, digest.FromBytes(blob), bytes.NewReader(blob[second:]), "Content-Range", fmt.Sprintf("%d-%d", second, len(blob)-1))
}

// onePost sends a blob with the request that opens the upload, and once more if
// the registry does not take it so.
func onePost(c *conversation, repo string, blob []byte) bool {
	dgst := digest.FromBytes(blob)
	a := c.say(http.MethodPost, withDigest("/v2/"+repo+"/blobs/uploads/", dgst), bytes.NewReader(blob), "Content-Type", octets)
	return a.Status == http.StatusCreated ||
		a.Status == http.StatusAccepted && c.end(c.path(a.Header.Get("Location")), dgst, bytes.NewReader(blob))
}

// image pushes an image of two layers that nobody else has, and reports whether
// the registry has it now. The DiffID index knows the layers before they are
// named.
func (c *conversation) image(repo, tag string, way sendWay) (verifytest.Image, bool) {
	c.t.Helper()
	img := imageOf(repo + tag)
	for _, l := range img.Layers {
		if !way(c, repo, l.Blob) {
			return img, false
		}
		c.knows(l, verify.Pushed)
	}
	return img, way(c, repo, img.Config()) && c.manifest(repo, tag, img)
}

// imageOf returns an honest image of two layers.
func imageOf(seed string) verifytest.Image {
	return verifytest.NewImage(
		verifytest.GzipLayer(verifytest.Tar(seed, strings.Repeat(seed, 100))),
		verifytest.ZstdLayer(verifytest.Tar(seed+"2", strings.Repeat(seed, 200))),
	)
}

// manifest pushes the manifest of an image.
func (c *conversation) manifest(repo, reference string, img verifytest.Image) bool {
	c.t.Helper()
	mediaType, body := img.Manifest()
	return c.put(repo, reference, mediaType, body).Status == http.StatusCreated
}

// put pushes a manifest. Of a refusal it notes the status and the code: the
// gate says the rest in its own words.
func (c *conversation) put(repo, reference, mediaType string, body []byte) answer {
	c.t.Helper()
	a := c.say(http.MethodPut, "/v2/"+repo+"/manifests/"+reference, bytes.NewReader(body), "Content-Type", mediaType)
	if last := &c.heard[len(c.heard)-1]; a.Status >= http.StatusBadRequest {
		last.Header = nil
		last.Body, _, _ = strings.Cut(a.codes(), ",")
	}
	return a
}

// knows fails the test unless the DiffID index gets to know a layer, from one of
// these sources.
func (c *conversation) knows(l verifytest.Layer, sources ...verify.Source) {
	c.t.Helper()
	if c.through == nil {
		return
	}
	got := c.through.fact(c.t, l.Digest())
	if diff := cmp.Diff(factAbout(c.t, l.Blob, got.Source), got); diff != "" || !slices.Contains(sources, got.Source) {
		c.t.Errorf("the DiffID index knows from a %s, want %q (-want +got):\n%s", got.Source, sources, diff)
	}
}

// sameHeard compares answers.
var sameHeard = cmpopts.EquateEmpty()
