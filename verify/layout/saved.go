package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// The media types of Docker's image manifest, version 2, schema 2.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerTar      = "application/vnd.docker.image.rootfs.diff.tar"
)

// manifestFile is the list of images in an archive of docker save.
const manifestFile = "manifest.json"

// maxLayers bounds the layers of all images of an archive.
const maxLayers = 50_000

// saved is one image of a manifest.json.
type saved struct {
	Config   string   // a file in the archive
	RepoTags []string // may be null
	Layers   []string // files in the archive, the lowest first
}

// parseSaved reads a manifest.json, one image after another.
func parseSaved(body []byte) ([]saved, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('[') {
		return nil, errors.New("not a list of images")
	}
	var images []saved
	layers := 0
	for dec.More() {
		var s saved
		if err := dec.Decode(&s); err != nil {
			return nil, fmt.Errorf("image %d: %w", len(images)+1, err)
		}
		images = append(images, s)
		if layers += len(s.Layers); layers > maxLayers || len(images) > maxImages {
			return nil, fmt.Errorf("it names more than %d images or %d layers", maxImages, maxLayers)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("image %d: %w", len(images)+1, archiveError(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there are bytes after the list of images")
	}
	if len(images) == 0 {
		return nil, errors.New("it names no image")
	}
	return images, nil
}

// Images returns the images of the archive that have the tag ref, or the digest
// ref of their config, the image ID; an empty ref means all. Tags are compared
// as docker does: alpine is docker.io/library/alpine:latest. Of an archive with
// no manifest.json it returns what [Dir.Images] does; an image that index.json
// alone has is returned besides, with " in index.json" behind its name.
//
// An archive holds no manifests that say what is in it. What is returned is a
// Docker manifest, schema 2, with the digests and sizes of the files that there
// are, so that the config is judged by them.
//
// The error names the image and what it lacks: its config or a layer. It is a
// *WrongBlobError when the config has not the digest that it is named by, and
// lists up to 10 tags when there is none like ref.
func (a *Archive) Images(ref string) ([]Image, error) {
	if a.saved == nil {
		selected, err := selectImages(a.name, ref, a.index.Manifests)
		if err != nil {
			return nil, err
		}
		return bodies(a.name, selected, a.manifest)
	}
	var images []Image
	var tags []string
	listed := map[digest.Digest]bool{}
	for i, s := range a.saved {
		tags = append(tags, s.RepoTags...)
		name, ok := a.named(s, ref)
		if !ok {
			continue
		}
		img, err := a.image(s)
		if err != nil {
			if name == "" {
				name = fmt.Sprintf("%d of %d", i+1, len(a.saved))
			}
			return nil, fmt.Errorf("%s: image %s: %w", a.name, quoted(name), err)
		}
		if img.Name = name; name == "" {
			img.Name = img.manifest.Config.Digest.String()
		}
		images = append(images, img.Image)
		listed[content(img.manifest.Config, img.manifest.Layers)] = true
	}
	more, err := a.unlisted(ref, listed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	if images = append(images, more...); len(images) == 0 {
		return nil, unknownName(a.name, ref, tags)
	}
	return images, nil
}

// named reports whether an image is asked for, and by which of its names: empty
// when it has none.
func (a *Archive) named(s saved, ref string) (string, bool) {
	for _, tag := range s.RepoTags {
		if ref == "" || normal(tag) == normal(ref) {
			return tag, true
		}
	}
	e, err := a.found.resolve(s.Config)
	if ref != "" && (err != nil || ref != e.fact.Digest.String()) {
		return "", false
	}
	if len(s.RepoTags) > 0 {
		return s.RepoTags[0], true
	}
	return "", true
}

// normal returns the whole form of an image's name.
func normal(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.TagNameOnly(named).String()
}

// A savedImage is an image with its manifest.
type savedImage struct {
	Image
	manifest ocispec.Manifest
}

// image makes the manifest that an image of manifest.json would have.
func (a *Archive) image(s saved) (savedImage, error) {
	config, err := a.found.resolve(s.Config)
	if err == nil {
		err = checkName(s.Config, config.fact.Digest)
	}
	if err != nil {
		return savedImage{}, missing(fmt.Sprintf("its config (%s)", quoted(s.Config)), err)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: dockerManifest,
		Config:    ocispec.Descriptor{MediaType: dockerConfig, Digest: config.fact.Digest, Size: config.fact.Size},
		Layers:    []ocispec.Descriptor{},
	}
	for i, name := range s.Layers {
		l, err := a.found.resolve(name)
		if err != nil {
			return savedImage{}, missing(fmt.Sprintf("layer %d of %d (%s)", i+1, len(s.Layers), quoted(name)), err)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType(l.fact.Encoding), Digest: l.fact.Digest, Size: l.fact.Size})
	}
	body, err := json.Marshal(m)
	if err != nil {
		return savedImage{}, err
	}
	desc := ocispec.Descriptor{MediaType: dockerManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return savedImage{Image{Descriptor: desc, MediaType: dockerManifest, Body: body}, m}, nil
}

func missing(what string, err error) error {
	if errors.Is(err, verify.ErrNotFound) {
		return fmt.Errorf("%s is not in the archive", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// layerType returns the media type that says what a layer's bytes are.
func layerType(e verify.Encoding) string {
	switch e {
	case verify.Gzip:
		return dockerTar + ".gzip"
	case verify.Zstd:
		return dockerTar + ".zstd"
	}
	return dockerTar // which has always been used for all
}

// checkName compares the digest of a config with that in its name, if there is
// one: docker, podman and crane write it there, in one of three ways.
func checkName(name string, actual digest.Digest) error {
	hex := path.Clean(name)
	for _, prefix := range []string{"blobs/sha256/", "sha256:"} {
		hex = strings.TrimPrefix(hex, prefix)
	}
	named := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(hex, ".json"))
	if named.Validate() != nil || named == actual {
		return nil
	}
	return &WrongBlobError{name, named, actual}
}
