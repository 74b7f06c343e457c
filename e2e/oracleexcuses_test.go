//go:build linux

package e2e

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// An excuse is a reason why an oracle may refuse an image that the gate accepts
// without a warning.
type excuse struct {
	oracle string // what its name begins with; empty means all
	why    string
	of     func(verifytest.Case) bool

	reads bool // the oracle may also read other files than the diff_ids claim
	used  bool // the test has met such an image
}

type excuseTable []*excuse

// excuses are the differences that are known and wanted. The test fails if
// nothing needs one of them any more.
var excuses = excuseTable{
	{oracle: "docker", why: "docker 20.10 does not know zstd; docker has known it since version 23", of: anyLayer(isZstd)},
	{oracle: "umoci", why: "umoci 0.4.7 does not know zstd", of: anyLayer(isZstd)},
	{oracle: "umoci", why: "umoci knows the media types of OCI alone", of: ofOtherTypes},
	{oracle: "umoci", why: "umoci believes the media type of an uncompressed layer", of: anyLayer(isGzipAsTar)},
	{oracle: "umoci", why: "skopeo leaves layers with URLs out of an OCI layout", of: anyLayer(hasURLs)},
	{oracle: "umoci", why: "an OCI layout of skopeo 1.9.3 has SHA-256 digests alone", of: hasSHA512},
	{oracle: "containerd", why: "containerd fetches a foreign layer from its URL, and nothing answers there", of: anyLayer(isForeign)},
	{oracle: "crane validate", why: "crane validate takes every layer for gzip", of: anyLayer(isNotGzip)},
	{oracle: "crane validate", why: "crane validate leaves out layers of types that it does not know", of: anyLayer(isUnknown)},
	{oracle: "crane validate", why: "crane validate computes SHA-256 digests alone", of: hasSHA512},
	{oracle: "podman", why: "podman 4.3.1 does not know Docker's type for zstd", of: cases("M62")},
	{oracle: "podman", why: "podman 4.3.1 computes the SHA-256 digest of a config alone", of: cases("E28b")},
	{oracle: "podman", why: "podman fetches a config, which is inline here and not in the registry; registry:2 refuses such a manifest", of: cases("E46b")},
	{oracle: "docker", why: "docker fetches a config too", of: cases("E46b")},
	{oracle: "umoci", why: "skopeo fetches a config too", of: cases("E46b")},
	{oracle: "containerd 1.6", why: "containerd 1.6 fetches a config too", of: cases("E46b")},
	{oracle: "containerd 1.6", why: "containerd 1.6 does not know Docker's type for zstd", of: cases("M62")},
	{oracle: "containerd 1.6", why: "containerd 1.6 computes SHA-256 digests alone", of: hasSHA512},
	{oracle: "containerd", why: "containerd fetches a layer with a URL from there, and nothing answers there", of: cases("E4j")},
	{why: "a config with a media type of its own is no image's to any runtime", of: hasOwnConfigType},
	{oracle: "podman", why: "podman runs what says nothing about an image; the gate warns of it, since oras, OPA and Spack push artifacts so", of: cases("claimless-image", "claimless-other-keys"), reads: true},
	{why: "a tar that is cut is for tar readers to judge", of: cases("E22c")},
	{why: "a nydus blob is for the snapshotter of nydus", of: anyLayer(isNydus)},
	{why: "docker and containerd on Linux do not run Windows", of: isWindows},
	{why: "the diff_id tells which bytes a tar has; a path that is there twice is for tar readers to judge", of: cases("M64"), reads: true},
}

func (all excuseTable) refuses(o oracle, c verifytest.Case) bool {
	return all.find(o, c, func(*excuse) bool { return true })
}

func (all excuseTable) readsOther(o oracle, c verifytest.Case) bool {
	return all.find(o, c, func(e *excuse) bool { return e.reads })
}

