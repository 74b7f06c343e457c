package layout_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/layout"
	"diffgate/verify/verifytest"
)

func openDir(t testing.TB, path string) *layout.Dir {
	t.Helper()
	d, err := layout.OpenDir(path, verify.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Every image that there ever was gets the answer on a disk that it gets in a
// registry.
func TestDirCases(t *testing.T) {
	t.Parallel()
	images := map[string]verifytest.Image{}
	for _, c := range verifytest.Cases() {
		images[c.ID] = c.Image
	}
	for _, lie := range verifytest.Lies() {
		images[lie.Name] = lie.Image
	}
	for name, img := range images {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDir(t, ociDir(t, named{"v1", img}))
			got, err := d.Images("v1")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want(t, img), check(t, d, got[0].MediaType, got[0].Body)); diff != "" {
				t.Errorf("in a registry (-), on a disk (+):\n%s", diff)
			}
		})
	}
}

// Images are found by tag and by digest; without either, all of them.
func TestDirImages(t *testing.T) {
	t.Parallel()
	a, b := verifytest.Honest(1), verifytest.Honest(2)
	d := openDir(t, ociDir(t, named{"v1", a}, named{"", b}, named{"v2", b}))
	for _, test := range []struct {
		is, tag string
		want    []string
	}{
		{"no tag means all, and what has none is named by its digest", "", []string{"v1", b.Digest().String(), "v2"}},
		{"a tag means those of that name", "v1", []string{"v1"}},
		{"a digest means those that have it", b.Digest().String(), []string{b.Digest().String(), "v2"}},
	} {
		t.Run(test.is, func(t *testing.T) {
			images, err := d.Images(test.tag)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, img := range images {
				names = append(names, img.Name)
				if digest.FromBytes(img.Body) != img.Descriptor.Digest {
					t.Errorf("%s has another body than its descriptor says", img.Name)
				}
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
	_, err := d.Images("v3")
	mustSay(t, err, "no image is named v3; there are v1, v2")

	var many []named
	for i := range 12 {
		many = append(many, named{fmt.Sprintf("v%02d", i), a})
	}
	_, err = openDir(t, ociDir(t, many...)).Images("no\nsuch")
	mustSay(t, err, `no image is named "no\nsuch"; there are v00, v01, v02, v03, v04, v05, v06, v07, v08, v09 and 2 more`)
}

// What another library writes is read: an image index in the layout is judged
// with its children.
func TestDirOfGoContainerRegistry(t *testing.T) {
	t.Parallel()
	index, err := random.Index(1000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	l, err := ggcr.Write(path, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendIndex(index, ggcr.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "many"})); err != nil {
		t.Fatal(err)
	}
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
	if err := l.AppendImage(lie, ggcr.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "lie"})); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, path)
	for tag, verdict := range map[string]verify.Verdict{"many": verify.Match, "lie": verify.Mismatch} {
		images, err := d.Images(tag)
		if err != nil {
			t.Fatal(err)
		}
		if got := check(t, d, images[0].MediaType, images[0].Body); len(images) != 1 || got.Verdict != verdict {
			t.Errorf("%d images %s, the first is %v, want %s", len(images), tag, got, verdict)
		}
	}
}

// A blob that is not what its name says is never judged: not a layer, a config
// or a manifest, and whatever the algorithm.
func TestDirWrongBlob(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(2)
	img.Layers[1].Algorithm = digest.SHA512
	for is, dgst := range map[string]digest.Digest{
		"a layer": img.Layers[0].Digest(), "a layer named by SHA-512": img.Layers[1].Digest(),
		"a config": img.ConfigDigest(), "a manifest": img.Digest(),
	} {
		t.Run(is, func(t *testing.T) {
			t.Parallel()
			path := ociDir(t, named{"v1", img})
			writeFile(t, path, blobName(dgst), []byte("{}"))
			d := openDir(t, path)
			images, err := d.Images("v1")
			if err == nil {
				_, err = verify.Check(t.Context(), d, images[0].MediaType, images[0].Body)
			}
			var wrong *layout.WrongBlobError
			if !errors.As(err, &wrong) {
				t.Fatalf("error %v, want a WrongBlobError", err)
			}
			want := &layout.WrongBlobError{File: blobName(dgst), Digest: dgst, Actual: dgst.Algorithm().FromString("{}")}
			if diff := cmp.Diff(want, wrong); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			mustSay(t, err, want.Digest.String(), want.Actual.String())
		})
	}
}

// A layer that goes bad between two readings is found out.
func TestDirLookAtWrongBlob(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	path := ociDir(t, named{"v1", img})
	writeFile(t, path, blobName(img.Layers[0].Digest()), verifytest.Gzip([]byte("other")))
	_, err := openDir(t, path).Look(t.Context(), ocispec.Descriptor{Digest: img.Layers[0].Digest()})
	var wrong *layout.WrongBlobError
	if !errors.As(err, &wrong) {
		t.Errorf("error %v, want a WrongBlobError", err)
	}
}

// What is not there, too large or no file is said in one line.
func TestDirErrors(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	_, body := img.Manifest()
	for _, test := range []struct {
		is     string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"no oci-layout", func(t *testing.T, dir string) { remove(t, dir, "oci-layout") }, "no file oci-layout: not an OCI layout"},
		{"an oci-layout of the future", func(t *testing.T, dir string) {
			writeFile(t, dir, "oci-layout", []byte(`{"imageLayoutVersion":"2.0.0"}`))
		},
			`oci-layout: it does not say imageLayoutVersion "1.0.0"`},
		{"no index.json", func(t *testing.T, dir string) { remove(t, dir, "index.json") }, "index.json: no such file"},
		{"an index.json that is cut", func(t *testing.T, dir string) { writeFile(t, dir, "index.json", []byte(`{"manifests":[`)) }, "index.json: the manifest is not valid: the JSON is cut"},
		{"an index.json that two parsers read differently", func(t *testing.T, dir string) {
			writeFile(t, dir, "index.json", []byte(`{"manifests":[],"Manifests":[]}`))
		}, "index.json: the manifest is ambiguous"},
		{"an index.json of more than 4 MiB", func(t *testing.T, dir string) { writeFile(t, dir, "index.json", make([]byte, 4<<20+1)) }, "index.json: larger than 4194304 bytes"},
		{"an index.json of too many images", func(t *testing.T, dir string) {
			writeFile(t, dir, "index.json", indexOf(make1001(named{"", img})...))
		}, "it names more than 1000 images"},
		{"an index.json of none", func(t *testing.T, dir string) { writeFile(t, dir, "index.json", indexOf()) }, "index.json names no image"},
		{"a digest that leads out", func(t *testing.T, dir string) {
			writeFile(t, dir, "index.json", []byte(`{"manifests":[{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"sha256:../../../etc/passwd","size":1}]}`))
		}, `invalid digest "sha256:../../../etc/passwd"`},
		{"a manifest that is not there", func(t *testing.T, dir string) { remove(t, dir, blobName(img.Digest())) }, "manifest 1 of 1: " + blobName(img.Digest()) + ": not found"},
		{"a manifest of more than 4 MiB", func(t *testing.T, dir string) { writeFile(t, dir, blobName(img.Digest()), make([]byte, 4<<20+1)) }, "larger than 4194304 bytes"},
		{"a manifest that is a directory", func(t *testing.T, dir string) {
			remove(t, dir, blobName(img.Digest()))
			writeFile(t, dir, blobName(img.Digest())+"/x", nil)
		}, "is not a regular file"},
		{"a manifest that is a link out of the directory", func(t *testing.T, dir string) {
			remove(t, dir, blobName(img.Digest()))
			out := t.TempDir()
			writeFile(t, out, "manifest", body)
			link(t, filepath.Join(out, "manifest"), dir, blobName(img.Digest()))
		}, "path escapes from parent"},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			path := ociDir(t, named{"v1", img})
			test.change(t, path)
			d, err := layout.OpenDir(path, verify.Limits{})
			if err == nil {
				defer d.Close()
				_, err = d.Images("")
			}
			mustSay(t, err, test.want, path)
		})
	}
}

