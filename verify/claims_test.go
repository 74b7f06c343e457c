package verify_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

const (
	imageManifest = ocispec.MediaTypeImageManifest
	imageIndex    = ocispec.MediaTypeImageIndex
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]verify.Kind{
		imageManifest:                     verify.ImageKind,
		imageManifest + "; charset=utf-8": verify.ImageKind,
		strings.ToUpper(imageManifest):    verify.ImageKind,
		verifytest.DockerManifest:         verify.ImageKind,
		imageIndex:                        verify.IndexKind,
		"application/vnd.docker.distribution.manifest.list.v2+json": verify.IndexKind,
		"application/vnd.docker.distribution.manifest.v1+json":      verify.Schema1Kind,
		"application/vnd.docker.distribution.manifest.v1+prettyjws": verify.Schema1Kind,
		"":                   verify.UnknownKind,
		"application/json":   verify.UnknownKind,
		imageManifest + ";=": verify.UnknownKind,
		imageManifest + "x":  verify.UnknownKind,
	} {
		if got := verify.KindOf(contentType); got != want {
			t.Errorf("KindOf(%q) = %d, want %d", contentType, got, want)
		}
	}
}

// What is no image manifest, and what the default policy does with it.
func TestCheckKinds(t *testing.T) {
	t.Parallel()
	_, body := image(l1).Manifest()
	for _, test := range []struct {
		contentType, body string
		answer            string
		verdict           verify.Verdict
		message           string
	}{
		{imageIndex, `{"schemaVersion":2,"manifests":[]}`, "accept", verify.NotAnImage, ""},
		{"application/vnd.docker.distribution.manifest.v1+json", `{}`, "reject", verify.Unverifiable, "Docker schema 1 manifests carry no diff_ids and are refused (verify.schema1)"},
		{"application/vnd.acme+json", `{}`, "reject", verify.Mismatch, `unknown manifest media type "application/vnd.acme+json": it cannot be judged`},
		{"\u212a\n" + strings.Repeat("x", 1000), `{}`, "reject", verify.Mismatch, `unknown manifest media type "\u212a\n` + strings.Repeat("x", 36) + `...": it cannot be judged`},
		{verifytest.DockerManifest, string(body), "reject", verify.Mismatch, `the manifest is ambiguous: its mediaType is "application/vnd.oci.image.manifest.v1+js..." ` +
			`and it was sent as "application/vnd.docker.distribution.manifest.v2+json"`},
		{imageManifest, "", "reject", verify.Mismatch, "the manifest is not valid: empty"},
	} {
		report, err := verify.Check(t.Context(), verifytest.Repo{}, test.contentType, []byte(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if report.Verdict != test.verdict || answerOf(report) != test.answer {
			t.Errorf("%q: got %s and %s, want %s and %s", test.contentType, report.Verdict, answerOf(report), test.verdict, test.answer)
		}
		var message string
		for _, f := range report.Findings {
			message += f.Message
		}
		if message != test.message {
			t.Errorf("got message %s, want %s", message, test.message)
		}
	}
}

// desc and cfg are a descriptor and the member of a manifest that names a
// config.
var (
	desc = fmt.Sprintf(`{"mediaType":"x/y","digest":"%s","size":0}`, digest.FromString(""))
	cfg  = `"config":` + desc
)

// Documents that are not valid, or that two parsers could read differently.
func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	const invalid, ambiguous = verify.ReasonManifestInvalid, verify.ReasonManifestAmbiguous
	for _, test := range []struct {
		is          string
		contentType string
		body        string
		want        verify.Reason
	}{
		{"no bytes", imageManifest, "", invalid},
		{"blanks", imageManifest, " \n", invalid},
		{"an array", imageManifest, "[]", invalid},
		{"null", imageManifest, "null", invalid},
		{"a byte order mark", imageManifest, "\ufeff{" + cfg + "}", invalid},
		{"UTF-16", imageManifest, "\xff\xfe{\x00}\x00", invalid},
		{"no JSON", imageManifest, "{" + cfg, invalid},
		{"a comment", imageManifest, "{/**/" + cfg + "}", invalid},
		{"a trailing comma", imageManifest, "{" + cfg + ",}", invalid},
		{"single quotes", imageManifest, "{'layers':[]}", invalid},
		{"layers that are an object", imageManifest, "{" + cfg + `,"layers":{}}`, invalid},
		{"layer that is null", imageManifest, "{" + cfg + `,"layers":[null]}`, invalid},
		{"size with an exponent", imageManifest, strings.Replace("{"+cfg+"}", `"size":0`, `"size":1e3`, 1), invalid},
		{"size below zero", imageManifest, strings.Replace("{"+cfg+"}", `"size":0`, `"size":-1`, 1), invalid},
		{"size over 2^63", imageManifest, strings.Replace("{"+cfg+"}", `"size":0`, `"size":9223372036854775808`, 1), invalid},
		{"digest in capitals", imageManifest, strings.Replace("{"+cfg+"}", "e3b0", "E3B0", 1), invalid},
		{"digest with a path", imageManifest, strings.Replace("{"+cfg+"}", "sha256:e3", "sha256:../", 1), invalid},
		{"digest of an unknown algorithm", imageManifest, strings.Replace("{"+cfg+"}", "sha256:", "md5:", 1), invalid},
		{"index with a bad digest", imageIndex, `{"manifests":[{"digest":"sha256:0"}]}`, invalid},

		{"bytes after the object", imageManifest, "{" + cfg + "}x", ambiguous},
		{"an object after the object", imageManifest, "{" + cfg + "}{}", ambiguous},
		{"a zero byte after the object", imageManifest, "{" + cfg + "}\x00", ambiguous},
		{"a string that is not UTF-8", imageManifest, "{" + cfg + ",\"x\":\"\xff\"}", ambiguous},
		{"10 000 arrays in each other", imageManifest, "{" + cfg + `,"x":` + deep + "}", ambiguous},
		{"two keys config", imageManifest, "{" + cfg + "," + cfg + "}", ambiguous},
		{"two keys layers", imageManifest, "{" + cfg + `,"layers":[],"layers":[]}`, ambiguous},
		{"two keys layers, one escaped", imageManifest, "{" + cfg + `,"layers":[],"\u006cayers":[]}`, ambiguous},
		{"Layers", imageManifest, "{" + cfg + `,"Layers":[]}`, ambiguous},
		{"layers with U+017F for the s", imageManifest, "{" + cfg + `,"layer` + "\u017f" + `":[]}`, ambiguous},
		{"two unknown keys that fold to one", imageManifest, "{" + cfg + `,"k":1,"` + "\u212a" + `":2}`, ambiguous},
		{"two keys digest", imageManifest, "{" + cfg + `,"layers":[{"digest":"a","digest":"b"}]}`, ambiguous},
		{"Digest", imageManifest, "{" + cfg + `,"layers":[{"Digest":"a"}]}`, ambiguous},
		{"Os of a platform", imageIndex, `{"manifests":[{"platform":{"Os":"linux"}}]}`, ambiguous},
		{"manifests in an image manifest", imageManifest, "{" + cfg + `,"manifests":[]}`, ambiguous},
		{"config in an index", imageIndex, "{" + cfg + `,"manifests":[]}`, ambiguous},
		{"layers in an index", imageIndex, `{"layers":[],"manifests":[]}`, ambiguous},
		{"fsLayers", imageManifest, "{" + cfg + `,"fsLayers":[]}`, ambiguous},
		{"another mediaType than it was sent as", imageManifest, "{" + cfg + `,"mediaType":"` + imageIndex + `"}`, ambiguous},

		{"no config", imageManifest, `{"layers":[]}`, verify.ReasonConfigInvalid},
		{"null for a config", imageManifest, `{"config":null}`, verify.ReasonConfigInvalid},
	} {
		_, err := verify.ParseManifest(test.contentType, []byte(test.body))
		if got := reasonOf(err); got != test.want {
			t.Errorf("%s: got %q (%v), want %q", test.is, got, err, test.want)
		}
		if err != nil && !oneLine(err.Error()) {
			t.Errorf("%s: not one short line of ASCII: %q", test.is, err)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	t.Parallel()
	const invalid, ambiguous = verify.ReasonConfigInvalid, verify.ReasonConfigAmbiguous
	for body, want := range map[string]verify.Reason{
		``:                                       invalid,
		`{"rootfs":{"diff_ids":["a"]}`:           invalid,
		`{"rootfs":[]}`:                          invalid,
		`{"rootfs":{"diff_ids":"a"}}`:            invalid,
		`{"rootfs":{"diff_ids":[1]}}`:            invalid,
		`{"os":1}`:                               invalid,
		"\ufeff{}":                               invalid,
		`{} {}`:                                  ambiguous,
		`{"rootfs":{},"rootfs":{}}`:              ambiguous,
		`{"rootfs":{},"RootFS":{}}`:              ambiguous,
		`{"rootfs":{"diff_ids":[],"x":1,"x":2}}`: ambiguous,
		`{"rootfs":{"diff_ids":[],"Diff_IDs":[]}}`: ambiguous,
		`{"os":"linux","OS":"linux"}`:              ambiguous,
		"{\"author\":\"\xff\"}":                    ambiguous,
	} {
		_, err := verify.ParseConfig([]byte(body))
		if got := reasonOf(err); got != want {
			t.Errorf("%s: got %q (%v), want %q", body, got, err, want)
		}
	}
}

// Duplicates and case variants count only where the keys decide something.
func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"{" + cfg + "}",
		" \r\n\t{" + cfg + "}\n",
		"{" + cfg + `,"layers":null,"manifests":null}`,
		"{" + cfg + `,"fsLayers":null}`,
		"{" + cfg + `,"fsLayers":""}`,
		"{" + cfg + `,"mediaType":"","artifactType":"","annotations":null,"subject":null}`,
		"{" + cfg + `,"layers":[` + strings.TrimSuffix(desc, "}") + `,"data":"","urls":null,"platform":null,"annotations":null}]}`,
		"{" + cfg + `,"annotations":{"a":"1","A":"2"}}`,
		"{" + cfg + `,"subject":{"digest":"x","Digest":"y"}}`,
		"{" + cfg + `,"layers":[` + desc + `]}`,
	} {
		if _, err := verify.ParseManifest(imageManifest, []byte(body)); err != nil {
			t.Errorf("manifest %s: %v", body, err)
		}
	}
	for _, body := range []string{
		`{}`,
		`{"rootfs":null}`,
		`{"rootfs":{"type":"layers","diff_ids":null}}`,
		`{"config":{"Env":[],"env":[]},"history":[{"a":1,"a":2}]}`,
	} {
		if _, err := verify.ParseConfig([]byte(body)); err != nil {
			t.Errorf("config %s: %v", body, err)
		}
	}
}

// A key of a config in another case is read as Go reads it, and told, if it is the
// only one.
func TestConfigVariants(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]verify.Config{
		`{"rootfS":{"type":"layers","diff_ids":["a"]}}`: {HasRootFS: true, RootFSType: "layers", DiffIDs: []string{"a"}, Variants: []string{"rootfS"}, SaysDiffIDs: true, HasImageKeys: true},
		"{\"rootf\u017f\":{\"Diff_IDs\":[\"a\"]}}":      {HasRootFS: true, DiffIDs: []string{"a"}, Variants: []string{"rootf\u017f", "Diff_IDs"}, SaysDiffIDs: true, HasImageKeys: true},
		`{"OS":"linux"}`: {Platform: ocispec.Platform{OS: "linux"}, Variants: []string{"OS"}, HasImageKeys: true},
	} {
		got, err := verify.ParseConfig([]byte(body))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", body, err, diff)
		}
	}
}

