package verify_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// What may come out otherwise another time, or elsewhere, is not remembered.
func TestJudgement(t *testing.T) {
	t.Parallel()
	foreign := layer(verifytest.DockerForeign, gz(p1), p1)
	for _, tt := range []struct {
		is    string
		image verifytest.Image
		gone  digest.Digest // from the repository
		kept  bool
	}{
		{"a right image", image(l1), "", true},
		{"an image without a rootfs", edited(image(l1), "rootfs", "roots"), "", true},
		{"an attestation", image(attestation()), "", true},
		{"a false image", verifytest.WrongDigit(image(l1)), "", true},
		{"an image that is not portable", gzipped(p1, p1), "", true},
		{"a layer that is gone", image(l1), l1.Digest(), false},
		{"a config that is gone", image(l1), image(l1).ConfigDigest(), false},
		{"a config that is not valid, as one over a limit is not", edited(image(l1), "{", "["), "", false},
		{"a layer that nobody can read", image(annotated(layer(ocispec.MediaTypeImageLayer+"+encrypted", big, p1), "org.opencontainers.image.enc.keys.jwe")), "", false},
		{"a layer that need not be in the repository", image(foreign), "", false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			repo := verifytest.Repo(tt.image.Blobs())
			delete(repo, tt.gone)
			mediaType, body := tt.image.Manifest()
			report, err := verify.Check(t.Context(), repo, mediaType, body)
			if err != nil {
				t.Fatal(err)
			}
			j, kept := report.Judgement(tt.image.Digest(), mediaType+"; charset=utf-8")
			if kept != tt.kept {
				t.Fatalf("kept is %t, want %t", kept, tt.kept)
			}
			if !kept {
				return
			}
			want := verify.Judgement{Manifest: tt.image.Digest(), MediaType: mediaType, Rules: verify.Rules,
				Config: report.Config, Platform: "linux/amd64", Verdict: report.Verdict, Findings: report.Findings}
			if diff := cmp.Diff(want, j); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
			if !j.Valid(mediaType) || j.Valid(imageIndex) {
				t.Error("not valid for its type, or for another")
			}
			if clean := len(report.Findings) == 0; j.Clean() != clean {
				t.Errorf("clean is %t, want %t", j.Clean(), clean)
			}
		})
	}
	if _, kept := (verify.Report{Layers: []verify.LayerReport{}}).Judgement(digest.SHA512.FromString(""), imageManifest); kept {
		t.Error("kept under a SHA-512 digest, which is no key")
	}
}

// Of many findings the gravest are kept.
func TestJudgementOfManyFindings(t *testing.T) {
	t.Parallel()
	layers := []verifytest.Layer{}
	for i := range 20 {
		layers = append(layers, layer(ocispec.MediaTypeImageLayerGzip, verifytest.Tar("a", fmt.Sprint(i)), verifytest.Tar("a", fmt.Sprint(i))))
	}
	img := verifytest.WrongDigit(image(layers...))
	mediaType, body := img.Manifest()
	report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	j, kept := report.Judgement(img.Digest(), mediaType)
	if !kept || len(j.Findings) != verify.MaxFindings || finding(j.Findings[0]) != "19: diff_id_mismatch" || finding(j.Findings[1]) != "0: not_portable" {
		t.Errorf("kept is %t, with %v", kept, j.Findings)
	}
}
