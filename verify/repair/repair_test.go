package repair_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/repair"
	"diffgate/verify/verifytest"
)

// broken is an image with the facts about its layers.
func broken(t testing.TB, img verifytest.Image) repair.Image {
	t.Helper()
	mediaType, manifest := img.Manifest()
	b := repair.Image{Manifest: manifest, MediaType: mediaType, Config: img.Config()}
	for _, l := range img.Layers {
		f, err := verify.Hash(bytes.NewReader(l.Blob), verify.Limits{}, verify.Fetched, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		look, err := verify.TakeLook(bytes.NewReader(l.Blob), verify.Limits{})
		e := verify.Evidence{Fact: &f}
		if err == nil {
			e.Look = &look
		}
		b.Layers = append(b.Layers, e)
	}
	return b
}

// verdict is what is found about a repaired image in a repository that holds
// its config beside the layers.
func verdict(t testing.TB, img verifytest.Image, f repair.Fixed) verify.Verdict {
	t.Helper()
	repo := verifytest.Repo(img.Blobs())
	repo[f.ConfigDigest] = f.Config
	mediaType, _ := img.Manifest()
	r, err := verify.Check(t.Context(), repo, mediaType, f.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return r.Verdict
}

// Every lie that the config alone tells is repaired, so that the image is right
// and nothing is left to repair. The others are refused, and the error says
// why.
func TestLies(t *testing.T) {
	t.Parallel()
	refused := map[string]string{
		"NoRootFS":       "not repaired: the config has no rootfs: it does not say that it is an image's",
		"NoLayers":       "not repaired: the manifest has no layers, so nothing says which diff_ids are right",
		"DuplicateKey":   `not repaired: the config is ambiguous: keys "rootfs" and "rootfs"`,
		"CaseVariant":    `not repaired: the config is ambiguous: keys "rootfs" and "RootFS"`,
		"TrailingJSON":   "not repaired: the config is ambiguous: bytes after the JSON object",
		"CutLayer":       "has no diff_id: it is corrupt: ",
		"AmbiguousLayer": "has no diff_id: it is ambiguous: ",
	}
	for _, docker := range []bool{false, true} {
		for _, lie := range verifytest.Lies() {
			t.Run(fmt.Sprintf("%s/docker=%v", lie.Name, docker), func(t *testing.T) {
				t.Parallel()
				img := lie.Image
				if docker {
					img = img.Docker()
				}
				b := broken(t, img)
				fixed, err := repair.Fix(b)
				if want, ok := refused[lie.Name]; ok {
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
						t.Fatalf("error %v, want one line with %q", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := verdict(t, img, fixed); got != verify.Match {
					t.Errorf("verdict %s after the repair", got)
				}
				if digest.FromBytes(fixed.Config) != fixed.ConfigDigest || digest.FromBytes(fixed.Manifest) != fixed.ManifestDigest {
					t.Error("the digests are not those of the bytes")
				}
				b.Config, b.Manifest = fixed.Config, fixed.Manifest
				if _, err := repair.Fix(b); !errors.Is(err, repair.ErrNothing) {
					t.Errorf("the repaired image is repaired again: %v", err)
				}
			})
		}
	}
}

// two returns an image with two layers and the config, in which [1] and [2]
// stand for their diff_ids and [x] for a false one.
func two(config string) verifytest.Image {
	img := verifytest.Honest(2)
	img.RawConfig = []byte(ids(img, config))
	return img
}

func ids(img verifytest.Image, s string) string {
	return strings.NewReplacer("[1]", img.Layers[0].DiffID(), "[2]", img.Layers[1].DiffID(), "[x]", digest.FromString("x").String()).Replace(s)
}

// All that is not false stays as it is, byte for byte.
func TestConfigBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ is, config, want string }{
		{"an unknown field, numbers and blanks stay",
			"{ \"z\" : 1.50e+01,\n\t\"rootfs\":{\"type\":\"layers\",\n\"diff_ids\" : [ \"[1]\" ,\n \"[x]\"\n ] , \"more\":[{}]},\"architecture\":\"amd64\",\"os\":\"linux\",\"a\":\"\\u00e9\"}\n",
			"{ \"z\" : 1.50e+01,\n\t\"rootfs\":{\"type\":\"layers\",\n\"diff_ids\" : [ \"[1]\" ,\n \"[2]\"\n ] , \"more\":[{}]},\"architecture\":\"amd64\",\"os\":\"linux\",\"a\":\"\\u00e9\"}\n"},
		{"equal keys where nothing is judged are nobody's business",
			`{"config":{"a":1,"a":2},"rootfs":{"diff_ids":["[x]","[2]"]}}`,
			`{"config":{"a":1,"a":2},"rootfs":{"diff_ids":["[1]","[2]"]}}`},
		{"a list of another length is written anew",
			`{"rootfs":{"diff_ids":[ "[1]" ],"type":"layers"}}`,
			`{"rootfs":{"diff_ids":["[1]","[2]"],"type":"layers"}}`},
		{"diff_ids that are no list become one",
			`{"rootfs":{"diff_ids":null,"type":"layers"}}`,
			`{"rootfs":{"diff_ids":["[1]","[2]"],"type":"layers"}}`},
		{"missing diff_ids are added at the end",
			`{"rootfs":{"type":"layers" },"os":"linux"}`,
			`{"rootfs":{"type":"layers" ,"diff_ids":["[1]","[2]"]},"os":"linux"}`},
		{"also to an empty rootfs",
			`{"rootfs":{}}`,
			`{"rootfs":{"diff_ids":["[1]","[2]"]}}`},
		{"a key may be written with escapes",
			`{"\u0072ootfs":{"diff_id\u0073":["[x]","[2]"]}}`,
			`{"\u0072ootfs":{"diff_id\u0073":["[1]","[2]"]}}`},
		{"members of the name elsewhere are others",
			`{"config":{"rootfs":{"diff_ids":["[x]"]}},"rootfs":{"x":{"diff_ids":["[x]"]},"diff_ids":["[2]","[2]"]}}`,
			`{"config":{"rootfs":{"diff_ids":["[x]"]}},"rootfs":{"x":{"diff_ids":["[x]"]},"diff_ids":["[1]","[2]"]}}`},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			img := two(test.config)
			fixed, err := repair.Fix(broken(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ids(img, test.want), string(fixed.Config)); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if got := verdict(t, img, fixed); got != verify.Match {
				t.Errorf("verdict %s after the repair", got)
			}
		})
	}
}

// In the manifest, the digest, size and inline data of the config are replaced
// and all else stays.
func TestManifestBytes(t *testing.T) {
	t.Parallel()
	img := two(`{"rootfs":{"type":"layers","diff_ids":["[2]"]}}`)
	img.ConfigData = img.Config()
	b := broken(t, img)
	b.Manifest = append(bytes.Replace(b.Manifest, []byte(`"config":{`), []byte("\"x\": 1e0 ,\n \"config\" : {\"y\":[ ],"), 1), '\n')
	fixed, err := repair.Fix(b)
	if err != nil {
		t.Fatal(err)
	}
	right := img
	right.RawConfig = fixed.Config
	right.ConfigData = fixed.Config
	_, want := right.Manifest()
	want = append(bytes.Replace(want, []byte(`"config":{`), []byte("\"x\": 1e0 ,\n \"config\" : {\"y\":[ ],"), 1), '\n')
	if diff := cmp.Diff(string(want), string(fixed.Manifest)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	if got := verdict(t, img, fixed); got != verify.Match {
		t.Errorf("verdict %s after the repair", got)
	}
}

// The changes name the values that people know from the documents.
func TestChanges(t *testing.T) {
	t.Parallel()
	size := func(img verifytest.Image) string { return fmt.Sprint(len(img.Config())) }
	for _, test := range []struct {
		is, config string
		want       []repair.Change // without those of the manifest
	}{
		{"one value", `{"rootfs":{"diff_ids":["[1]","[x]"]}}`, []repair.Change{{"config", "rootfs.diff_ids[1]", "[x]", "[2]"}}},
		{"an empty string", `{"rootfs":{"diff_ids":["[1]",""]}}`, []repair.Change{{"config", "rootfs.diff_ids[1]", `""`, "[2]"}}},
		{"a number", `{"rootfs":{"diff_ids":[7,"[2]"]}}`, []repair.Change{{"config", "rootfs.diff_ids[0]", "7", "[1]"}}},
		{"one too few", `{"rootfs":{"diff_ids":["[2]"]}}`, []repair.Change{{"config", "rootfs.diff_ids[0]", "[2]", "[1]"}, {"config", "rootfs.diff_ids[1]", "", "[2]"}}},
		{"one too many", `{"rootfs":{"diff_ids":["[1]","[2]","[2]"]}}`, []repair.Change{{"config", "rootfs.diff_ids[2]", "[2]", ""}}},
		{"none at all", `{"rootfs":{}}`, []repair.Change{{"config", "rootfs.diff_ids[0]", "", "[1]"}, {"config", "rootfs.diff_ids[1]", "", "[2]"}}},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			img := two(test.config)
			fixed, err := repair.Fix(broken(t, img))
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range test.want {
				test.want[i].Old, test.want[i].New = ids(img, c.Old), ids(img, c.New)
			}
			test.want = append(test.want, repair.Change{Document: "manifest", Path: "config.digest", Old: img.ConfigDigest().String(), New: fixed.ConfigDigest.String()})
			if len(fixed.Config) != len(img.Config()) {
				test.want = append(test.want, repair.Change{Document: "manifest", Path: "config.size", Old: size(img), New: fmt.Sprint(len(fixed.Config))})
			}
			if diff := cmp.Diff(test.want, fixed.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// What is right is not touched, and what is not ours to mend is refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	const right = `{"rootfs":{"type":"layers","diff_ids":["[1]","[2]"]}}`
	const wrong = `{"rootfs":{"type":"layers","diff_ids":["[1]","[x]"]}}`
	for _, test := range []struct {
		is, config string
		change     func(*repair.Image)
		want       string
	}{
		{"an image that is right", right, nil, repair.ErrNothing.Error()},
		{"a rootfs that is no object", `{"rootfs":null}`, nil, "not repaired: rootfs of the config: it is not a JSON object"},
		{"a config that is no object", `[]`, nil, "not repaired: the config: it is not a JSON object"},
		{"a config that is cut", `{"rootfs":{"diff_ids":["[1]"`, nil, "not repaired: the config: not valid JSON: unexpected EOF"},
		{"two diff_ids", `{"rootfs":{"diff_ids":[],"diff_ids":[]}}`, nil, `not repaired: the config is ambiguous: keys "diff_ids" and "diff_ids"`},
		{"another config than that of the manifest", wrong, func(b *repair.Image) { b.Config = []byte("{}") }, "and other bytes were given"},
		{"an image index", wrong, func(b *repair.Image) {
			b.MediaType, b.Manifest = "application/vnd.oci.image.index.v1+json", []byte(`{"manifests":[]}`)
		}, `not repaired: "application/vnd.oci.image.index.v1+json" is not the media type of an image manifest`},
		{"a layer that nobody read", wrong, func(b *repair.Image) { b.Layers[1].Fact = nil }, "has no diff_id: its bytes were not read"},
		{"a layer over the limits", wrong, func(b *repair.Image) {
			b.Layers[1].Fact.Problem, b.Layers[1].Fact.Reason = verify.Limit, "it is too large"
		}, "has no diff_id: it is unverifiable: it is too large"},
		{"a layer that is no tar", `{"rootfs":{"diff_ids":["[1]",""]}}`, func(b *repair.Image) {
			b.Layers[1].Fact.Encoding, b.Layers[1].Fact.Quirks = verify.Identity, verify.NotTar
		}, "has no diff_id: it is not a tar, gzip or zstd stream"},
		{"evidence of fewer layers", wrong, func(b *repair.Image) { b.Layers = nil }, "not repaired: evidence about 0 layers was given, and the manifest has 2"},
		{"ten thousand diff_ids too many", `{"rootfs":{"diff_ids":[0` + strings.Repeat(",0", 10_000) + `]}}`, nil, "not repaired: the config lists 10001 diff_ids, and more than 10000 are not looked at"},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			b := broken(t, two(test.config))
			if test.change != nil {
				test.change(&b)
			}
			_, err := repair.Fix(b)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, test.want)
			}
		})
	}
}