// Whether a config says diff_ids is told of any bytes, as the most tolerant parser
// reads them: it decides whether a manifest is judged at all.
func TestConfigSaysDiffIDs(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"rootfs":{"diff_ids":["a"]}}`:                      true,
		`{"rootfs":{"diff_ids":[1]}}`:                        true,
		`{"rootfs":{"diff_ids":"a"}}`:                        true,
		`{"RootFS":{"DIFF_IDS":["a"]}}`:                      true,
		`{"rootfs":{},"rootfs":{"diff_ids":["a"]}}`:          true,
		`{"rootfs":{"diff_ids":["a"],"diff_ids":[]}}`:        true,
		`{"rootfs":{"diff_ids":["a"]}} trailing`:             true,
		"\ufeff" + `{"rootfs":{"diff_ids":["a"]}}`:           true,
		"{\"x\":\"\xff\",\"rootfs\":{\"diff_ids\":[\"a\"]}}": true,
		`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"rootfs":{"diff_ids":["a"]}}`: true,
		`{"rootfs":{"diff_ids":["a"]},"cut`:        true,
		`{"rootfs":{"diff_ids":[]}}`:               false,
		`{"rootfs":{"diff_ids":null}}`:             false,
		`{"rootfs":"layers"}`:                      false,
		`{"config":{"rootfs":{"diff_ids":["a"]}}}`: false,
		`[{"rootfs":{"diff_ids":["a"]}}]`:          false,
		`apiVersion: v2`:                           false,
		``:                                         false,
	} {
		if got, _ := verify.ParseConfig([]byte(body)); got.SaysDiffIDs != want {
			t.Errorf("%.80s: says diff_ids: %t, want %t", body, got.SaysDiffIDs, want)
		}
	}
}

