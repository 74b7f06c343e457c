package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// What people read about digests. IDs stand for them: [1] is the diff_id of P1,
// [2] of P2, and (1) is the short digest of the gzip of P1.
func TestMessages(t *testing.T) {
	t.Parallel()
	p3 := verifytest.Tar("p3.txt", "It was a bright cold day in April.\n")
	l3 := verifytest.GzipLayer(p3)
	three := image(l1, l2, l3)
	zstd1 := verifytest.ZstdLayer(p1)
	asZstd := claims(image(l1), zstd1.Digest().String())
	asZstd.Beside = [][]byte{zstd1.Blob}
	gzip := ocispec.MediaTypeImageLayerGzip
	for _, test := range []struct {
		image verifytest.Image
		want  []string
	}{
		{claims(image(l1), l2.DiffID()), []string{"diff_id mismatch in layer 1 of 1: config says [2], blob (1) unpacks to [1]"}},
		{verifytest.CompressedDigest(image(l1)), []string{"diff_id mismatch in layer 1 of 1: config says [gz1], blob (1) unpacks to [1] (that is the digest of the compressed blob)"}},
		{verifytest.Swapped(image(l1, l2)), []string{
			"diff_id mismatch in layer 1 of 2: config says [2], blob (1) unpacks to [1] (the diff_ids are in reverse order)",
			"diff_id mismatch in layer 2 of 2: config says [1], blob (2) unpacks to [2] (the diff_ids are in reverse order)"}},
		{verifytest.OtherLayer(image(l1, l2)), []string{"diff_id mismatch in layer 2 of 2: config says [1], blob (2) unpacks to [2] (that is the diff_id of layer 1 of 2)"}},
		{verifytest.EmptyString(image(l1)), []string{"diff_id mismatch in layer 1 of 1: config says [empty], blob (1) unpacks to [1] (that is the digest of nothing)"}},
		{verifytest.XZDigest(image(l1)), []string{"diff_id mismatch in layer 1 of 1: config says [xz1], blob (xz1) unpacks to [1] (that is the digest of the xz blob)"}},
		{claims(image(layer(verifytest.DockerTar, verifytest.Bzip2(p1), p1)), digest.FromBytes(verifytest.Bzip2(p1)).String()), []string{
			"diff_id mismatch in layer 1 of 1: config says [bz1], blob (bz1) unpacks to [1] (that is the digest of the bzip2 blob)"}},
		{verifytest.UncompressedTwin(three), []string{
			"diff_id mismatch in layer 1 of 3: config says [1], blob (tar3) unpacks to [3] (the blob is layer 3 of 3, uncompressed)",
			"diff_id mismatch in layer 2 of 3: config says [2], blob (tar3) unpacks to [3] (the blob is layer 3 of 3, uncompressed)"}},
		{claims(image(l1, l1), l1.DiffID(), l2.DiffID()), []string{"diff_id mismatch in layer 2 of 2: config says [2], blob (1) unpacks to [1] (the blob is layer 1 of 2)"}},
		{verifytest.EmptyBlobs(image(l1, l2)), []string{
			"diff_id mismatch in layer 1 of 2: config says [1], blob (empty) unpacks to [empty] (the blob is empty: a placeholder was pushed for the layer)"}},
		{verifytest.Unpadded(image(l1)), []string{"diff_id mismatch in layer 1 of 1: config says [unpadded], blob (1) unpacks to [1] (that is the digest of the tar without its padding)"}},
		{claims(image(verifytest.GzipLayer(a)), digest.FromBytes(cat(a, make([]byte, 1024))).String()), []string{
			"diff_id mismatch in layer 1 of 1: config says [ended], blob (open) unpacks to [open] (that is the digest of the tar with padding that the blob lacks)"}},
		{verifytest.GzipTwice(image(l1)), []string{"diff_id mismatch in layer 1 of 1: config says [1], blob (twice) unpacks to [gz1] (that is what the blob unpacks to when decompressed twice)"}},
		{claims(image(l1), digest.SHA512.FromBytes(p2).String()), []string{"diff_id mismatch in layer 1 of 1: config says (wide2), blob (1) unpacks to [1]"}},
		{claims(image(l1), digest.SHA512.FromBytes(p1).String()), []string{"layer 1 of 1 has a sha512 diff_id: it is right, and runtimes, which compute sha256, refuse it"}},
		{verifytest.Fewer(image(l1, l2)), []string{"diff_id count: config lists 1 diff_id for 2 layers (layer 2 of 2 has none)"}},
		{verifytest.More(image(l1)), []string{"diff_id count: config lists 2 diff_ids for 1 layer (diff_id 2 of 2 is of no layer)"}},
		{verifytest.NoLayers(three), []string{"diff_id count: config lists 3 diff_ids for no layers"}},
		{verifytest.MissingDiffIDs(three), []string{"diff_id count: config lists no diff_ids for 3 layers"}},
		{claims(image(l1), "sha256:\u017f"), []string{`diff_id malformed in layer 1 of 1: config says "sha256:\u017f", which is not a digest`}},
		{claims(image(l1), strings.Repeat("x", 1000)), []string{`diff_id malformed in layer 1 of 1: config says "` + strings.Repeat("x", 40) + `...", which is not a digest`}},
		{image(layer(gzip, short(gz(p1), 1), p1)), []string{"corrupt layer 1 of 1 (cut): the gzip stream is cut in member 1, at byte 131"}},
		{image(layer(gzip, cat(gz(p1), garbage), p1)), []string{"ambiguous layer 1 of 1 (junk): bytes after gzip member 1 that some decoders ignore, some decode and some refuse, at byte 132"}},
		{image(verifytest.TarLayer(garbage)), []string{"layer 1 of 1 is not a tar, gzip or zstd stream: no runtime unpacks it"}},
		{claims(image(verifytest.TarLayer(garbage)), l1.DiffID()), []string{"corrupt layer 1 of 1 (garbage): it is not a tar, gzip or zstd stream"}},
		{image(layer(gzip+"+encrypted", garbage, p1)), []string{"corrupt layer 1 of 1 (garbage): it is not a tar, gzip or zstd stream, and has no org.opencontainers.image.enc annotation that an encrypted layer has"}},
		{image(annotated(layer(gzip+"+encrypted", garbage, p1), "org.opencontainers.image.enc.keys.jwe")), []string{"unverifiable layer 1 of 1 (garbage): it is encrypted"}},
	} {
		if diff := cmp.Diff(test.want, messages(t, test.image, abridge(p3))); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	}
}

