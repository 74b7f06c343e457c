package verify_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// FuzzParseManifest holds that an accepted manifest says the same to a parser
// that takes keys as they are spelled.
func FuzzParseManifest(f *testing.F) {
	for _, img := range []verifytest.Image{image(), image(l1, l2), image(l1, attestation()).Docker(), image(annotated(sha512(l1), "k"))} {
		_, body := img.Manifest()
		f.Add(body)
	}
	f.Add([]byte(`{"manifests":[{"digest":"` + digest.FromString("").String() + `","platform":{"os":"linux","Os":"windows"}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, contentType := range []string{imageManifest, verifytest.DockerManifest, imageIndex} {
			got, err := verify.ParseManifest(contentType, body)
			if err != nil {
				if reasonOf(err) == "" || !oneLine(err.Error()) {
					t.Fatalf("error without a reason or not on one line: %q", err)
				}
				continue
			}
			exact := members(t, body)
			want := verify.Manifest{Kind: verify.KindOf(contentType), MediaType: contentType}
			if want.Kind == verify.ImageKind {
				want.Config = descriptor(t, exact["config"])
			}
			want.Layers = descriptors(t, exact["layers"])
			want.Manifests = descriptors(t, exact["manifests"])
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("as spelled (-), as parsed (+):\n%s", diff)
			}
		}
	})
}

// FuzzParseConfig holds the same of a config.
func FuzzParseConfig(f *testing.F) {
	for _, lie := range verifytest.Lies() {
		f.Add(lie.Image.Config())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := verify.ParseConfig(body)
		if err != nil {
			if reasonOf(err) == "" || !oneLine(err.Error()) {
				t.Fatalf("error without a reason or not on one line: %q", err)
			}
			return
		}
		exact := members(t, body)
		want := verify.Config{Platform: platform(t, body)}
		if text := exact["rootfs"]; text != nil && string(text) != "null" {
			rootFS := members(t, text)
			want.HasRootFS = true
			read(t, rootFS["type"], &want.RootFSType)
			read(t, rootFS["diff_ids"], &want.DiffIDs)
		}
		if len(got.Variants) > 0 {
			return // Go reads them, and the exact spelling does not say what
		}
		if len(want.DiffIDs) > 0 && !got.SaysDiffIDs {
			t.Fatal("diff_ids were read and the config does not say any")
		}
		want.SaysDiffIDs, want.HasImageKeys = got.SaysDiffIDs, got.HasImageKeys
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("as spelled (-), as parsed (+):\n%s", diff)
		}
	})
}

// members returns the members of a JSON object by their keys, as spelled.
func members(t *testing.T, text []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	read(t, text, &m)
	return m
}

// read decodes text, if any, into v, which must not hold a struct.
func read(t *testing.T, text []byte, v any) {
	if text == nil {
		return
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func descriptors(t *testing.T, text []byte) []ocispec.Descriptor {
	var list []json.RawMessage
	read(t, text, &list)
	if list == nil {
		return nil
	}
	out := []ocispec.Descriptor{}
	for _, item := range list {
		out = append(out, descriptor(t, item))
	}
	return out
}

func descriptor(t *testing.T, text []byte) ocispec.Descriptor {
	m := members(t, text)
	var d ocispec.Descriptor
	read(t, m["mediaType"], &d.MediaType)
	read(t, m["digest"], &d.Digest)
	read(t, m["size"], &d.Size)
	read(t, m["urls"], &d.URLs)
	read(t, m["annotations"], &d.Annotations)
	read(t, m["data"], &d.Data)
	read(t, m["artifactType"], &d.ArtifactType)
	if text := m["platform"]; text != nil && string(text) != "null" {
		p := platform(t, text)
		d.Platform = &p
	}
	return d
}

func platform(t *testing.T, text []byte) ocispec.Platform {
	m := members(t, text)
	var p ocispec.Platform
	read(t, m["architecture"], &p.Architecture)
	read(t, m["os"], &p.OS)
	read(t, m["os.version"], &p.OSVersion)
	read(t, m["os.features"], &p.OSFeatures)
	read(t, m["variant"], &p.Variant)
	return p
}