// A document of 100 000 layers, all of them wrong, is judged in linear time.
func TestManyLayers(t *testing.T) {
	t.Parallel()
	const n = 100_000
	var diffIDs []string
	for i := range n {
		diffIDs = append(diffIDs, digest.FromString(fmt.Sprint(i)).String())
	}
	c, err := verify.ParseConfig(claims(image(), diffIDs...).Config())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(diffIDs, c.DiffIDs); diff != "" {
		t.Errorf("diff_ids (-want +got):\n%s", diff)
	}
	m, err := verify.ParseManifest(imageManifest, []byte("{"+cfg+`,"layers":[`+strings.Repeat(desc+",", n-1)+desc+"]}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != n {
		t.Errorf("got %d layers, want %d", len(m.Layers), n)
	}
	evidence := make([]verify.Evidence, n)
	fact := hash(nil)
	for i := range n {
		m.Layers[i].MediaType = ocispec.MediaTypeImageLayer
		evidence[i].Fact = &fact
	}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	if r := verify.Judge(m, c, evidence); len(r.Findings) != n {
		t.Errorf("got %d findings, want %d", len(r.Findings), n)
	}
}

func reasonOf(err error) verify.Reason {
	var claim *verify.ClaimError
	if errors.As(err, &claim) {
		return claim.Reason
	}
	return ""
}
