package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// incidents are lies that programs have told, each under the repository and
// number of the report about it. Each function makes of an honest image of
// three layers what that program made of its own.
var incidents = map[string]func(*image){
	"acbuild-307":        digestsForDiffIDs,
	"container-libs-391": diffIDBeforePadding,
	"imgutil-300":        placeholders,
	"lifecycle-1662":     digestsForNewDiffIDs,
	"lifecycle-1699":     uncompressedTwins,
	"moby-47150":         reversedLayers,
	"podman-25593":       xzForTar,
}

// digestsForDiffIDs lists the layers' digests, as the first version of many a
// tool did, acbuild's and umoci's among them.
func digestsForDiffIDs(im *image) {
	for i, l := range im.manifest.Layers {
		im.diffIDs[i] = l.Digest
	}
}

// digestsForNewDiffIDs does so for the layers on top of the base image alone:
// lifecycle 0.21.11.
func digestsForNewDiffIDs(im *image) {
	for i, l := range im.manifest.Layers[1:] {
		im.diffIDs[1+i] = l.Digest
	}
}

// uncompressedTwins puts the third layer, uncompressed, in the places of the
// first and the second: lifecycle 0.21.15.
func uncompressedTwins(im *image) {
	twin := im.tar(2)
	im.put(0, ocispec.MediaTypeImageLayer, twin)
	im.put(1, ocispec.MediaTypeImageLayer, twin)
}

// placeholders puts blobs of no bytes in the places of the base image's layers,
// as imgutil told docker to with its containerd store.
func placeholders(im *image) {
	im.put(0, ocispec.MediaTypeImageLayer, nil)
	im.put(1, ocispec.MediaTypeImageLayer, nil)
}

// reversedLayers lists the layers from top to bottom: docker save, 25.0.0.
func reversedLayers(im *image) { slices.Reverse(im.manifest.Layers) }

// xzForTar takes a tar.xz for a tar: podman import before 5.4.2.
func xzForTar(im *image) {
	xz := exec.Command("xz", "--stdout")
	xz.Stdin = bytes.NewReader(im.tar(2))
	blob, err := xz.Output()
	if err != nil {
		im.Fatalf("%s: %v", xz, err)
	}
	im.put(2, ocispec.MediaTypeImageLayer, blob)
	im.diffIDs[2] = digest.FromBytes(blob)
}

// diffIDBeforePadding hashes a tar that lacks its end, which the compressor
// adds: zstd:chunked in the library of podman and buildah.
func diffIDBeforePadding(im *image) {
	im.diffIDs[2] = digest.FromBytes(bytes.TrimRight(im.tar(2), "\x00"))
}

// An image is the one image of an OCI layout, open to be changed.
type image struct {
	failer
	layout   string
	index    ocispec.Index
	manifest ocispec.Manifest
	config   map[string]json.RawMessage // what is not changed survives
	diffIDs  []digest.Digest
}

// openImage reads the one image of an OCI layout.
func openImage(t failer, layout string) *image {
	im := &image{failer: t, layout: layout}
	path := filepath.Join(layout, ocispec.ImageIndexFile)
	decode(t, path, &im.index)
	if len(im.index.Manifests) != 1 {
		t.Fatalf("%s names %d manifests, want 1", path, len(im.index.Manifests))
	}
	decode(t, blobPath(layout, im.index.Manifests[0].Digest), &im.manifest)
	var config ocispec.Image
	decode(t, blobPath(layout, im.manifest.Config.Digest), &config)
	decode(t, blobPath(layout, im.manifest.Config.Digest), &im.config)
	im.diffIDs = config.RootFS.DiffIDs
	if len(im.diffIDs) != len(im.manifest.Layers) {
		t.Fatalf("%s has %d diff_ids for %d layers", layout, len(im.diffIDs), len(im.manifest.Layers))
	}
	return im
}

// save writes config, manifest and index.json with the digests that they have
// now, so that nothing is wrong but what was changed.
func (im *image) save() {
	write := func(d *ocispec.Descriptor, v any) {
		content := im.marshal(v)
		d.Digest, d.Size = writeBlob(im, im.layout, content), int64(len(content))
	}
	im.config["rootfs"] = im.marshal(ocispec.RootFS{Type: "layers", DiffIDs: im.diffIDs})
	write(&im.manifest.Config, im.config)
	write(&im.index.Manifests[0], im.manifest)
	writeFile(im, filepath.Join(im.layout, ocispec.ImageIndexFile), im.marshal(im.index))
}