// A right size is put in the manifest when that alone is wrong, and a right
// diff_id of another algorithm is kept when another layer's is wrong.
func TestLittle(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(2)
	img.ConfigSize = 7
	fixed, err := repair.Fix(broken(t, img))
	if err != nil {
		t.Fatal(err)
	}
	want := []repair.Change{{Document: "manifest", Path: "config.size", Old: "7", New: fmt.Sprint(len(img.Config()))}}
	if diff := cmp.Diff(want, fixed.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	img = verifytest.Honest(2)
	wide := digest.SHA512.FromBytes(img.Layers[0].Content).String()
	img.DiffIDs = []string{wide, wide}
	fixed, err = repair.Fix(broken(t, img))
	if err != nil {
		t.Fatal(err)
	}
	want = []repair.Change{{Document: "config", Path: "rootfs.diff_ids[1]", Old: wide, New: img.Layers[1].DiffID()}}
	if diff := cmp.Diff(want, fixed.Changes[:1]); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// A history that tells of another number of layers is told of and left alone.
func TestNotes(t *testing.T) {
	t.Parallel()
	for history, want := range map[string][]string{
		`[{},{"empty_layer":true},{}]`: nil,
		`[]`:                           nil,
		`"none"`:                       nil,
		`[{},{},{}]`:                   {"the history tells of 3 layers and the image has 2; it was not changed"},
	} {
		fixed, err := repair.Fix(broken(t, two(`{"history":`+history+`,"rootfs":{"diff_ids":["[1]","[x]"]}}`)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, fixed.Notes); diff != "" {
			t.Errorf("notes on %s (-want +got):\n%s", history, diff)
		}
		if !bytes.Contains(fixed.Config, []byte(history)) {
			t.Errorf("the history %s was changed", history)
		}
	}
}

// FuzzFix holds that a config which was repaired says the same as before but
// for its diff_ids.
func FuzzFix(f *testing.F) {
	for _, lie := range verifytest.Lies() {
		f.Add(lie.Image.Config())
	}
	f.Add([]byte("{\"rootfs\" : {\"diff_ids\":[ 1 , \"\\u0000\",[]\n], \"x\":1e400}}"))
	img := verifytest.Honest(3)
	layers := broken(f, img).Layers
	f.Fuzz(func(t *testing.T, config []byte) {
		img := img
		img.RawConfig = append([]byte{}, config...)
		mediaType, manifest := img.Manifest()
		fixed, err := repair.Fix(repair.Image{Manifest: manifest, MediaType: mediaType, Config: config, Layers: layers})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("error on more than one line: %q", err)
			}
			return
		}
		before, was := apart(t, config)
		after, is := apart(t, fixed.Config)
		if diff := cmp.Diff(before, after, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("other values changed (-before +after):\n%s", diff)
		}
		if want := any([]any{img.DiffIDs[0], img.DiffIDs[1], img.DiffIDs[2]}); !cmp.Equal(want, is) || cmp.Equal(was, is) {
			t.Fatalf("diff_ids %v became %v", was, is)
		}
		m, err := verify.ParseManifest(mediaType, fixed.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		c, err := verify.ParseConfig(fixed.Config)
		if err != nil {
			t.Fatal(err)
		}
		if r := verify.Judge(m, c, layers); r.Verdict != verify.Match || m.Config.Digest != digest.FromBytes(fixed.Config) {
			t.Fatalf("the image is %s after the repair", r.Verdict)
		}
	})
}

// apart returns the values of a config, and its diff_ids apart.
func apart(t testing.TB, config []byte) (rest map[string]any, diffIDs any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	if err := dec.Decode(&rest); err != nil {
		t.Fatal(err)
	}
	rootFS := rest["rootfs"].(map[string]any)
	diffIDs = rootFS["diff_ids"]
	delete(rootFS, "diff_ids")
	return rest, diffIDs
}