// What people read about images that only some runtimes pull, and about JSON.
func TestMessagesWithoutDigests(t *testing.T) {
	t.Parallel()
	sized, tocs := l1, annotated(l1, stargzTOC, "io.github.containers.zstd-chunked.manifest-checksum")
	sized.Size = 7
	for _, test := range []struct {
		image verifytest.Image
		want  string
	}{
		{gzipped(zs(p1), p1), "layer 1 of 1 is zstd and its media type says gzip: umoci refuses it"},
		{gzipped(p1, p1), "layer 1 of 1 is uncompressed and its media type says gzip: crane refuses it"},
		{image(layer(ocispec.MediaTypeImageLayer, gz(p1), p1)), "layer 1 of 1 is gzip and its media type says uncompressed: containerd refuses it"},
		{image(layer(verifytest.DockerTar, zs(p1), p1)), "layer 1 of 1 is zstd and its media type says uncompressed: umoci refuses it"},
		{gzipped(verifytest.XZ(p1), p1), "layer 1 of 1 is xz: containerd does not unpack it"},
		{gzipped(nil, nil), "layer 1 of 1 is a blob of no bytes: containerd refuses it"},
		{image(sized), fmt.Sprintf("layer 1 of 1 has %d bytes and its descriptor says 7: containerd and podman refuse it", len(l1.Blob))},
		{image(tocs), "layer 1 of 1 has two kinds of table of contents: podman refuses it"},
		{verifytest.NoRootFS(image()), "the config has no rootfs: docker does not pull it"},
		{verifytest.DuplicateKey(image(l1)), `the config is ambiguous: keys "rootfs" and "rootfs"`},
		{verifytest.CaseVariant(image(l1)), `the config is ambiguous: keys "rootfs" and "RootFS"`},
		{verifytest.TrailingJSON(image(l1)), "the config is ambiguous: bytes after the JSON object"},
		{verifytest.WrongData(image(l1)), "the manifest is ambiguous: config 1 of 1 has data that is not what its digest and size say"},
	} {
		if diff := cmp.Diff([]string{test.want}, messages(t, test.image, strings.NewReplacer())); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	}
}

// messages returns what is said about an image.
func messages(t *testing.T, img verifytest.Image, names *strings.Replacer) []string {
	t.Helper()
	mediaType, body := img.Manifest()
	report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range report.Findings {
		out = append(out, names.Replace(f.Message))
		if !oneLine(f.Message) {
			t.Errorf("not one short line of ASCII: %q", f.Message)
		}
	}
	return out
}

// abridge puts the names of TestMessages in the place of digests: of whole ones
// first.
func abridge(p3 []byte) *strings.Replacer {
	var whole, abridged []string
	for name, blob := range map[string][]byte{
		"1": p1, "2": p2, "3": p3, "gz1": gz(p1), "xz1": verifytest.XZ(p1), "bz1": verifytest.Bzip2(p1), "zstd1": zs(p1),
		"empty": nil, "unpadded": bytes.TrimRight(p1, "\x00"), "open": a, "ended": cat(a, make([]byte, 1024)),
	} {
		whole = append(whole, digest.FromBytes(blob).String(), "["+name+"]")
	}
	for name, blob := range map[string][]byte{
		"1": gz(p1), "2": gz(p2), "xz1": verifytest.XZ(p1), "bz1": verifytest.Bzip2(p1), "twice": gz(gz(p1)), "tar3": p3,
		"empty": nil, "cut": short(gz(p1), 1), "junk": cat(gz(p1), garbage), "garbage": garbage, "open": gz(a),
	} {
		id := digest.FromBytes(blob).String()[:len("sha256:")+12]
		abridged = append(abridged, "("+id+")", "("+name+")", id, "("+name+")")
	}
	wide := digest.SHA512.FromBytes(p2).String()[:len("sha512:")+12]
	return strings.NewReplacer(slices.Concat(whole, abridged, []string{wide, "(wide2)"})...)
}

