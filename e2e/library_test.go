package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"diffgate/cmd/proxy/settings"
)

// What the libraries make that ko, crane, kaniko, buildpacks, nerdctl and
// others are made of is accepted, and the proxy computes the DiffIDs that they
// did.
func TestLibraries(t *testing.T) {
	t.Parallel()
	proxy := startWatched(t, startRegistry3(t), settings.Enforce)
	for repo, test := range map[string]struct {
		says      string
		image     v1.Image
		encodings []string
		tocs      int // layers with a table of contents for lazy pullers
	}{
		"random":   {"random layers under Docker's types", randomImage(t, types.DockerLayer), []string{"gzip", "gzip"}, 0},
		"gzip":     {"a tar that the library compresses", withLayers(t, tarLayer(t)), []string{"gzip"}, 0},
		"stream":   {"one that it hashes while it is sent", withLayers(t, stream.NewLayer(io.NopCloser(bytes.NewReader(oneFile(t, "streamed"))))), []string{"gzip"}, 0},
		"zstd":     {"as zstd", withLayers(t, tarLayer(t, tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd))), []string{"zstd"}, 0},
		"plain":    {"not compressed", withLayers(t, static.NewLayer(oneFile(t, "plain"), types.OCIUncompressedLayer)), []string{"identity"}, 0},
		"mixed":    {"on top of another image", withLayersOn(t, randomImage(t, types.OCILayer), added(static.NewLayer(oneFile(t, "top"), types.OCIUncompressedLayer))), []string{"gzip", "gzip", "identity"}, 0},
		"repeated": {"one layer twice", withLayers(t, tarLayer(t), tarLayer(t)), []string{"gzip", "gzip"}, 0},
		"estargz":  {"eStargz, as gzip", withLayersOn(t, ociImage(t), eStargz(t)), []string{"gzip"}, 1},
		"chunked":  {"eStargz's library for zstd:chunked", withLayersOn(t, ociImage(t), zstdChunked(t)), []string{"zstd"}, 1},
	} {
		t.Run(repo, func(t *testing.T) {
			t.Log(test.says)
			if err := remote.Write(reference(t, proxy, repo), test.image); err != nil {
				t.Fatal(err)
			}
			r := askReport(t, proxy, repo, "1")
			if r.Verdict != "match" || len(r.Warnings) > 0 {
				t.Errorf("the verdict is %s (%s), warnings %q; want match and none", r.Verdict, r.Message, r.Warnings)
			}
			var encodings, found []string
			tocs := 0
			for _, l := range r.Layers {
				encodings, found = append(encodings, l.Encoding), append(found, l.DiffID)
				if l.TOC != "" {
					tocs++
				}
			}
			if diff := cmp.Diff(test.encodings, encodings); diff != "" {
				t.Errorf("encodings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(claimed(t, test.image), found); diff != "" {
				t.Errorf("DiffIDs (-library +proxy):\n%s", diff)
			}
			if tocs != test.tocs {
				t.Errorf("%d tables of contents, want %d", tocs, test.tocs)
			}
		})
	}
}

