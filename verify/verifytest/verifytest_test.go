package verifytest_test

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// names lists the files of a tar archive.
func names(t *testing.T, blob []byte) []string {
	t.Helper()
	var out []string
	for r := tar.NewReader(bytes.NewReader(blob)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h.Name)
	}
}

func gunzip(t *testing.T, blob []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unzstd(t *testing.T, blob []byte) []byte {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func bunzip2(t *testing.T, blob []byte) []byte {
	t.Helper()
	out, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(blob)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unxz(t *testing.T, blob []byte) []byte {
	t.Helper()
	r, err := xz.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// allBytes returns every byte, some of them in runs.
func allBytes() []byte {
	var out []byte
	for b := range 256 {
		out = append(out, bytes.Repeat([]byte{byte(b * 7)}, 1+b%6)...)
	}
	return out
}

// Each blob is what its function says, to a reader that this repository did
// not write.
func TestBlobs(t *testing.T) {
	t.Parallel()
	archive := verifytest.Tar("a", "1", "b/c", "2")
	if diff := cmp.Diff([]string{"a", "b/c"}, names(t, archive)); diff != "" {
		t.Errorf("Tar (-want +got):\n%s", diff)
	}
	if got := verifytest.TarWithoutEnd("a", "1", "b/c", "2"); !bytes.Equal(append(got, make([]byte, 1024)...), archive) {
		t.Error("TarWithoutEnd is not Tar without its last 1024 bytes")
	}
	odd := verifytest.Member{Content: archive, Name: "n", Comment: "c", Extra: []byte("x"), Flags: verifytest.FlagText, HeaderCRC: true}
	for name, blob := range map[string][]byte{
		"Gzip":        verifytest.Gzip(archive),
		"GzipMembers": verifytest.GzipMembers(archive[:700], nil, archive[700:]),
		"Member":      odd.Bytes(),
		"TwoContents": verifytest.TwoContents(archive[:700], archive[700:]),
		"TarOrGzip":   verifytest.TarOrGzip(archive),
	} {
		if !bytes.Equal(gunzip(t, blob), archive) {
			t.Errorf("%s has other content", name)
		}
	}
	for name, blob := range map[string][]byte{
		"Zstd":          verifytest.Zstd(archive),
		"ZstdFrames":    verifytest.ZstdFrames(archive[:700], nil, archive[700:]),
		"ZstdSkippable": append(verifytest.ZstdSkippable([]byte("x")), verifytest.Zstd(archive)...),
		"TarOrZstd":     verifytest.TarOrZstd(archive),
	} {
		if !bytes.Equal(unzstd(t, blob), archive) {
			t.Errorf("%s has other content", name)
		}
	}
	for name, content := range map[string][]byte{"a tar": archive, "nothing": nil, "a run": make([]byte, 1000), "all bytes": allBytes()} {
		if !bytes.Equal(bunzip2(t, verifytest.Bzip2(content)), content) {
			t.Errorf("Bzip2 of %s has other content", name)
		}
		if !bytes.Equal(unxz(t, verifytest.XZ(content)), content) {
			t.Errorf("XZ of %s has other content", name)
		}
	}
	for _, n := range []int64{0, 1, 128 << 10, 128<<10 + 1, 1 << 20} {
		if !bytes.Equal(unzstd(t, verifytest.ZstdZeros(n)), make([]byte, n)) {
			t.Errorf("ZstdZeros(%d) has other content", n)
		}
	}
	for name, blob := range map[string][]byte{"TarOrGzip": verifytest.TarOrGzip(archive), "TarOrZstd": verifytest.TarOrZstd(archive)} {
		if got := names(t, blob); len(got) != 1 {
			t.Errorf("%s is a tar of %q, want one file", name, got)
		}
	}
}

func TestHonest(t *testing.T) {
	t.Parallel()
	archive := verifytest.Tar("a", "1")
	for name, img := range map[string]verifytest.Image{
		"no layers":    verifytest.Honest(0),
		"three layers": verifytest.Honest(3),
		"Docker types": verifytest.NewImage(verifytest.TarLayer(archive), verifytest.GzipLayer(archive), verifytest.ZstdLayer(archive)).Docker(),
	} {
		if report := check(t, img); report.Verdict != verify.Match || len(report.Findings) > 0 {
			t.Errorf("%s: got %s, %v", name, report.Verdict, report.Findings)
		}
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	for _, lie := range verifytest.Lies() {
		report := check(t, lie.Image)
		if report.Verdict != verify.Mismatch || len(report.Findings) == 0 {
			t.Errorf("%s: got %s, want %s", lie.Name, report.Verdict, verify.Mismatch)
		}
		for _, f := range report.Findings {
			if f.Severity != verify.False || f.Reason != lie.Reason || f.Cause != lie.Cause {
				t.Errorf("%s: got %s (%s), want %s (%s)", lie.Name, f.Reason, f.Cause, lie.Reason, lie.Cause)
			}
		}
	}
}

// No lie changes the image that it is told about.
func TestLiesCopy(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(3)
	for _, lie := range []func(verifytest.Image) verifytest.Image{
		verifytest.WrongDigit, verifytest.Swapped, verifytest.Reversed, verifytest.CompressedDigest, verifytest.EmptyString,
		verifytest.Unpadded, verifytest.OtherLayer, verifytest.Fewer, verifytest.More, verifytest.NoRootFS,
		verifytest.Malformed, verifytest.Uppercase, verifytest.NotStrings, verifytest.DuplicateKey,
		verifytest.CaseVariant, verifytest.TrailingJSON, verifytest.CutLayer, verifytest.AmbiguousLayer,
		verifytest.MissingDiffIDs, verifytest.UncompressedTwin, verifytest.EmptyBlobs, verifytest.NoLayers,
		verifytest.XZDigest, verifytest.ContentChanged, verifytest.Masked, verifytest.GzipTwice,
		verifytest.WrongSHA512, verifytest.WrongData,
		verifytest.Image.Docker,
	} {
		lie(img)
	}
	if diff := cmp.Diff(verifytest.Honest(3), img); diff != "" {
		t.Errorf("image after the lies (-want +got):\n%s", diff)
	}
}

// Blobs has every blob that the manifest names, under its digest.
func TestImageBlobs(t *testing.T) {
	t.Parallel()
	l := verifytest.GzipLayer(verifytest.Tar("a", "1"))
	wide := l
	wide.Algorithm = digest.SHA512
	img := verifytest.NewImage(l, wide, l)
	blobs := img.Blobs()
	if len(blobs) != 3 {
		t.Errorf("got %d blobs, want a config and one layer under two digests", len(blobs))
	}
	for dgst, blob := range blobs {
		if got := dgst.Algorithm().FromBytes(blob); got != dgst {
			t.Errorf("blob %s stands under %s", got, dgst)
		}
	}
	mediaType, body := img.Manifest()
	m, err := verify.ParseManifest(mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range append(m.Layers, m.Config) {
		if blob, ok := blobs[desc.Digest]; !ok || desc.Size != int64(len(blob)) {
			t.Errorf("blob %s: got %d bytes, want %d", desc.Digest, len(blob), desc.Size)
		}
	}
	if got, want := img.Digest(), digest.FromBytes(body); got != want {
		t.Errorf("got manifest digest %s, want %s", got, want)
	}
}

func check(t *testing.T, img verifytest.Image) verify.Report {
	t.Helper()
	mediaType, body := img.Manifest()
	report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	return report
}
