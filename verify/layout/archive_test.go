package layout_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/layout"
	"diffgate/verify/verifytest"
)

func openArchive(t testing.TB, archive []byte) *layout.Archive {
	t.Helper()
	a, err := layout.OpenArchive(t.Context(), write(t, archive), verify.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// checkOne judges the image of that name, which must be alone.
func checkOne(t testing.TB, a *layout.Archive, ref string) answer {
	t.Helper()
	images, err := a.Images(ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 1 {
		t.Fatalf("%d images %q", len(images), ref)
	}
	return check(t, a, images[0].MediaType, images[0].Body)
}

// In every form of archive an image gets the answer, and a lie the cause, that
// it gets in a registry.
func TestArchiveLies(t *testing.T) {
	t.Parallel()
	honest := verifytest.Honest(3)
	twice := verifytest.NewImage(honest.Layers[0], honest.Layers[1], honest.Layers[0])
	images := map[string]verifytest.Image{
		"Honest": honest, "Twice": twice, "Zstd": verifytest.NewImage(verifytest.ZstdLayer(honest.Layers[0].Content)),
		"Plain": verifytest.NewImage(verifytest.TarLayer(honest.Layers[0].Content)), "Scratch": verifytest.NewImage(),
		"LieTwice": verifytest.WrongDigit(twice),
	}
	for _, lie := range verifytest.Lies() {
		images[lie.Name] = lie.Image
	}
	forms := map[string]func(verifytest.Image) []byte{
		"docker 25":               func(img verifytest.Image) []byte { return tarOf(saved25(named{"a:1", img})...) },
		"docker 1.10":             func(img verifytest.Image) []byte { return tarOf(savedOld(named{"a:1", img})...) },
		"compressed with gzip":    func(img verifytest.Image) []byte { return verifytest.Gzip(tarOf(savedOld(named{"a:1", img})...)) },
		"compressed with zstd":    func(img verifytest.Image) []byte { return verifytest.Zstd(tarOf(saved25(named{"a:1", img})...)) },
		"compressed with bzip2":   func(img verifytest.Image) []byte { return verifytest.Bzip2(tarOf(saved25(named{"a:1", img})...)) },
		"links before their file": func(img verifytest.Image) []byte { return tarOf(reversed(savedOld(named{"a:1", img}))...) },
		"packed anew by tar":      func(img verifytest.Image) []byte { return tarOf(dotted(saved25(named{"a:1", img}))...) },
	}
	for form, archive := range forms {
		for is, img := range images {
			t.Run(form+"/"+is, func(t *testing.T) {
				t.Parallel()
				img := img.Docker()
				got := checkOne(t, openArchive(t, archive(img)), "a:1")
				if diff := cmp.Diff(want(t, img), got); diff != "" {
					t.Errorf("in a registry (-), in an archive (+):\n%s", diff)
				}
			})
		}
	}
}

func reversed(files []file) []file {
	slices.Reverse(files)
	return files
}

// dotted returns the files as "tar -c ." names them.
func dotted(files []file) []file {
	for i := range files {
		files[i].name = "./" + files[i].name
	}
	return files
}

// An OCI layout in an archive, as docker buildx and skopeo write it, needs no
// manifest.json.
func TestArchiveOfOCILayout(t *testing.T) {
	t.Parallel()
	good, lie := verifytest.Honest(2), verifytest.Swapped(verifytest.Honest(3))
	files := slices.DeleteFunc(saved25(named{"good", good}, named{"lie", lie}), func(f file) bool { return f.name == "manifest.json" })
	a := openArchive(t, tarOf(files...))
	for tag, img := range map[string]verifytest.Image{"good": good, "lie": lie} {
		if diff := cmp.Diff(want(t, img), checkOne(t, a, tag)); diff != "" {
			t.Errorf("%s in a registry (-), in an archive (+):\n%s", tag, diff)
		}
	}
	if images, err := a.Images(""); err != nil || len(images) != 2 {
		t.Errorf("%d images, %v", len(images), err)
	}

	for i, f := range files {
		if f.name == blobName(good.Digest()) {
			files[i].body += " "
		}
	}
	_, err := openArchive(t, tarOf(files...)).Images("good")
	var wrong *layout.WrongBlobError
	if !errors.As(err, &wrong) || wrong.Digest != good.Digest() {
		t.Errorf("a manifest that went bad: %v", err)
	}
}

// What another library writes is read.
func TestArchiveOfGoContainerRegistry(t *testing.T) {
	t.Parallel()
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.RootFS.DiffIDs[0], c.RootFS.DiffIDs[2] = c.RootFS.DiffIDs[2], c.RootFS.DiffIDs[0]
	lie, err := mutate.ConfigFile(img, c)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	good, bad := name.MustParseReference("good:1").(name.Tag), name.MustParseReference("bad:1").(name.Tag)
	if err := tarball.MultiRefWrite(map[name.Reference]v1.Image{good: img, bad: lie}, &buf); err != nil {
		t.Fatal(err)
	}
	a := openArchive(t, buf.Bytes())
	for ref, verdict := range map[string]verify.Verdict{"good:1": verify.Match, "index.docker.io/library/bad:1": verify.Mismatch} {
		if got := checkOne(t, a, ref); got.Verdict != verdict {
			t.Errorf("%s is %v, want %s", ref, got, verdict)
		}
	}
}

// Images are found by every name that docker takes for the same, and by ID.
func TestArchiveImages(t *testing.T) {
	t.Parallel()
	a, b, c := verifytest.Honest(1), verifytest.Honest(2), verifytest.Honest(3)
	archive := openArchive(t, tarOf(saved25(named{"alpine:latest", a}, named{"docker.io/library/b:1", b}, named{"", c})...))
	for _, test := range []struct {
		is, ref string
		want    []string
	}{
		{"no name means all, and what has none is named by its ID", "", []string{"alpine:latest", "docker.io/library/b:1", c.ConfigDigest().String()}},
		{"a tag is the latest when nothing else is said", "alpine", []string{"alpine:latest"}},
		{"short names and whole ones are the same", "b:1", []string{"docker.io/library/b:1"}},
		{"an image without a name is found by its ID", c.ConfigDigest().String(), []string{c.ConfigDigest().String()}},
	} {
		t.Run(test.is, func(t *testing.T) {
			images, err := archive.Images(test.ref)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, img := range images {
				names = append(names, img.Name)
				if img.Descriptor.Digest != digest.FromBytes(img.Body) {
					t.Errorf("%s has another body than its descriptor says", img.Name)
				}
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
	_, err := archive.Images("b:2")
	mustSay(t, err, "no image is named b:2; there are alpine:latest, docker.io/library/b:1")
}

// A stream is read once: lies are found all the same, and only the cause that
// a second look would show is not.
func TestArchiveStream(t *testing.T) {
	t.Parallel()
	lie := verifytest.Unpadded(verifytest.Honest(2)).Docker()
	for is, archive := range map[string][]byte{"plain": tarOf(saved25(named{"a:1", lie})...), "gzip": verifytest.Gzip(tarOf(saved25(named{"a:1", lie})...))} {
		// A pipe, which nobody closes before all of it was read.
		r, w := io.Pipe()
		wrote := make(chan error, 1)
		go func() {
			_, err := w.Write(archive)
			wrote <- errors.Join(err, w.Close())
		}()
		a, err := layout.ReadArchive(t.Context(), "standard input", r, verify.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("%s: not all was read: %v", is, err)
		}
		if diff := cmp.Diff(answer{verify.Mismatch, []string{"1: diff_id_mismatch"}}, checkOne(t, a, "")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", is, diff)
		}
	}
}

// A file that changes after it was read is found out by the second look.
func TestArchiveChanges(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	path := write(t, tarOf(saved25(named{"a:1", img})...))
	a, err := layout.OpenArchive(t.Context(), path, verify.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Dir(path), "image.tar", make([]byte, 1<<16))
	_, err = a.Look(t.Context(), ocispec.Descriptor{Digest: img.Layers[0].Digest()})
	var wrong *layout.WrongBlobError
	if !errors.As(err, &wrong) || wrong.Digest != img.Layers[0].Digest() {
		t.Errorf("error %v, want a WrongBlobError", err)
	}
}

// A config whose name has a digest that is not its own is never judged, however
// the name is written.
func TestArchiveWrongConfig(t *testing.T) {
	t.Parallel()
	other := digest.FromString("other")
	config := `{"rootfs":{"diff_ids":[]}}`
	for _, name := range []string{other.Encoded() + ".json", "blobs/sha256/" + other.Encoded(), other.String(), "./" + other.Encoded()} {
		a := openArchive(t, tarOf(file{name: name, body: config}, manifestJSON(listed{Config: name, RepoTags: []string{"a:1"}})))
		_, err := a.Images("")
		var wrong *layout.WrongBlobError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: error %v, want a WrongBlobError", name, err)
			continue
		}
		if diff := cmp.Diff(&layout.WrongBlobError{File: name, Digest: other, Actual: digest.FromString(config)}, wrong); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		mustSay(t, err, "image a:1: its config")
	}
	a := openArchive(t, tarOf(file{name: "config.json", body: config}, manifestJSON(listed{Config: "config.json"})))
	if got := checkOne(t, a, ""); got.Verdict != verify.Match {
		t.Errorf("a name without a digest: %v", got)
	}
}

// Docker reads manifest.json or index.json, depending on its store: where
// index.json has an image that manifest.json has not, both are judged.
func TestArchiveOfTwoMinds(t *testing.T) {
	t.Parallel()
	good := verifytest.Honest(2)
	lie := verifytest.Swapped(good)
	_, lieBody := lie.Manifest()
	ociIndex := string(indexOf(named{"", lie}, named{"", good}))
	nested := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageIndex + `","digest":"` + digest.FromString(ociIndex).String() +
		`","size":1,"annotations":{"io.containerd.image.name":"docker.io/library/a:1"}}]}`
	for _, test := range []struct {
		is, index string
		more      []file
		want      map[string]verify.Verdict
	}{
		{"one image is both", string(indexOf(named{"1", good})), nil, map[string]verify.Verdict{"a:1": verify.Match}},
		{"index.json has another", string(indexOf(named{"1", lie})), nil, map[string]verify.Verdict{"a:1": verify.Match, "1 in index.json": verify.Mismatch}},
		{"index.json has another under an image index", nested, []file{{name: blobName(digest.FromString(ociIndex)), body: ociIndex}},
			map[string]verify.Verdict{"a:1": verify.Match, "docker.io/library/a:1 in index.json": verify.Mismatch}},
		{"index.json names what is not there", nested, nil, map[string]verify.Verdict{"a:1": verify.Match}},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			files := append(saved25(named{"a:1", good}), file{name: blobName(lie.ConfigDigest()), body: string(lie.Config())},
				file{name: blobName(lie.Digest()), body: string(lieBody)})
			for i := range files {
				if files[i].name == "index.json" {
					files[i].body = test.index
				}
			}
			a := openArchive(t, tarOf(append(files, test.more...)...))
			images, err := a.Images("")
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]verify.Verdict{}
			for _, img := range images {
				got[img.Name] = check(t, a, img.MediaType, img.Body).Verdict
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
			if images, err := a.Images(good.ConfigDigest().String()); err != nil || len(images) != 1 {
				t.Errorf("by its ID: %d images, %v", len(images), err)
			}
		})
	}
}
