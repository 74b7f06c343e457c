package layout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

const (
	maxNesting = 4 // image indexes in image indexes

	// annotationImageName is where containerd and docker write the whole name.
	annotationImageName = "io.containerd.image.name"
)

// content tells an image from all others by its config and layers.
func content(config ocispec.Descriptor, layers []ocispec.Descriptor) digest.Digest {
	all := []string{config.Digest.String()}
	for _, l := range layers {
		all = append(all, l.Digest.String())
	}
	return digest.FromString(strings.Join(all, " "))
}

// unlisted returns the images that index.json has, also beneath image indexes,
// and that manifest.json has not. Manifests that are not in the archive are
// left out: docker save writes one platform of many, if nobody asks for more.
func (a *Archive) unlisted(ref string, listed map[digest.Digest]bool) ([]Image, error) {
	w := walk{archive: a, seen: listed}
	for _, d := range a.index.Manifests {
		name := d.Annotations[annotationImageName]
		if name == "" {
			name = d.Annotations[ocispec.AnnotationRefName]
		}
		if ref != "" && ref != d.Digest.String() && (name == "" || normal(name) != normal(ref)) {
			continue
		}
		if name == "" {
			name = d.Digest.String()
		}
		if err := w.visit(d, name+" in "+ocispec.ImageIndexFile, 1); err != nil {
			return nil, fmt.Errorf("%s: manifest %s: %w", ocispec.ImageIndexFile, d.Digest, err)
		}
	}
	return w.images, nil
}

// A walk collects images.
type walk struct {
	archive *Archive
	seen    map[digest.Digest]bool // the content of images, and the digest of manifests
	visited int
	images  []Image
}

func (w *walk) visit(d ocispec.Descriptor, name string, depth int) error {
	if w.visited++; w.visited > maxImages || depth > maxNesting {
		return fmt.Errorf("more than %d manifests, or image indexes more than %d deep, are not looked at", maxImages, maxNesting)
	}
	body, err := w.archive.manifest(d)
	if errors.Is(err, verify.ErrNotFound) || w.seen[d.Digest] {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := verify.ParseManifest(d.MediaType, body)
	switch {
	case err != nil: // which is for verify.Check to say
	case m.Kind == verify.IndexKind:
		for _, child := range m.Manifests {
			if err := w.visit(child, name, depth+1); err != nil {
				return err
			}
		}
		return nil
	case !m.MayBeImage() && !w.saysDiffIDs(m.Config) || w.seen[content(m.Config, m.Layers)]:
		return nil
	}
	w.seen[d.Digest] = true
	w.images = append(w.images, Image{Name: name, Descriptor: d, MediaType: d.MediaType, Body: body})
	return nil
}

// saysDiffIDs reports whether a config claims anything about layers, whatever its
// media type.
func (w *walk) saysDiffIDs(config ocispec.Descriptor) bool {
	body, err := w.archive.Config(context.Background(), config)
	if err != nil {
		return false // it cannot be read, so no runtime reads it
	}
	c, _ := verify.ParseConfig(body) // what is wrong with it, verify.Check says
	return c.SaysDiffIDs
}