// The report says for each layer what is claimed and what was computed.
func TestReport(t *testing.T) {
	t.Parallel()
	img := verifytest.WrongDigit(image(annotated(l1, stargzTOC), attestation(), l2))
	mediaType, body := img.Manifest()
	report, err := verify.Check(t.Context(), verifytest.Repo(img.Blobs()), mediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	chain := identity.ChainIDs([]digest.Digest{digest.FromBytes(p1), digest.FromBytes(p2)})
	want := []string{
		fmt.Sprintf("match %s, is %s, chain %s", img.DiffIDs[0], l1.DiffID(), chain[0]),
		fmt.Sprintf("not_a_layer %s, is %s, chain ", img.DiffIDs[1], img.DiffIDs[1]),
		fmt.Sprintf("mismatch %s, is %s, chain %s", img.DiffIDs[2], l2.DiffID(), chain[1]),
	}
	var got []string
	for i, l := range report.Layers {
		got = append(got, fmt.Sprintf("%s %s, is %s, chain %s", l.Status, l.Claimed, l.DiffID, l.ChainID))
		if want := img.Layers[i].Digest(); l.Descriptor.Digest != want || l.Fact.Digest != want {
			t.Errorf("layer %d: got digest %s and a fact about %s, want %s", i, l.Descriptor.Digest, l.Fact.Digest, want)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if got, want := report.Layers[0].TOC, img.Layers[0].Annotations[stargzTOC]; got != want {
		t.Errorf("got table of contents %q, want %q", got, want)
	}
	if report.Config != img.ConfigDigest() {
		t.Errorf("got config %s, want %s", report.Config, img.ConfigDigest())
	}
	if diff := cmp.Diff(ocispec.Platform{OS: "linux", Architecture: "amd64"}, report.Platform); diff != "" {
		t.Errorf("platform (-want +got):\n%s", diff)
	}
}

// A repo that fails as upstreams fail, with err, for one blob.
type failing struct {
	verifytest.Repo
	blob digest.Digest
	err  error
}

func (r failing) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Digest == r.blob {
		return nil, r.err
	}
	return r.Repo.Config(ctx, desc)
}

func (r failing) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if desc.Digest == r.blob {
		return verify.Fact{}, r.err
	}
	return r.Repo.Fact(ctx, desc)
}

// What could not be found out is an error and no verdict.
func TestCheckErrors(t *testing.T) {
	t.Parallel()
	img := image(l1, l2)
	mediaType, body := img.Manifest()
	timeout := errors.New("timeout")
	for blob, want := range map[digest.Digest]string{
		img.ConfigDigest(): fmt.Sprintf("read config %s: timeout", img.ConfigDigest()),
		l2.Digest():        fmt.Sprintf("read layer 2 of 2 (%s): timeout", l2.Digest()),
	} {
		_, err := verify.Check(t.Context(), failing{img.Blobs(), blob, timeout}, mediaType, body)
		if !errors.Is(err, timeout) || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}

	// A config that the repository will not read is the image's fault.
	tooLarge := &verify.ClaimError{Reason: verify.ReasonConfigInvalid, Message: "the config is too large"}
	report, err := verify.Check(t.Context(), failing{img.Blobs(), img.ConfigDigest(), tooLarge}, mediaType, body)
	if err != nil || report.Verdict != verify.Mismatch || report.Findings[0].Message != tooLarge.Message {
		t.Errorf("config that is too large: got %s, error %v", report.Verdict, err)
	}

	// Nobody hashed a layer, and nobody was to: that is no error.
	report, err = verify.Check(t.Context(), failing{img.Blobs(), l2.Digest(), verify.ErrUnknown}, mediaType, body)
	if err != nil || report.Verdict != verify.Unverified || report.Layers[1].Status != verify.StatusUnverified {
		t.Errorf("layer that nobody hashed: got %s and layer status %s, error %v", report.Verdict, report.Layers[1].Status, err)
	}
	// A lie that shows without it is a lie all the same.
	lie := claims(img, l2.DiffID(), l2.DiffID())
	mediaType, body = lie.Manifest()
	report, err = verify.Check(t.Context(), failing{lie.Blobs(), l2.Digest(), verify.ErrUnknown}, mediaType, body)
	if err != nil || report.Verdict != verify.Mismatch {
		t.Errorf("lie beside a layer that nobody hashed: got %s, error %v", report.Verdict, err)
	}
}