func (all excuseTable) find(o oracle, c verifytest.Case, serves func(*excuse) bool) (found bool) {
	for _, e := range all {
		if strings.HasPrefix(o.name, e.oracle) && serves(e) && e.of(c) {
			e.used, found = true, true
		}
	}
	return found
}

// checkUse fails the test if nothing needs an excuse, though every oracle has
// read every case.
func (all excuseTable) checkUse(t *testing.T, oracles []oracle, trials []*trial) {
	for _, c := range trials {
		if slices.ContainsFunc(oracles, func(o oracle) bool { return !c.readings[o.name].asked }) {
			return
		}
	}
	for _, e := range all {
		if !e.used {
			t.Errorf("no answer needs the excuse of %q: %s", e.oracle, e.why)
		}
	}
}

func anyLayer(is func(verifytest.Layer) bool) func(verifytest.Case) bool {
	return func(c verifytest.Case) bool { return slices.ContainsFunc(c.Image.Layers, is) }
}

// cases returns a condition that holds for the cases with these names.
func cases(ids ...string) func(verifytest.Case) bool {
	return func(c verifytest.Case) bool { return slices.Contains(ids, c.ID) }
}

// isZstd reports whether a layer is a zstd stream, which may begin with a
// skippable frame.
func isZstd(l verifytest.Layer) bool {
	return bytes.HasPrefix(l.Blob, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(l.Blob) > 4 && l.Blob[0]&0xf0 == 0x50 && bytes.Equal(l.Blob[1:4], []byte{0x2a, 0x4d, 0x18})
}

func isGzip(l verifytest.Layer) bool { return bytes.HasPrefix(l.Blob, []byte{0x1f, 0x8b}) }

func isNotGzip(l verifytest.Layer) bool { return !isGzip(l) }

func isGzipAsTar(l verifytest.Layer) bool { return isGzip(l) && l.MediaType == verifytest.DockerTar }

func hasURLs(l verifytest.Layer) bool { return len(l.URLs) > 0 }

func isForeign(l verifytest.Layer) bool {
	return hasURLs(l) && verify.IsForeign(ocispec.Descriptor{MediaType: l.MediaType})
}

func isNydus(l verifytest.Layer) bool { return strings.Contains(l.MediaType, ".layer.nydus.") }

// isUnknown reports whether a layer has a type that is not one of the usual.
func isUnknown(l verifytest.Layer) bool {
	switch l.MediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		verifytest.DockerTar, verifytest.DockerTarGzip, verifytest.DockerForeign:
		return false
	}
	return true
}

// ofOtherTypes reports whether an OCI manifest has types that OCI does not know.
func ofOtherTypes(c verifytest.Case) bool {
	other := func(l verifytest.Layer) bool {
		return isUnknown(l) || !strings.HasPrefix(l.MediaType, "application/vnd.oci.")
	}
	return c.Image.MediaType == ocispec.MediaTypeImageManifest &&
		(c.Image.ConfigType != ocispec.MediaTypeImageConfig || slices.ContainsFunc(c.Image.Layers, other))
}

// hasOwnConfigType reports whether the config has a media type that neither docker
// nor another runtime takes for that of an image.
func hasOwnConfigType(c verifytest.Case) bool {
	t := c.Image.ConfigType
	return t == "application/vnd.docker.plugin.v1+json" || !slices.Contains([]string{"", ";", "application/json", "application/octet-stream"}, t) &&
		!strings.HasPrefix(strings.ToLower(t), "application/vnd.docker.") && !strings.HasPrefix(strings.ToLower(t), "application/vnd.oci.image.") && !strings.EqualFold(t, "text/html")
}

func hasSHA512(c verifytest.Case) bool {
	return c.Image.Algorithm == digest.SHA512 ||
		anyLayer(func(l verifytest.Layer) bool { return l.Algorithm == digest.SHA512 })(c)
}

func isWindows(c verifytest.Case) bool {
	return bytes.Contains(c.Image.Config(), []byte(`"os":"windows"`))
}
