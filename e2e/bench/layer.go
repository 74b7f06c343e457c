package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A blob is bytes in pieces, which blobs share.
type blob struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	pieces [][]byte
}

func (b blob) reader() io.Reader {
	var all []io.Reader
	for _, p := range b.pieces {
		all = append(all, bytes.NewReader(p))
	}
	return io.MultiReader(all...)
}

func smallBlob(mediaType string, data []byte) blob {
	return blob{
		desc:   ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))},
		pieces: [][]byte{data},
	}
}

// A mould makes layers of which no two are equal, so that nobody knows one
// already: a corpus, and behind it a gzip member of random bytes, which in the
// archive come after its end.
type mould struct {
	gz             []byte
	stored, plain  *hashState // of the corpus
	size, unpacked int64
}

// A hashState is SHA-256 of a beginning.
type hashState struct{ hash.Cloner }

// with returns the digest of the beginning and what follows it.
func (s *hashState) with(p []byte) (digest.Digest, error) {
	h, err := s.Clone()
	if err != nil {
		return "", err
	}
	h.Write(p)
	return digest.NewDigest(digest.SHA256, h), nil
}

func newMould(c corpus) (*mould, error) {
	gz, err := os.ReadFile(c.gz)
	if err != nil {
		return nil, err
	}
	stored, plain := sha256.New().(hash.Cloner), sha256.New().(hash.Cloner)
	stored.Write(gz)
	f, err := os.Open(c.tar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.Copy(plain, f); err != nil {
		return nil, fmt.Errorf("%s: %w", c.tar, err)
	}
	return &mould{gz: gz, stored: &hashState{stored}, plain: &hashState{plain}, size: c.packed, unpacked: c.size}, nil
}

// layer makes one.
func (m *mould) layer() (blob, error) {
	random := make([]byte, 512)
	rand.Read(random)
	member, err := gzipped(random)
	if err != nil {
		return blob{}, err
	}
	dgst, err := m.stored.with(member)
	if err != nil {
		return blob{}, err
	}
	diffID, err := m.plain.with(random)
	if err != nil {
		return blob{}, err
	}
	return blob{
		desc:   ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: dgst, Size: m.size + int64(len(member))},
		diffID: diffID,
		pieces: [][]byte{m.gz, member},
	}, nil
}

func gzipped(p []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(p); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// An image is layers with a config and a manifest that tell the truth about them.
type image struct {
	repo     string
	layers   []blob
	config   blob
	manifest []byte
}

// newImage makes an image whose config has an author, so that images of the same
// layers differ.
func newImage(repo, author string, layers []blob) (image, error) {
	config := ocispec.Image{Author: author, Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		m.Layers = append(m.Layers, l.desc)
	}
	text, err := json.Marshal(config)
	if err != nil {
		return image{}, err
	}
	img := image{repo: repo, layers: layers, config: smallBlob(ocispec.MediaTypeImageConfig, text)}
	m.Config = img.config.desc
	img.manifest, err = json.Marshal(m)
	return img, err
}

// image makes an image of n new layers.
func (m *mould) image(repo string, n int) (image, error) {
	var layers []blob
	for range n {
		l, err := m.layer()
		if err != nil {
			return image{}, err
		}
		layers = append(layers, l)
	}
	return newImage(repo, "bench", layers)
}
