package layout_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// writeFile writes a file into a directory.
func writeFile(t testing.TB, dir, name string, body []byte) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

const ociLayout = `{"imageLayoutVersion":"1.0.0"}`

// blobName is where an OCI layout has a blob.
func blobName(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// named is an image under a tag.
type named struct {
	tag   string
	image verifytest.Image
}

// indexOf returns the index.json that names images.
func indexOf(images ...named) []byte {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	for _, n := range images {
		mediaType, body := n.image.Manifest()
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
		if n.tag != "" {
			d.Annotations = map[string]string{ocispec.AnnotationRefName: n.tag}
		}
		index.Manifests = append(index.Manifests, d)
	}
	return toJSON(index)
}

func toJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}

// ociDir writes an OCI layout and returns its directory.
func ociDir(t testing.TB, images ...named) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "oci-layout", []byte(ociLayout))
	writeFile(t, dir, "index.json", indexOf(images...))
	for _, n := range images {
		_, body := n.image.Manifest()
		writeFile(t, dir, blobName(digest.FromBytes(body)), body)
		for d, blob := range n.image.Blobs() {
			writeFile(t, dir, blobName(d), blob)
		}
	}
	return dir
}

// A file is an entry of an archive: a regular one, or a link.
type file struct {
	name, body string
	link       string
	hard       bool
}

// tarOf returns an archive of files.
func tarOf(files ...file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if f.hard {
			h.Typeflag = tar.TypeLink
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// listed is an image of a manifest.json.
type listed struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func manifestJSON(images ...listed) file {
	return file{name: "manifest.json", body: string(toJSON(images))}
}

// saved25 returns what docker save writes since Docker 25: an OCI layout with a
// manifest.json that names its blobs.
func saved25(images ...named) []file {
	var files []file
	var list []listed
	for _, n := range images {
		_, body := n.image.Manifest()
		files = append(files, file{name: blobName(digest.FromBytes(body)), body: string(body)},
			file{name: blobName(n.image.ConfigDigest()), body: string(n.image.Config())})
		l := listed{Config: blobName(n.image.ConfigDigest()), Layers: []string{}}
		if n.tag != "" {
			l.RepoTags = []string{n.tag}
		}
		for _, layer := range n.image.Layers {
			files = append(files, file{name: blobName(layer.Digest()), body: string(layer.Blob)})
			l.Layers = append(l.Layers, blobName(layer.Digest()))
		}
		list = append(list, l)
	}
	return append(files, file{name: "index.json", body: string(indexOf(images...))}, manifestJSON(list...), file{name: "oci-layout", body: ociLayout})
}

// savedOld returns what docker save wrote before: a folder for each layer, with
// a link to another's where the bytes are the same.
func savedOld(n named) []file {
	var files []file
	l := listed{Config: n.image.ConfigDigest().Encoded() + ".json", RepoTags: []string{n.tag}}
	files = append(files, file{name: l.Config, body: string(n.image.Config())})
	first := map[digest.Digest]string{}
	for i, layer := range n.image.Layers {
		id := digest.FromString(fmt.Sprint("layer ", i)).Encoded()
		files = append(files, file{name: id + "/VERSION", body: "1.0"}, file{name: id + "/json", body: `{"id":"` + id + `"}`})
		name := id + "/layer.tar"
		if at, ok := first[layer.Digest()]; ok {
			files = append(files, file{name: name, link: "../" + at})
		} else {
			files = append(files, file{name: name, body: string(layer.Blob)})
			first[layer.Digest()] = name
		}
		l.Layers = append(l.Layers, name)
	}
	return append(files, manifestJSON(l), file{name: "repositories", body: `{}`})
}

// write writes an archive to a file of its own.
func write(t testing.TB, archive []byte) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "image.tar", archive)
	return filepath.Join(dir, "image.tar")
}

// answer is what was found about an image, without wording.
type answer struct {
	Verdict  verify.Verdict
	Findings []string
}

// check judges a manifest in a repository.
func check(t testing.TB, repo verify.Repository, mediaType string, body []byte) answer {
	t.Helper()
	r, err := verify.Check(t.Context(), repo, mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Verdict: r.Verdict}
	for _, f := range r.Findings {
		a.Findings = append(a.Findings, verifytest.Found(f))
	}
	return a
}

// want is what is found about an image in a registry.
func want(t testing.TB, img verifytest.Image) answer {
	t.Helper()
	mediaType, body := img.Manifest()
	return check(t, verifytest.Repo(img.Blobs()), mediaType, body)
}

// mustSay fails the test unless err is one line that has all of want in it.
func mustSay(t testing.TB, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want %q in it", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has more than one line: %q", err)
	}
}
