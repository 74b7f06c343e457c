package verify_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// Every case of the kit gets the verdict, the findings and the answer that it
// says.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range verifytest.Cases() {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			mediaType, body := c.Image.Manifest()
			report, err := verify.Check(t.Context(), verifytest.Repo(c.Image.Blobs()), mediaType, body)
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict != c.Verdict {
				t.Errorf("%s: got verdict %s, want %s", c.Is, report.Verdict, c.Verdict)
			}
			var got []string
			for _, f := range report.Findings {
				got = append(got, finding(f))
				if !oneLine(f.Message) {
					t.Errorf("%s: not one short line of ASCII: %q", c.Is, f.Message)
				}
			}
			if diff := cmp.Diff(c.Findings, got); diff != "" {
				t.Errorf("%s: findings (-want +got):\n%s", c.Is, diff)
			}
			if got := answerOf(report); got != string(c.Answer) {
				t.Errorf("%s: got answer %s, want %s", c.Is, got, c.Answer)
			}
		})
	}
}

// found lists findings as a Case does, and finding writes one of them.
func found(findings ...string) []string { return findings }

func finding(f verify.Finding) string { return verifytest.Found(f) }

func oneLine(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 300
}

// answerOf says what the default policy does with an image.
func answerOf(r verify.Report) string {
	switch p := (verify.Policy{}); {
	case len(p.Rejections(r.Findings)) > 0:
		return string(verifytest.Reject)
	case len(p.Warnings(r.Findings)) > 0:
		return string(verifytest.Warn)
	}
	return string(verifytest.Accept)
}

const stargzTOC = "containerd.io/snapshot/stargz/toc.digest"

// The layers of the tests, by their content.
var (
	l1 = verifytest.GzipLayer(p1)
	l2 = verifytest.GzipLayer(p2)
)

func layer(mediaType string, blob, content []byte) verifytest.Layer {
	return verifytest.Layer{MediaType: mediaType, Blob: blob, Content: content}
}

func image(layers ...verifytest.Layer) verifytest.Image { return verifytest.NewImage(layers...) }

// gzipped returns an image of one layer with the type for gzip and those bytes.
func gzipped(blob, content []byte) verifytest.Image {
	return image(layer(ocispec.MediaTypeImageLayerGzip, blob, content))
}

// attestation returns a layer that nobody unpacks.
func attestation() verifytest.Layer {
	blob := []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`)
	return layer(verifytest.InToto, blob, blob)
}

func claims(img verifytest.Image, diffIDs ...string) verifytest.Image {
	img.DiffIDs = diffIDs
	return img
}

func configType(img verifytest.Image, mediaType string) verifytest.Image {
	img.ConfigType = mediaType
	return img
}

// edited returns the image with a part of its config replaced.
func edited(img verifytest.Image, old, with string) verifytest.Image {
	img.RawConfig = bytes.Replace(img.Config(), []byte(old), []byte(with), 1)
	return img
}

func sha512(l verifytest.Layer) verifytest.Layer {
	l.Algorithm = digest.SHA512
	return l
}

func annotated(l verifytest.Layer, keys ...string) verifytest.Layer {
	l.Annotations = map[string]string{}
	for _, key := range keys {
		l.Annotations[key] = digest.FromString("toc").String()
	}
	return l
}