func (im *image) marshal(v any) []byte {
	content, err := json.Marshal(v)
	if err != nil {
		im.Fatalf("%v", err)
	}
	return content
}

// put makes content the blob of layer i.
func (im *image) put(i int, mediaType string, content []byte) {
	im.manifest.Layers[i] = ocispec.Descriptor{
		MediaType: mediaType,
		Digest:    writeBlob(im, im.layout, content),
		Size:      int64(len(content)),
	}
}

// tar returns what layer i, which is gzip, unpacks to.
func (im *image) tar(i int) []byte {
	f, err := os.Open(blobPath(im.layout, im.manifest.Layers[i].Digest))
	if err != nil {
		im.Fatalf("%v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		im.Fatalf("layer %d: %v", i+1, err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		im.Fatalf("layer %d: %v", i+1, err)
	}
	return content
}

// incident NAME HONEST DIR: make in DIR, of the image in the OCI layout HONEST,
// one that is wrong as that of the incident was. The variables LAYER1 and so on
// are the digests of the honest layers, DIFFID1 what they unpack to; BLOB1 and
// CLAIM1 are what manifest and config say instead.
func incident(ts *testscript.TestScript, _ bool, args []string) {
	name, honest, layout := args[0], ts.MkAbs(args[1]), ts.MkAbs(args[2])
	before := openImage(ts, honest)
	ts.Check(os.CopyFS(layout, os.DirFS(honest)))
	im := openImage(ts, layout)
	lie, ok := incidents[name]
	if !ok {
		ts.Fatalf("no incident %s; there are %v", name, slices.Sorted(maps.Keys(incidents)))
	}
	lie(im)
	im.save()
	for i := range im.diffIDs {
		setDigest(ts, fmt.Sprint("LAYER", i+1), before.manifest.Layers[i].Digest)
		setDigest(ts, fmt.Sprint("DIFFID", i+1), before.diffIDs[i])
		setDigest(ts, fmt.Sprint("BLOB", i+1), im.manifest.Layers[i].Digest)
		setDigest(ts, fmt.Sprint("CLAIM", i+1), im.diffIDs[i])
	}
}

// Each incident must be wrong in its diff_ids or layers and right in everything
// else, or a registry would refuse it for another reason than the one meant.
func TestIncidents(t *testing.T) {
	t.Parallel()
	for name, lie := range incidents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if what := lacks("xz"); what != "" {
				missing(t.Skip, t.Fatalf, what)
			}
			layout := t.TempDir()
			writeHonest(t, layout)
			before, im := openImage(t, layout), openImage(t, layout)
			lie(im)
			im.save()

			after := openImage(t, layout)
			for _, d := range append(after.manifest.Layers, after.manifest.Config, after.index.Manifests[0]) {
				checkBlob(t, layout, d)
			}
			if got, want := after.config["architecture"], before.config["architecture"]; !bytes.Equal(got, want) {
				t.Errorf("architecture is %s, want %s as it was", got, want)
			}
			sameLayers := slices.EqualFunc(after.manifest.Layers, before.manifest.Layers,
				func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
			if sameLayers && slices.Equal(after.diffIDs, before.diffIDs) {
				t.Error("the image is as honest as it was")
			}
		})
	}
}

// writeHonest makes an OCI layout of an honest image of three gzip layers.
func writeHonest(t failer, layout string) {
	contents := [][]byte{[]byte("layer one\x00"), []byte("layer two\x00"), []byte("layer three\x00")}
	writeLayout(t, layout, contents...)
	im := openImage(t, layout)
	for i, content := range contents {
		var blob bytes.Buffer
		z := gzip.NewWriter(&blob)
		if _, err := z.Write(content); err != nil {
			t.Fatalf("%v", err)
		}
		if err := z.Close(); err != nil {
			t.Fatalf("%v", err)
		}
		im.put(i, ocispec.MediaTypeImageLayerGzip, blob.Bytes())
	}
	im.save()
}