// An image index of two platforms is judged image by image.
func TestLibraryIndex(t *testing.T) {
	t.Parallel()
	proxy := startWatched(t, startRegistry3(t), settings.Enforce)
	amd64, arm64 := randomImage(t, types.OCILayer), randomImage(t, types.OCILayer)
	index := func(arm64 v1.Image) v1.ImageIndex {
		return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
			mutate.IndexAddendum{Add: amd64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
			mutate.IndexAddendum{Add: arm64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	}
	if err := remote.WriteIndex(reference(t, proxy, "two"), index(arm64)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range askReport(t, proxy, "two", "1").Manifests {
		got[m.Platform] = m.Verdict
	}
	if diff := cmp.Diff(map[string]string{"linux/amd64": "match", "linux/arm64": "match"}, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}

	// One that is false keeps the whole from being pushed.
	err := remote.WriteIndex(reference(t, proxy, "false"), index(swapped(t, arm64)))
	if err == nil || !strings.Contains(err.Error(), "MANIFEST_INVALID: diff_id mismatch in layer 1 of 2: config says sha256:") {
		t.Errorf("the error is %v, want MANIFEST_INVALID with the layer", err)
	}
	if _, err := remote.Get(reference(t, proxy, "false")); err == nil {
		t.Error("an image index with a false image is in the registry")
	}
}

// From version 0.21.6 the library does not list the DiffIDs of the layers that
// it adds to an image whose config has another type than those that it knows,
// such as the one that docker had before it had any. Buildpacks' lifecycle
// 0.21.11 pushed such images.
func TestLibraryForgets(t *testing.T) {
	t.Parallel()
	proxy := startWatched(t, startRegistry3(t), settings.Enforce)
	legacy := mutate.ConfigMediaType(randomImage(t, types.DockerLayer), "application/octet-stream")
	image := withLayersOn(t, legacy, added(tarLayer(t)))
	if n := len(claimed(t, image)); n != 2 {
		t.Skipf("this version lists %d diff_ids", n)
	}
	err := remote.Write(reference(t, proxy, "forgets"), image)
	if err == nil || !strings.Contains(err.Error(), "MANIFEST_INVALID: diff_id count: config lists 2 diff_ids for 3 layers") {
		t.Errorf("the error is %v, want MANIFEST_INVALID with the counts", err)
	}
}

// reference is where a test pushes to.
func reference(t *testing.T, proxy, repo string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(proxy + "/" + repo + ":1")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// claimed returns the DiffIDs in an image's config.
func claimed(t *testing.T, image v1.Image) (ids []string) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range config.RootFS.DiffIDs {
		ids = append(ids, id.String())
	}
	return ids
}

func randomImage(t *testing.T, layers types.MediaType) v1.Image {
	t.Helper()
	one, err := random.Layer(2000, layers)
	if err != nil {
		t.Fatal(err)
	}
	two, err := random.Layer(2000, layers)
	if err != nil {
		t.Fatal(err)
	}
	if layers == types.DockerLayer {
		return withLayersOn(t, empty.Image, added(one), added(two))
	}
	return withLayers(t, one, two)
}

// ociImage is an image without layers under the types of OCI.
func ociImage(t *testing.T) v1.Image {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

func withLayers(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	var adds []mutate.Addendum
	for _, l := range layers {
		adds = append(adds, added(l))
	}
	return withLayersOn(t, ociImage(t), adds...)
}

func withLayersOn(t *testing.T, base v1.Image, adds ...mutate.Addendum) v1.Image {
	t.Helper()
	image, err := mutate.Append(base, adds...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func added(l v1.Layer) mutate.Addendum { return mutate.Addendum{Layer: l} }

// swapped is an image with its first two diff_ids in each other's place.
func swapped(t *testing.T, image v1.Image) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	ids := config.RootFS.DiffIDs
	ids[0], ids[1] = ids[1], ids[0]
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func tarLayer(t *testing.T, opts ...tarball.LayerOption) v1.Layer {
	t.Helper()
	content := oneFile(t, "tar")
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		append([]tarball.LayerOption{tarball.WithMediaType(types.OCILayer)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// oneFile is a tar of one file of that name.
func oneFile(t *testing.T, file string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	content := strings.Repeat("content of "+file+"\n", 1000)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// eStargz is a layer that containerd's stargz library made, which is the judge
// of what it unpacks to.
func eStargz(t *testing.T) mutate.Addendum {
	t.Helper()
	layer, toc := buildStargz(t, types.OCILayer)
	return mutate.Addendum{Layer: layer, Annotations: map[string]string{estargz.TOCJSONDigestAnnotation: toc.String()}}
}

// zstdChunked is the same with zstd, and with the table of contents in a frame
// that decoders skip.
func zstdChunked(t *testing.T) mutate.Addendum {
	t.Helper()
	annotations := map[string]string{}
	layer, _ := buildStargz(t, types.OCILayerZStd, estargz.WithCompression(struct {
		*zstdchunked.Compressor
		*zstdchunked.Decompressor
	}{&zstdchunked.Compressor{CompressionLevel: zstd.SpeedDefault, Metadata: annotations}, &zstdchunked.Decompressor{}}))
	return mutate.Addendum{Layer: layer, Annotations: annotations, MediaType: types.OCILayerZStd}
}

func buildStargz(t *testing.T, mediaType types.MediaType, opts ...estargz.Option) (v1.Layer, digest.Digest) {
	t.Helper()
	content := oneFile(t, "lazy")
	// Small chunks, so that there are many members or frames.
	blob, err := estargz.Build(io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))),
		append(opts, estargz.WithChunkSize(4000))...)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	stored, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	id, err := v1.NewHash(blob.DiffID().String())
	if err != nil {
		t.Fatal(err)
	}
	return toldLayer{static.NewLayer(stored, mediaType), id}, blob.TOCDigest()
}

// A toldLayer has the DiffID that its producer told.
type toldLayer struct {
	v1.Layer
	id v1.Hash
}

// DiffID implements v1.Layer.
func (l toldLayer) DiffID() (v1.Hash, error) { return l.id, nil }
