package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A failer ends a test: a *testing.T or a script.
type failer interface {
	Fatalf(format string, args ...any)
}

// tamper makes a lie of the last diff_id in the config of the one image in an OCI layout,
// and mends the digests above it, so that nothing but the DiffID is wrong:
// the image is one that every registry takes and no machine can run.
// It returns the DiffID that was there and the one that is there now.
func tamper(t failer, layout string) (truth, lie digest.Digest) {
	var (
		index    ocispec.Index
		manifest ocispec.Manifest
		config   ocispec.Image
	)
	indexPath := filepath.Join(layout, ocispec.ImageIndexFile)
	indexJSON := decode(t, indexPath, &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%s names %d manifests, want 1", indexPath, len(index.Manifests))
	}
	manifestDigest := index.Manifests[0].Digest
	manifestJSON := decode(t, blobPath(layout, manifestDigest), &manifest)
	configJSON := decode(t, blobPath(layout, manifest.Config.Digest), &config)
	if len(config.RootFS.DiffIDs) == 0 {
		t.Fatalf("config %s has no diff_ids", manifest.Config.Digest)
	}

	truth = config.RootFS.DiffIDs[len(config.RootFS.DiffIDs)-1]
	lie = digest.FromString("not " + truth.String())

	// One digest takes the place of another of the same length: no size changes,
	// and fields that these types do not know survive.
	configDigest := writeBlob(t, layout, replaceLast(t, configJSON, truth, lie))
	newManifest := writeBlob(t, layout,
		replaceLast(t, manifestJSON, manifest.Config.Digest, configDigest))
	writeFile(t, indexPath, replaceLast(t, indexJSON, manifestDigest, newManifest))
	return truth, lie
}

// replaceLast returns text with the last occurrence of one digest replaced by another.
func replaceLast(t failer, text []byte, old, with digest.Digest) []byte {
	at := bytes.LastIndex(text, []byte(old))
	if at < 0 {
		t.Fatalf("no %s in %s", old, text)
	}
	out := bytes.Clone(text)
	copy(out[at:], with)
	return out
}

// decode reads a JSON file into v and returns its bytes.
func decode(t failer, path string, v any) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return text
}

func blobPath(layout string, d digest.Digest) string {
	return filepath.Join(layout, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// writeBlob stores content in an OCI layout under its digest.
func writeBlob(t failer, layout string, content []byte) digest.Digest {
	d := digest.FromBytes(content)
	writeFile(t, blobPath(layout, d), content)
	return d
}

func writeFile(t failer, path string, content []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatalf("%v", err)
	}
}

// writeLayout makes an OCI layout of one image with uncompressed layers of the given contents.
func writeLayout(t failer, layout string, layers ...[]byte) {
	put := func(mediaType string, v any) ocispec.Descriptor {
		content, ok := v.([]byte)
		if !ok {
			var err error
			if content, err = json.Marshal(v); err != nil {
				t.Fatalf("%v", err)
			}
		}
		return ocispec.Descriptor{
			MediaType: mediaType,
			Digest:    writeBlob(t, layout, content),
			Size:      int64(len(content)),
		}
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
	}
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	config.OS, config.Architecture = "linux", "amd64"
	for _, layer := range layers {
		manifest.Layers = append(manifest.Layers, put(ocispec.MediaTypeImageLayer, layer))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
	}
	manifest.Config = put(ocispec.MediaTypeImageConfig, config)
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{put(ocispec.MediaTypeImageManifest, manifest)},
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	writeFile(t, filepath.Join(layout, ocispec.ImageIndexFile), index)
	writeFile(t, filepath.Join(layout, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// The tampered image must be wrong in its last diff_id and right in everything else,
// or a registry would refuse it for another reason than the one that a test means.
func TestTamper(t *testing.T) {
	t.Parallel()
	layout := t.TempDir()
	one, two := []byte("layer one"), []byte("layer two")
	writeLayout(t, layout, one, two)

	truth, lie := tamper(t, layout)
	if want := digest.FromBytes(two); truth != want || lie == want || lie.Validate() != nil {
		t.Fatalf("tamper said %s, now %s; want %s, now another digest", truth, lie, want)
	}

	var (
		index    ocispec.Index
		manifest ocispec.Manifest
		config   ocispec.Image
	)
	decode(t, filepath.Join(layout, ocispec.ImageIndexFile), &index)
	checkBlob(t, layout, index.Manifests[0])
	decode(t, blobPath(layout, index.Manifests[0].Digest), &manifest)
	for _, d := range append(manifest.Layers, manifest.Config) {
		checkBlob(t, layout, d)
	}
	decode(t, blobPath(layout, manifest.Config.Digest), &config)
	got := config.RootFS.DiffIDs
	if len(got) != 2 || got[0] != digest.FromBytes(one) || got[1] != lie {
		t.Errorf("diff_ids are %v, want the first as it was and the second %s", got, lie)
	}
}

// checkBlob fails unless the layout holds, under the descriptor's digest, what it describes.
func checkBlob(t *testing.T, layout string, want ocispec.Descriptor) {
	t.Helper()
	content, err := os.ReadFile(blobPath(layout, want.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if d := digest.FromBytes(content); d != want.Digest || int64(len(content)) != want.Size {
		t.Errorf("blob is %s of %d bytes, want %s of %d", d, len(content), want.Digest, want.Size)
	}
}