func make1001(n named) []named {
	many := make([]named, 1001)
	for i := range many {
		many[i] = n
	}
	return many
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, to, dir, name string) {
	t.Helper()
	if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A link to a file in the directory is followed, a blob that is missing is a
// finding, and so is a config of more than 4 MiB.
func TestDirOddities(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(2)
	path := ociDir(t, named{"v1", img})
	layer := blobName(img.Layers[0].Digest())
	if err := os.Rename(filepath.Join(path, layer), filepath.Join(path, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	link(t, "../../elsewhere", path, layer)
	d := openDir(t, path)
	images, err := d.Images("v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := check(t, d, images[0].MediaType, images[0].Body); got.Verdict != verify.Match {
		t.Errorf("with a link in the directory: %v", got)
	}

	d = openDir(t, path) // which remembers nothing
	remove(t, path, "elsewhere")
	if diff := cmp.Diff(answer{verify.Mismatch, []string{"0: blob_unknown"}}, check(t, d, images[0].MediaType, images[0].Body)); diff != "" {
		t.Errorf("without a layer (-want +got):\n%s", diff)
	}

	img.RawConfig = []byte(`{"x":"` + strings.Repeat("x", 4<<20) + `"}`)
	d = openDir(t, ociDir(t, named{"v1", img}))
	_, body := img.Manifest()
	if diff := cmp.Diff(answer{verify.Unverifiable, []string{"image: over_limit"}}, check(t, d, ocispec.MediaTypeImageManifest, body)); diff != "" {
		t.Errorf("with a large config (-want +got):\n%s", diff)
	}
}

// FuzzIndex holds that no index.json makes OpenDir or Images panic, and that
// their errors are one line.
func FuzzIndex(f *testing.F) {
	img := verifytest.Honest(1)
	f.Add(indexOf(named{"v1", img}, named{"", img}))
	f.Add([]byte(`{"manifests":[{"mediaType":"application/xml","digest":"sha512:0","size":-1}]}`))
	path := ociDir(f, named{"v1", img})
	f.Fuzz(func(t *testing.T, index []byte) {
		writeFile(t, path, "index.json", index)
		d, err := layout.OpenDir(path, verify.Limits{})
		if err != nil {
			mustSay(t, err, path)
			return
		}
		defer d.Close()
		images, err := d.Images("")
		if err != nil {
			mustSay(t, err, path)
			return
		}
		for _, got := range images {
			if got.Descriptor.Digest != digest.FromBytes(got.Body) && got.Descriptor.Digest.Algorithm() == digest.SHA256 {
				t.Fatalf("%s has another body than its digest says", got.Name)
			}
		}
	})
}
