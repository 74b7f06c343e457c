package verify_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

const (
	octetStream = "application/octet-stream"
	stargzTOC   = "containerd.io/snapshot/stargz/toc.digest"
	chunkedTOC  = "io.github.containers.zstd-chunked.manifest-checksum"
)

// liar is an image with a wrong diff_id, which its config is to hide.
var liar = verifytest.WrongDigit(image(l1))

// Images beyond the matrix, each the shape of an error or an attack.
var cases = []judged{
	{"config of another image", claims(image(l2), l1.DiffID()), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"the second layer, uncompressed, also in place of the first", claims(image(verifytest.TarLayer(p2), l2), l1.DiffID(), l2.DiffID()), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"blob of no bytes in place of a layer", claims(gzipped(nil, nil), l1.DiffID()), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"diff_ids and no layers", claims(image(), l1.DiffID()), "reject", verify.Mismatch, found("image: diff_id_count")},
	{"a corrupt layer and a count that is wrong", verifytest.Fewer(verifytest.CutLayer(image(l1, l2))), "reject", verify.Mismatch, found("image: diff_id_count", "1: layer_corrupt")},

	{"header checksum", gzipped(member{Content: p1, HeaderCRC: true}.Bytes(), p1), "warn", verify.Match, found("0: not_portable")},
	{"name of 512 bytes", gzipped(member{Content: p1, Name: strings.Repeat("n", 512)}.Bytes(), p1), "warn", verify.Match, found("0: not_portable")},
	{"reserved flag", gzipped(member{Content: p1, Flags: verifytest.FlagReserved5}.Bytes(), p1), "warn", verify.Match, found("0: not_portable")},
	{"50 000 gzip members", gzipped(cat(bytes.Repeat(member{}.Bytes(), 50_000), gz(p1)), p1), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"window of 256 MiB", zstded(frame(0, window(28), raw(p1)), p1), "warn", verify.Unverifiable, found("0: unverifiable")},

	{"two contents, diff_id of what unpigz reads", gzipped(verifytest.TwoContents(a, b), a), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"two contents, diff_id of what Go reads", gzipped(verifytest.TwoContents(a, b), cat(a, b)), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"tar or gzip, typed tar, diff_id of the blob", image(verifytest.TarLayer(verifytest.TarOrGzip(p2))), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"tar or gzip, typed gzip, diff_id of the content", gzipped(verifytest.TarOrGzip(p2), p2), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"tar or gzip, typed Docker tar", image(layer(verifytest.DockerTar, verifytest.TarOrGzip(p2), p2)).Docker(), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"tar or zstd, typed gzip, diff_id of the content", gzipped(verifytest.TarOrZstd(p2), p2), "reject", verify.Mismatch, found("0: layer_ambiguous")},
	{"tar or zstd, typed zstd, diff_id of the blob", zstded(verifytest.TarOrZstd(p2), verifytest.TarOrZstd(p2)), "reject", verify.Mismatch, found("0: layer_ambiguous")},

	{"sha512 layer digest", image(sha512(l1)), "accept", verify.Match, nil},
	{"sha512 layer digest, wrong diff_id", verifytest.WrongDigit(image(sha512(l1))), "reject", verify.Mismatch, found("0: diff_id_mismatch")},
	{"sha512 layer digest, compressed sha256 as diff_id", verifytest.CompressedDigest(image(sha512(l1))), "reject", verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
	{"sha512 layer digest, and that as diff_id", claims(image(sha512(l1)), sha512(l1).Digest().String()), "warn", verify.Unverifiable, found("0: unverifiable")},
	{"sha512 layer digest of a corrupt layer", image(sha512(layer(ocispec.MediaTypeImageLayerGzip, gz(p1)[:9], p1))), "reject", verify.Mismatch, found("0: layer_corrupt")},
	{"blake3 diff_id", claims(image(l1), "blake3:"+strings.Repeat("0", 64)), "reject", verify.Mismatch, found("0: diff_id_malformed")},

	{"eStargz", image(annotated(l1, stargzTOC)), "accept", verify.Match, nil},
	{"zstd:chunked", image(annotated(verifytest.ZstdLayer(p1), chunkedTOC)), "accept", verify.Match, nil},
	{"both tables of contents", image(annotated(l1, stargzTOC, chunkedTOC)), "warn", verify.Match, found("0: not_portable")},
	{"nydus, whose diff_id is its digest", image(layer("application/vnd.oci.image.layer.nydus.blob.v1", big, big)), "accept", verify.Match, nil},
	{"attestation among tars, its diff_id wrong", claims(image(l1, attestation()), l1.DiffID(), l2.DiffID()), "warn", verify.Match, found("image: not_portable", "1: not_portable")},
	{"three layers that unpack of four, two diff_ids", claims(image(l1, l1, attestation(), l1), l1.DiffID(), l1.DiffID()), "reject", verify.Mismatch, found("image: diff_id_count")},

	{"octet-stream config that is no JSON", rawConfig("\x00\x01"), "accept", verify.NotAnImage, nil},
	{"octet-stream config that is empty", rawConfig(" "), "accept", verify.NotAnImage, nil},
	{"octet-stream config that has no rootfs", rawConfig(`{"name":"app"}`), "accept", verify.NotAnImage, nil},
	{"octet-stream config whose diff_ids are numbers", configType(verifytest.NotStrings(image(l1)), octetStream), "reject", verify.Mismatch, found("image: config_invalid")},
	{"octet-stream config whose rootfs is a string", rawConfig(`{"rootfs":"layers"}`), "reject", verify.Mismatch, found("image: config_invalid")},
	{"octet-stream config that is not UTF-8, which Go mends", configType(edited(liar, `"os"`, "\"x\":\"\xff\",\"os\""), octetStream), "reject", verify.Mismatch, found("image: config_ambiguous")},
	{"octet-stream config that is nested deep", configType(edited(liar, `"os"`, `"x":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`,"os"`), octetStream), "reject", verify.Mismatch, found("image: config_ambiguous")},
	{"OCI config that is no JSON", configType(rawConfig("\x00\x01"), ocispec.MediaTypeImageConfig), "reject", verify.Mismatch, found("image: config_invalid")},
	{"true config, then another", verifytest.TrailingJSON(image(l1)), "reject", verify.Mismatch, found("image: config_ambiguous")},
}

func TestCheckCases(t *testing.T) {
	t.Parallel()
	for _, row := range cases {
		t.Run(row.name, func(t *testing.T) { checkRow(t, row, row.image.Blobs()) })
	}
}

// What the repository does not hold.
func TestCheckMissingBlobs(t *testing.T) {
	t.Parallel()
	foreign := image(l2, layer(verifytest.DockerForeign, gz(p1), p1))
	for _, row := range []struct {
		judged
		gone digest.Digest
	}{
		{judged{"layer", image(l1, l2), "reject", verify.Mismatch, found("1: blob_unknown")}, l2.Digest()},
		{judged{"layer in two places", image(l1, l1), "reject", verify.Mismatch, found("0: blob_unknown", "1: blob_unknown")}, l1.Digest()},
		{judged{"foreign layer", foreign, "warn", verify.Unverifiable, found("1: unverifiable")}, foreign.Layers[1].Digest()},
		{judged{"encrypted layer", image(layer(ocispec.MediaTypeImageLayer+"+encrypted", big, p1)), "warn", verify.Unverifiable, found("0: unverifiable")}, digest.FromBytes(big)},
		{judged{"config", image(l1), "reject", verify.Mismatch, found("image: blob_unknown")}, image(l1).ConfigDigest()},
		{judged{"chart, of which nothing is read", configType(image(l1), "application/vnd.cncf.helm.config.v1+json"), "accept", verify.NotAnImage, nil}, l1.Digest()},
	} {
		t.Run(row.name, func(t *testing.T) {
			blobs := row.image.Blobs()
			delete(blobs, row.gone)
			checkRow(t, row.judged, blobs)
		})
	}
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

// rawConfig returns an image whose config is text, under a type that says
// nothing.
func rawConfig(text string) verifytest.Image {
	img := configType(image(l1), octetStream)
	img.RawConfig = []byte(text)
	return img
}
