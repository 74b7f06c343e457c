package verifytest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that the OCI image specification does not name.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerTar      = "application/vnd.docker.image.rootfs.diff.tar"
	DockerTarGzip  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerTarZstd  = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	DockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	InToto         = "application/vnd.in-toto+json"
)

// platformMembers begin the JSON of every config here.
const platformMembers = `"architecture":"amd64","os":"linux"`

// A Layer is a blob that an image uses as a layer.
type Layer struct {
	MediaType   string
	Blob        []byte // as stored
	Content     []byte // what it unpacks to
	Annotations map[string]string
	Algorithm   digest.Algorithm // of its digest; empty means SHA-256
	URLs        []string         // in the descriptor
	Data        []byte           // inline in the descriptor, when not nil
	Size        int64            // in the descriptor, when not 0 and not that of Blob
	Absent      bool             // no repository holds the blob
}

// TarLayer returns an honest uncompressed layer.
func TarLayer(tar []byte) Layer {
	return Layer{MediaType: ocispec.MediaTypeImageLayer, Blob: tar, Content: tar}
}

// GzipLayer returns an honest layer compressed with gzip.
func GzipLayer(tar []byte) Layer {
	return Layer{MediaType: ocispec.MediaTypeImageLayerGzip, Blob: Gzip(tar), Content: tar}
}

// ZstdLayer returns an honest layer compressed with zstd.
func ZstdLayer(tar []byte) Layer {
	return Layer{MediaType: ocispec.MediaTypeImageLayerZstd, Blob: Zstd(tar), Content: tar}
}

// Digest returns the digest of the layer's blob.
func (l Layer) Digest() digest.Digest { return l.descriptor().Digest }

// DiffID returns the true DiffID of the layer.
func (l Layer) DiffID() string { return digest.FromBytes(l.Content).String() }

func (l Layer) descriptor() ocispec.Descriptor {
	algorithm := l.Algorithm
	if algorithm == "" {
		algorithm = digest.SHA256
	}
	size := l.Size
	if size == 0 {
		size = int64(len(l.Blob))
	}
	return ocispec.Descriptor{MediaType: l.MediaType, Digest: algorithm.FromBytes(l.Blob), Size: size,
		URLs: l.URLs, Data: l.Data, Annotations: l.Annotations}
}

// An Image is a manifest with all that it names.
type Image struct {
	MediaType  string // of the manifest
	ConfigType string
	Layers     []Layer
	DiffIDs    []string // what the config says
	RawConfig  []byte   // the config, in place of one made from DiffIDs

	Algorithm    digest.Algorithm // of the digest of the config; empty means SHA-256
	ArtifactType string           // of the manifest
	ConfigData   []byte           // inline in the descriptor of the config, when not nil
	ConfigSize   int64            // in the descriptor of the config, when not 0 and not that of the config
	ConfigAbsent bool             // no repository holds the config
	Beside       [][]byte         // blobs that the repository holds and the manifest does not name
}

// NewImage returns an honest OCI image of the layers.
func NewImage(layers ...Layer) Image {
	img := Image{MediaType: ocispec.MediaTypeImageManifest, ConfigType: ocispec.MediaTypeImageConfig, Layers: layers}
	for _, l := range layers {
		img.DiffIDs = append(img.DiffIDs, l.DiffID())
	}
	return img
}

// Honest returns an honest OCI image of n different gzip layers.
func Honest(n int) Image {
	var layers []Layer
	for i := range n {
		layers = append(layers, GzipLayer(Tar(fmt.Sprintf("file%d", i), fmt.Sprintf("This is layer %d.\n", i))))
	}
	return NewImage(layers...)
}

// Docker returns the image with Docker's media types.
func (img Image) Docker() Image {
	img.MediaType, img.ConfigType = DockerManifest, DockerConfig
	img.Layers = slices.Clone(img.Layers)
	for i := range img.Layers {
		l := &img.Layers[i]
		switch l.MediaType {
		case ocispec.MediaTypeImageLayer:
			l.MediaType = DockerTar
		case ocispec.MediaTypeImageLayerGzip:
			l.MediaType = DockerTarGzip
		case ocispec.MediaTypeImageLayerZstd:
			l.MediaType = DockerTarZstd
		}
	}
	return img
}

// Config returns the config as stored.
func (img Image) Config() []byte {
	if img.RawConfig != nil {
		return img.RawConfig
	}
	return fmt.Appendf(nil, `{%s,"rootfs":%s}`, platformMembers, rootFS(img.DiffIDs))
}

// rootFS returns the value of a config's rootfs.
func rootFS(diffIDs []string) []byte {
	ids, err := json.Marshal(append([]string{}, diffIDs...))
	must(err)
	return fmt.Appendf(nil, `{"type":"layers","diff_ids":%s}`, ids)
}

// ConfigDigest returns the digest of the config.
func (img Image) ConfigDigest() digest.Digest {
	if img.Algorithm == "" {
		return digest.FromBytes(img.Config())
	}
	return img.Algorithm.FromBytes(img.Config())
}

// Manifest returns the manifest and the media type to push it with.
func (img Image) Manifest() (mediaType string, body []byte) {
	size := img.ConfigSize
	if size == 0 {
		size = int64(len(img.Config()))
	}
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    img.MediaType,
		ArtifactType: img.ArtifactType,
		Config: ocispec.Descriptor{MediaType: img.ConfigType, Digest: img.ConfigDigest(), Size: size,
			Data: img.ConfigData},
		Layers: []ocispec.Descriptor{},
	}
	for _, l := range img.Layers {
		m.Layers = append(m.Layers, l.descriptor())
	}
	body, err := json.Marshal(m)
	must(err)
	return img.MediaType, body
}

// Digest returns the digest of the manifest.
func (img Image) Digest() digest.Digest {
	_, body := img.Manifest()
	return digest.FromBytes(body)
}

// Blobs returns all that the repository holds before the manifest is pushed:
// the config, the layers and what is beside them, without what is absent.
func (img Image) Blobs() map[digest.Digest][]byte {
	blobs := map[digest.Digest][]byte{}
	for _, blob := range img.Beside {
		blobs[digest.FromBytes(blob)] = blob
	}
	if !img.ConfigAbsent {
		blobs[img.ConfigDigest()] = img.Config()
	}
	for _, l := range img.Layers {
		if !l.Absent {
			blobs[l.Digest()] = l.Blob
		}
	}
	return blobs
}
