package scantest

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify/verifytest"
)

// A Wrong is an image of a filled registry that is to be found.
type Wrong struct {
	Repository, Tag, Platform string
	Layer                     int // from 1; 0 when it is about the whole image
	Cause                     string
}

// Repositories is how many Fill makes.
const Repositories = 200

// Image returns a right image: a base that all have, and a layer of its own.
func Image(n int) verifytest.Image {
	base := verifytest.Honest(2).Layers
	own := verifytest.GzipLayer(verifytest.Tar("app", fmt.Sprintf("This is app %d.\n", n)))
	return verifytest.NewImage(append(base, own)...)
}

// Fill makes 200 repositories of one image each, most with two tags, and returns
// the ten of them that are wrong, in the order of their names. What is wrong with
// each is something else.
func (r *Registry) Fill(t testing.TB) []Wrong {
	t.Helper()
	lies := map[int]func(verifytest.Image) verifytest.Image{
		7:   verifytest.WrongDigit,
		31:  verifytest.Reversed,
		50:  verifytest.CompressedDigest,
		77:  verifytest.OtherLayer,
		98:  verifytest.Fewer,
		111: verifytest.Malformed,
		130: verifytest.CutLayer,
		150: verifytest.AmbiguousLayer,
	}
	for n := range Repositories {
		name, img := Name(n), Image(n)
		if lie := lies[n]; lie != nil {
			r.Push(t, name, "1", lie(img))
			continue
		}
		r.Push(t, name, "1", img)
		if n%2 == 0 {
			mediaType, body := img.Manifest()
			r.PushManifest(t, name, "latest", mediaType, body)
		}
	}
	r.Lose(t, Name(171), Image(171).Layers[2].Digest())
	r.Rot(Image(199).Layers[2].Digest())
	return []Wrong{
		{Name(7), "1", "linux/amd64", 3, "diff_id_mismatch"},
		{Name(31), "1", "linux/amd64", 1, "reversed"},
		{Name(50), "1", "linux/amd64", 1, "compressed_digest"},
		{Name(77), "1", "linux/amd64", 3, "other_layer"},
		{Name(98), "1", "linux/amd64", 0, "diff_id_count"},
		{Name(111), "1", "linux/amd64", 3, "diff_id_malformed"},
		{Name(130), "1", "linux/amd64", 3, "layer_corrupt"},
		{Name(150), "1", "linux/amd64", 3, "layer_ambiguous"},
		{Name(171), "1", "linux/amd64", 3, "blob_unknown"},
		{Name(199), "1", "", 3, "wrong_bytes"},
	}
}

// Name returns the name of a repository that Fill makes.
func Name(n int) string { return fmt.Sprintf("team%d/app-%03d", n%3, n) }

// Index returns an image index of images, which are for linux/amd64, linux/arm64
// and so on.
func Index(t testing.TB, images ...verifytest.Image) (mediaType string, body []byte) {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, img := range images {
		mediaType, body := img.Manifest()
		index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: mediaType, Digest: img.Digest(), Size: int64(len(body)),
			Platform: &ocispec.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "s390x"}[i]}})
	}
	body, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	return index.MediaType, body
}
