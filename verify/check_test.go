package verify_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A judged row is an image and what Check says about it.
type judged struct {
	name     string
	image    verifytest.Image
	answer   string // under the default policy: accept, warn or reject
	verdict  verify.Verdict
	findings []string // "position: reason (cause)"
}

func found(findings ...string) []string { return findings }

// The layers of the table, by what is odd about them.
var (
	l1 = verifytest.GzipLayer(p1)
	l2 = verifytest.GzipLayer(p2)
)

func layer(mediaType string, blob, content []byte) verifytest.Layer {
	return verifytest.Layer{MediaType: mediaType, Blob: blob, Content: content}
}

func image(layers ...verifytest.Layer) verifytest.Image { return verifytest.NewImage(layers...) }

// gzipped and zstded return images of one layer with that type and those bytes.
func gzipped(blob, content []byte) verifytest.Image {
	return image(layer(ocispec.MediaTypeImageLayerGzip, blob, content))
}

func zstded(blob, content []byte) verifytest.Image {
	return image(layer(ocispec.MediaTypeImageLayerZstd, blob, content))
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

// edited returns the image with a part of its config replaced.
func edited(img verifytest.Image, old, with string) verifytest.Image {
	img.RawConfig = bytes.Replace(img.Config(), []byte(old), []byte(with), 1)
	return img
}

func configType(img verifytest.Image, mediaType string) verifytest.Image {
	img.ConfigType = mediaType
	return img
}

// The cases of the matrix: images that were pushed to real runtimes.
var matrix = []judged{
	{"01 gzip", image(l1), "accept", verify.Match, nil},
	{"02 Docker gzip", image(l1).Docker(), "accept", verify.Match, nil},
	{"03 tar", image(verifytest.TarLayer(p1)), "accept", verify.Match, nil},
	{"04 Docker tar", image(verifytest.TarLayer(p1)).Docker(), "accept", verify.Match, nil},
	{"05 zstd", image(verifytest.ZstdLayer(p1)), "accept", verify.Match, nil},
	{"06 zstd of two frames with a skippable one between", zstded(cat(zs(p1a), skippable, zs(p1b)), p1), "accept", verify.Match, nil},
	{"07 zstd with a skippable frame first", zstded(cat(skippable, zs(p1)), p1), "warn", verify.Match, found("0: not_portable")},
	{"08 gzip of two members", gzipped(verifytest.GzipMembers(p1a, p1b), p1), "accept", verify.Match, nil},
	{"09 gzip with an empty last member", gzipped(verifytest.GzipMembers(p1, nil), p1), "accept", verify.Match, nil},
	{"10 gzip, then 512 zero bytes", gzipped(cat(gz(p1), make([]byte, 512)), p1), "warn", verify.Match, found("0: not_portable")},
	{"11 gzip, then junk", gzipped(cat(gz(p1), garbage), p1), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"12 gzip without its trailer", gzipped(short(gz(p1), 8), p1), "reject", verify.Mismatch, found("0: layer_corrupt")},
	{"13 gzip with a wrong CRC-32", gzipped(member{Content: p1, WrongCRC: true}.Bytes(), p1), "reject", verify.Mismatch, found("0: layer_corrupt")},
	{"14 wrong diff_id", verifytest.WrongDigit(image(l1)), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"15 diff_id is the compressed digest", verifytest.CompressedDigest(image(l1)), "reject", verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
	{"16 swapped order", verifytest.Swapped(image(l1, l2)), "reject", verify.Mismatch, found("0: diff_id_mismatch (reversed)", "1: diff_id_mismatch (reversed)")},
	{"17 fewer diff_ids", verifytest.Fewer(image(l1, l2)), "reject", verify.Mismatch, found("image: diff_id_count")},
	{"18 more diff_ids", verifytest.More(image(l1, l2)), "reject", verify.Mismatch, found("image: diff_id_count")},
	{"19 one blob as two layers", image(l1, l1), "accept", verify.Match, nil},
	{"20 one diff_id, two blobs", image(l1, verifytest.ZstdLayer(p1)), "accept", verify.Match, nil},
	{"21 one blob as two layers, the second diff_id wrong", verifytest.WrongDigit(image(l1, l1)), "reject", verify.Mismatch, found("1: diff_id_mismatch")},
	{"22 empty tar", image(verifytest.GzipLayer(verifytest.Tar())), "accept", verify.Match, nil},
	{"23 blob of no bytes", gzipped(nil, nil).Docker(), "warn", verify.Match, found("0: not_portable")},
	{"24 gzip of nothing", gzipped(gz(nil), nil), "accept", verify.Match, nil},
	{"25 no layers and no diff_ids", image(), "accept", verify.Match, nil},
	{"26 no layers and no rootfs", verifytest.NoRootFS(image()), "warn", verify.Match, found("image: not_portable")},
	{"27 layers but no rootfs", verifytest.NoRootFS(image(l1)), "reject", verify.Mismatch, found("image: diff_id_count")},
	{"28 gzip typed tar", image(layer(ocispec.MediaTypeImageLayer, gz(p1), p1)), "warn", verify.Match, found("0: not_portable")},
	{"29 gzip typed tar, diff_id of the gzip", image(layer(ocispec.MediaTypeImageLayer, gz(p1), gz(p1))), "reject", verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
	{"30 gzip typed Docker tar", image(layer(verifytest.DockerTar, gz(p1), p1)).Docker(), "accept", verify.Match, nil},
	{"31 tar typed gzip", gzipped(p1, p1), "warn", verify.Match, found("0: not_portable")},
	{"32 zstd typed gzip", gzipped(zs(p1), p1), "warn", verify.Match, found("0: not_portable")},
	{"33 gzip typed zstd", zstded(gz(p1), p1), "warn", verify.Match, found("0: not_portable")},
	{"34 bzip2", image(layer(verifytest.DockerTar, []byte("BZh9\x17rE8P\x90"), nil)).Docker(), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"35 xz", image(layer(verifytest.DockerTarGzip, []byte("\xfd7zXZ\x00\x00\x04"), nil)).Docker(), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"36 gzip of gzip", gzipped(gz(gz(p1)), p1), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"37 sha512 diff_id", claims(image(l1), digest.SHA512.FromBytes(p1).String()), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"38 diff_id in capitals", verifytest.Uppercase(image(l1)), "reject", verify.Mismatch, found("0: diff_id_malformed")},
	{"39 tar with more zeros after its end", image(verifytest.GzipLayer(cat(p1, make([]byte, 4096)))), "accept", verify.Match, nil},
	{"40 tar with junk after its end", image(verifytest.GzipLayer(cat(p1, garbage))), "accept", verify.Match, nil},
	{"41 tar with junk after its end, diff_id without it", gzipped(gz(cat(p1, garbage)), p1), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"42 tar without an end", image(verifytest.GzipLayer(a)), "accept", verify.Match, nil},
	{"43 attestation", image(attestation()), "accept", verify.NotAnImage, nil},
	{"44 tar and attestation, two diff_ids", image(l1, attestation()), "warn", verify.Match, found("image: not_portable")},
	{"45 tar and attestation, diff_id of the tar", claims(image(l1, attestation()), l1.DiffID()), "warn", verify.Match, found("image: not_portable")},
	{"46 attestation and tar, diff_id of the tar", claims(image(attestation(), l1), l1.DiffID()), "warn", verify.Match, found("image: not_portable")},
	{"47 rootfs.type layers+base", edited(image(l1), `"layers"`, `"layers+base"`), "warn", verify.Match, found("image: not_portable")},
	{"48 no rootfs.type", edited(image(l1), `"type":"layers",`, ``), "warn", verify.Match, found("image: not_portable")},
	{"49 two keys rootfs, the last one true", verifytest.DuplicateKey(image(l1)), "reject", verify.Mismatch, found("image: config_ambiguous")},
	{"50 rootfs and RootFS, the last one true", verifytest.CaseVariant(image(l1)), "reject", verify.Mismatch, found("image: config_ambiguous")},
	{"51 config typed octet-stream", configType(image(l1), "application/octet-stream"), "accept", verify.Match, nil},
	{"52 config typed octet-stream, wrong diff_id", configType(verifytest.WrongDigit(image(l1)), "application/octet-stream"), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"53 foreign layer that the registry holds", image(layer(verifytest.DockerForeign, gz(p1), p1)).Docker(), "accept", verify.Match, nil},
	{"54 Docker layer in an OCI manifest", image(layer(verifytest.DockerTarGzip, gz(p1), p1)), "accept", verify.Match, nil},
	{"55 Helm chart", configType(image(layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip", gz(p1), nil)), "application/vnd.cncf.helm.config.v1+json"), "accept", verify.NotAnImage, nil},
	{"56 BuildKit cache", configType(verifytest.WrongDigit(image(l1)), "application/vnd.buildkit.cacheconfig.v0"), "accept", verify.NotAnImage, nil},
	{"57 cosign signature", image(layer("application/vnd.dev.cosign.simplesigning.v1+json", []byte("{}"), nil)), "accept", verify.NotAnImage, nil},
	{"58 encrypted layer", image(layer(ocispec.MediaTypeImageLayerGzip+"+encrypted", noise(100), p1)), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"59 diff_id is an empty string", verifytest.Malformed(image(l1)), "reject", verify.Mismatch, found("0: diff_id_malformed")},
	{"60 zlib", gzipped(zlibbed(p1), p1), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"61 zstd, then junk", zstded(cat(zs(p1), garbage), p1), "reject", verify.Mismatch, found("0: layer_corrupt")},
	{"62 Docker zstd", image(verifytest.ZstdLayer(p1)).Docker(), "accept", verify.Match, nil},
	{"63 a zero byte between two members", gzipped(cat(gz(p1a), make([]byte, 1), gz(p1b)), p1), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"64 one path twice in a tar", image(verifytest.GzipLayer(verifytest.Tar("a", "1", "a", "2"))), "accept", verify.Match, nil},
}

func TestCheckMatrix(t *testing.T) {
	t.Parallel()
	for _, row := range matrix {
		t.Run(row.name, func(t *testing.T) { checkRow(t, row, row.image.Blobs()) })
	}
}

func checkRow(t *testing.T, row judged, blobs verifytest.Repo) {
	t.Parallel()
	mediaType, body := row.image.Manifest()
	report, err := verify.Check(t.Context(), blobs, mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != row.verdict {
		t.Errorf("got verdict %s, want %s", report.Verdict, row.verdict)
	}
	var got []string
	for _, f := range report.Findings {
		got = append(got, finding(f))
		if !oneLine(f.Message) {
			t.Errorf("not one short line of ASCII: %q", f.Message)
		}
	}
	if diff := cmp.Diff(row.findings, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got := answerOf(report); got != row.answer {
		t.Errorf("got answer %s, want %s", got, row.answer)
	}
}

func finding(f verify.Finding) string {
	s := "image"
	if f.Layer >= 0 {
		s = fmt.Sprint(f.Layer)
	}
	s += ": " + string(f.Reason)
	if f.Cause != "" {
		s += fmt.Sprintf(" (%s)", f.Cause)
	}
	return s
}

func oneLine(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) < 300
}

// answerOf says what the default policy does with an image.
func answerOf(r verify.Report) string {
	switch p := (verify.Policy{}); {
	case len(p.Rejections(r.Findings)) > 0:
		return "reject"
	case len(p.Warnings(r.Findings)) > 0:
		return "warn"
	}
	return "accept"
}
