package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// layout DIR TAG...: make an OCI layout of images that no other script has. Each
// TAG is an image of two layers: those of "zstd" are zstd, those of "padded" end
// in more zeros than a tar needs, as GNU tar's do; "all" is an image index, for
// amd64 and arm64.
func layout(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	var refs []ocispec.Descriptor
	for _, tag := range args[1:] {
		name := ts.Getenv("UNIQUE") + tag
		var d ocispec.Descriptor
		switch tag {
		case "all":
			d = layoutPut(ts, dir, ocispec.MediaTypeImageIndex, indexOf(
				layoutImage(ts, dir, name, "amd64", gzipped), layoutImage(ts, dir, name, "arm64", gzipped)))
		case "zstd":
			d = layoutImage(ts, dir, name, "amd64", zstandard)
		case "padded":
			d = layoutImage(ts, dir, name, "amd64", gzipped, make([]byte, 8192)...)
		default:
			d = layoutImage(ts, dir, name, "amd64", gzipped)
		}
		d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
		refs = append(refs, d)
	}
	writeFile(ts, filepath.Join(dir, ocispec.ImageIndexFile), marshal(ts, indexOf(refs...)))
	writeFile(ts, filepath.Join(dir, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func indexOf(manifests ...ocispec.Descriptor) ocispec.Index {
	return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
}

// layoutImage stores an image. Its first layer is also that of its name's image
// for another platform.
func layoutImage(t failer, dir, name, arch string, pack packing, padding ...byte) ocispec.Descriptor {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, file := range []string{name, name + "-" + arch} {
		content := append(smallTar(t, file), padding...)
		m.Layers = append(m.Layers, layoutPut(t, dir, pack.mediaType, pack.pack(t, content)))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(content))
	}
	m.Config = layoutPut(t, dir, ocispec.MediaTypeImageConfig, config)
	d := layoutPut(t, dir, ocispec.MediaTypeImageManifest, m)
	d.Platform = &config.Platform
	return d
}

func layoutPut(t failer, dir, mediaType string, v any) ocispec.Descriptor {
	content, ok := v.([]byte)
	if !ok {
		content = marshal(t, v)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: writeBlob(t, dir, content), Size: int64(len(content))}
}

func marshal(t failer, v any) []byte {
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return content
}

// smallTar is a tar of one file, which holds its own name.
func smallTar(t failer, file string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(file))})
	if err == nil {
		_, err = w.Write([]byte(file))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out.Bytes()
}

// A packing is how a layer is compressed.
type packing struct {
	mediaType string
	writer    func(io.Writer) (io.WriteCloser, error)
}

var (
	gzipped   = packing{ocispec.MediaTypeImageLayerGzip, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }}
	zstandard = packing{ocispec.MediaTypeImageLayerZstd, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }}
)

func (p packing) pack(t failer, content []byte) []byte {
	var out bytes.Buffer
	z, err := p.writer(&out)
	if err == nil {
		_, err = z.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out.Bytes()
}
