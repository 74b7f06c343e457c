package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A lookingRepo counts what it is asked for, and fails looks with err.
type lookingRepo struct {
	verifytest.Repo
	err   error
	looks int
}

func (r *lookingRepo) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	r.looks++
	if r.err != nil {
		return verify.Look{}, r.err
	}
	return r.Repo.Look(ctx, desc)
}

// A layer is read once more only where the claim cannot be decided or explained
// without.
func TestLooksAreRare(t *testing.T) {
	t.Parallel()
	var many []verifytest.Layer
	for i := range 20 {
		many = append(many, verifytest.GzipLayer(verifytest.Tar("a", fmt.Sprint(i))))
	}
	unexplained := image(many...)
	for i := range unexplained.DiffIDs {
		unexplained.DiffIDs[i] = digest.FromString(fmt.Sprint(i)).String()
	}
	for _, tt := range []struct {
		is    string
		image verifytest.Image
		looks int
	}{
		{"an honest image", image(l1, l2), 0},
		{"a lie that explains itself", verifytest.CompressedDigest(image(l1, l2)), 0},
		{"a lie that does not", verifytest.WrongDigit(image(l1, l2)), 1},
		{"a sha512 diff_id", claims(image(l1), digest.SHA512.FromBytes(p1).String()), 1},
		{"twenty lies that do not explain themselves", unexplained, 8},
		{"a corrupt layer", verifytest.CutLayer(image(l1, l2)), 0},
		{"a count that is wrong", verifytest.Fewer(image(l1, l2)), 0},
	} {
		repo := &lookingRepo{Repo: tt.image.Blobs()}
		mediaType, body := tt.image.Manifest()
		if _, err := verify.Check(t.Context(), repo, mediaType, body); err != nil {
			t.Fatalf("%s: %v", tt.is, err)
		}
		if repo.looks != tt.looks {
			t.Errorf("%s: %d looks, want %d", tt.is, repo.looks, tt.looks)
		}
	}
}

// A look that fails leaves a false claim false, and one that only it could
// decide undecided.
func TestLooksThatFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	lie := verifytest.Unpadded(image(l1))
	wide := claims(image(l1), digest.SHA512.FromBytes(p1).String())
	for _, tt := range []struct {
		is      string
		image   verifytest.Image
		err     error
		verdict verify.Verdict
		want    error
	}{
		{"a lie, and the upstream fails", lie, broken, verify.Mismatch, nil},
		{"a lie, and no look is wanted", lie, verify.ErrUnknown, verify.Mismatch, nil},
		{"a lie, and the layer is gone", lie, verify.ErrNotFound, verify.Mismatch, nil},
		{"a sha512 diff_id, and the upstream fails", wide, broken, "", broken},
		{"a sha512 diff_id, and no look is wanted", wide, verify.ErrUnknown, verify.Unverified, nil},
		{"a sha512 diff_id, and the layer is gone", wide, verify.ErrNotFound, verify.Mismatch, nil},
	} {
		mediaType, body := tt.image.Manifest()
		report, err := verify.Check(t.Context(), &lookingRepo{Repo: tt.image.Blobs(), err: tt.err}, mediaType, body)
		if report.Verdict != tt.verdict || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %s, %v; want %s, %v", tt.is, report.Verdict, err, tt.verdict, tt.want)
		}
	}
}

// A claim that only a look can decide is looked at however many there are, and
// each blob once.
func TestLooksOncePerBlob(t *testing.T) {
	t.Parallel()
	img := image(l1, l1, l1, l1, l1, l1, l1, l1, l1, l1)
	for i := range img.DiffIDs {
		img.DiffIDs[i] = digest.SHA512.FromBytes(p1).String()
	}
	mediaType, body := img.Manifest()
	repo := &lookingRepo{Repo: img.Blobs()}
	report, err := verify.Check(t.Context(), repo, mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != verify.Match || len(report.Findings) != 10 || repo.looks != 1 {
		t.Errorf("got %s with %d findings after %d looks, want a match, a warning for each, and one look", report.Verdict, len(report.Findings), repo.looks)
	}
}

// More layers than any kernel mounts are refused: each would cost the upstream a
// request.
func TestTooManyLayers(t *testing.T) {
	t.Parallel()
	layers := func(n int) verifytest.Image {
		img := verifytest.Image{MediaType: imageManifest, ConfigType: ocispec.MediaTypeImageConfig}
		for i := range n {
			img.Layers = append(img.Layers, verifytest.TarLayer([]byte(fmt.Sprint(i))))
		}
		return img
	}
	for n, want := range map[int]string{1000: "image: diff_id_count", 1001: "image: over_limit"} {
		img := layers(n)
		mediaType, body := img.Manifest()
		report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, body)
		if err != nil || len(report.Findings) == 0 || finding(report.Findings[0]) != want {
			t.Errorf("%d layers: got %.100v, %v; want %s", n, report.Findings, err, want)
		}
	}
}

// A config that is not as long as its descriptor says is refused by some.
func TestConfigSize(t *testing.T) {
	t.Parallel()
	img := image(l1)
	mediaType, body := img.Manifest()
	m, err := verify.ParseManifest(mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	wrong := []byte(replaceOnce(t, string(body), fmt.Sprintf(`"size":%d`, m.Config.Size), `"size":7`))
	report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, wrong)
	if err != nil || report.Verdict != verify.Match || len(report.Findings) != 1 || finding(report.Findings[0]) != "image: not_portable" {
		t.Errorf("got %s, %v, %v; want a match with a warning", report.Verdict, report.Findings, err)
	}
}

func replaceOnce(t *testing.T, s, old, with string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q is not once in %s", old, s)
	}
	return strings.Replace(s, old, with, 1)
}

// A config that is too large to be judged claims nothing only if its beginning shows
// that it is no JSON object: behind blanks there may be one.
func TestLargeConfigs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		is, configType, read string
		want                 string // the finding; empty: it is no image
	}{
		{"an object", "application/vnd.example", `{"a":`, "image: over_limit"},
		{"an object behind blanks", "application/vnd.example", strings.Repeat(" \n", 2000) + "{", "image: over_limit"},
		{"an object behind a byte order mark", "application/vnd.example", "\ufeff {", "image: over_limit"},
		{"blanks alone", "application/vnd.example", strings.Repeat(" ", 5000), "image: over_limit"},
		{"nothing that is known", "application/vnd.example", "", "image: over_limit"},
		{"bytes that are no object", "application/vnd.example", "GGUF", ""},
		{"the same under the type of an image config", ocispec.MediaTypeImageConfig, "GGUF", "image: over_limit"},
	} {
		img := image(l1)
		img.ConfigType = test.configType
		mediaType, body := img.Manifest()
		report, err := verify.Check(t.Context(), largeConfig{verifytest.Repo(img.Blobs()), test.read}, mediaType, body)
		got := ""
		for _, f := range report.Findings {
			got = finding(f)
		}
		if err != nil || got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.is, got, err, test.want)
		}
	}
}

// A largeConfig is a repository whose configs are too large.
type largeConfig struct {
	verifytest.Repo
	read string
}

// Config implements verify.Blobs.
func (r largeConfig) Config(context.Context, ocispec.Descriptor) ([]byte, error) {
	return nil, verify.NewTooLargeError(10, []byte(r.read))
}
