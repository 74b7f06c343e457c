package verifytest

import (
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// MissingDiffIDs returns the image with a rootfs that has no diff_ids, as
// buildpacks lifecycle 0.21.11 wrote it for configs of unusual types
// (buildpacks/lifecycle#1662).
func MissingDiffIDs(img Image) Image {
	return change(img, func([]string) []string { return nil })
}

// UncompressedTwin returns the image with its last layer, uncompressed, also in
// the place of the first two, and the true config: buildpacks lifecycle 0.21.15
// was off by one (buildpacks/lifecycle#1699).
func UncompressedTwin(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	last := len(img.Layers) - 1
	for i := range min(2, last) {
		img.Layers[i] = TarLayer(img.Layers[last].Content)
	}
	return img
}

// EmptyBlobs returns the image with blobs of no bytes for all layers but the
// last, and the true config: a builder left placeholders for layers that it did
// not have (buildpacks/imgutil#300).
func EmptyBlobs(img Image) Image { return placeholders(img, nil) }

// placeholders returns the image with one blob for all layers but the last.
func placeholders(img Image, blob []byte) Image {
	img.Layers = slices.Clone(img.Layers)
	for i := range len(img.Layers) - 1 {
		img.Layers[i].Blob, img.Layers[i].Content = blob, nil
	}
	return img
}

// NoLayers returns the image without its layers and with all diff_ids, as docker
// save of Docker 25.0.0 wrote it (moby/moby#47065).
func NoLayers(img Image) Image {
	img.Layers = nil
	return img
}

// XZDigest returns the image with its last layer compressed with xz and the
// digest of that for a diff_id, as podman import wrote it
// (podman-container-tools/podman#25593).
func XZDigest(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	last := &img.Layers[len(img.Layers)-1]
	last.Blob = XZ(last.Content)
	return change(img, func(ids []string) []string {
		ids[len(ids)-1] = last.Digest().String()
		return ids
	})
}

// ContentChanged returns the image with a last layer that was made once more
// from a checkout, and the config of the first time (bootc-dev/bootc#1134).
func ContentChanged(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	img.Layers[len(img.Layers)-1] = GzipLayer(Tar("usr/lib/ostree", "The same files, written otherwise.\n"))
	return img
}

// Masked returns other layers under the whole config of the image. A machine
// that has pulled the image takes this one for pulled, too, and nobody sees the
// lie there: docker says "Image is up to date" (bazelbuild/rules_docker#1075).
func Masked(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	for i := range img.Layers {
		img.Layers[i] = GzipLayer(Tar("masked", string(rune('a'+i))))
	}
	return img
}

// GzipTwice returns the image with its last layer compressed twice.
func GzipTwice(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	last := &img.Layers[len(img.Layers)-1]
	last.Blob = Gzip(Gzip(last.Content))
	return img
}

// WrongSHA512 returns the image with the SHA-512 digest of something else for
// its last diff_id.
func WrongSHA512(img Image) Image {
	return change(img, func(ids []string) []string {
		ids[len(ids)-1] = digest.SHA512.FromString("something else").String()
		return ids
	})
}

// WrongData returns the image with another config inline in the descriptor of
// its config.
func WrongData(img Image) Image {
	img.ConfigData = WrongDigit(img).Config()
	return img
}

// incidentCases returns what happened to real users, and its relatives (E36,
// E48).
func incidentCases() []Case {
	three := NewImage(layer1, layer2, layer3)
	nothing, emptyTar := Gzip(nil), Gzip(Tar())
	chunked := Unpadded(NewImage(layer2, annotated(typed(ocispec.MediaTypeImageLayerZstd, ZstdFrames(head, tail), motd), chunkedTOC)))
	otherwise := claiming(NewImage(layer1), ZstdLayer(motd).Digest().String())
	other := otherwise
	other.Beside, other.DiffIDs = [][]byte{layer2.Blob}, []string{layer2.Digest().String()}
	mismatch := func(cause verify.Cause, layers ...string) []string {
		var out []string
		for _, l := range layers {
			out = append(out, l+": diff_id_mismatch ("+string(cause)+")")
		}
		return out
	}
	empty := func(layers ...string) []string { return mismatch(verify.CauseEmptyBlob, layers...) }
	return []Case{
		{"lifecycle-1662-digests", "buildpacks lifecycle 0.21.11 wrote layer digests for diff_ids, and ECS said wrong diff id", CompressedDigest(three), Reject, verify.Mismatch, mismatch(verify.CauseCompressedDigest, "0", "1", "2")},
		{"lifecycle-1662-missing", "buildpacks lifecycle 0.21.11 dropped the diff_ids of configs whose type it did not know", MissingDiffIDs(three), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"lifecycle-1699", "buildpacks lifecycle 0.21.15 put the third layer, uncompressed, in the place of the first two", UncompressedTwin(three), Reject, verify.Mismatch, mismatch(verify.CauseUncompressedTwin, "0", "1")},
		{"twin-second", "the second layer, uncompressed, stands in the place of the first, too", claiming(NewImage(TarLayer(issue), layer2), layer1.DiffID(), layer2.DiffID()), Reject, verify.Mismatch, mismatch(verify.CauseUncompressedTwin, "0")},
		{"imgutil-300", "a builder pushed blobs of no bytes in place of the layers of its base", EmptyBlobs(three), Reject, verify.Mismatch, empty("0", "1")},
		{"imgutil-300-docker", "the same with Docker's types, where one blob of no bytes is refused by nobody but containerd", EmptyBlobs(three).Docker(), Reject, verify.Mismatch, empty("0", "1")},
		{"placeholder-gzip", "a gzip of nothing in the place of layers is a placeholder as well", placeholders(three, nothing), Reject, verify.Mismatch, empty("0", "1")},
		{"placeholder-tar", "an empty tar in the place of layers is a placeholder as well", placeholders(three, emptyTar), Reject, verify.Mismatch, empty("0", "1")},
		{"moby-47150", "docker save of Docker 25.0.0 wrote the layers in reverse order, and kind could not load them", Reversed(three), Reject, verify.Mismatch, mismatch(verify.CauseReversed, "0", "2")},
		{"moby-47065", "docker save of Docker 25.0.0 wrote manifests without layers under whole configs", NoLayers(three), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"podman-25593", "podman import of a .tar.xz wrote the digest of the file for a diff_id", XZDigest(NewImage(layer1)), Reject, verify.Mismatch, mismatch(verify.CauseCompressedDigest, "0")},
		{"container-libs-391", "zstd:chunked layers had the diff_id of the tar before its last zeros were written", chunked, Reject, verify.Mismatch, mismatch(verify.CauseUnpaddedTar, "1")},
		{"acbuild-307", "acbuild filled diff_ids with the digests of compressed layers, as umoci did at first", CompressedDigest(NewImage(layer1)).Docker(), Reject, verify.Mismatch, mismatch(verify.CauseCompressedDigest, "0")},
		{"bootc-1134", "bootc copied an image whose layers it had made once more from ostree, and kept the config", ContentChanged(three), Reject, verify.Mismatch, found("2: diff_id_mismatch")},
		{"distribution-1439", "docker 1.10 migrated layers with wrong ids, and pushed the config of one image with layers of another", claiming(NewImage(layer2), layer1.DiffID()), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"balena-engine-244", "a poisoned cache gave the first layer, and only that, the id of another", claiming(three, layer3.DiffID(), layer2.DiffID(), layer3.DiffID()), Reject, verify.Mismatch, mismatch(verify.CauseOtherLayer, "0")},
		{"masked", "other layers under the config of a good image pass unseen on machines that have pulled that", Masked(three), Reject, verify.Mismatch, found("0: diff_id_mismatch", "1: diff_id_mismatch", "2: diff_id_mismatch")},
		{"E36a", "one config may serve two manifests, gzip and zstd: this is the first", NewImage(layer1, layer2), Accept, verify.Match, nil},
		{"E36b", "one config may serve two manifests, gzip and zstd: this is the second", NewImage(ZstdLayer(motd), ZstdLayer(issue)), Accept, verify.Match, nil},
		{"E48a", "the OCI conformance suite pushes layers under the diff_id of nothing", EmptyString(NewImage(layer1, layer2)), Reject, verify.Mismatch, mismatch(verify.CauseEmptyString, "0", "1")},
		{"swapped", "two of three diff_ids have changed places", Swapped(three), Reject, verify.Mismatch, mismatch(verify.CauseOtherLayer, "0", "1")},
		{"gzip-twice", "the last of three layers was compressed twice", GzipTwice(three), Reject, verify.Mismatch, mismatch(verify.CauseRecompressed, "2")},
		{"recompressed-gone", "nobody looks for a blob by the digest that a diff_id gives: it may be another repository's", otherwise, Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"recompressed-other", "the diff_id is the digest of another layer, compressed, which the repository holds", other, Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"unpadded", "the last of three diff_ids leaves out all zeros at the end of the tar", Unpadded(three), Reject, verify.Mismatch, mismatch(verify.CauseUnpaddedTar, "2")},
		{"dodge-plus", "behind a plus sign that they do not know runtimes do not look", WrongDigit(NewImage(typed(DockerTarGzip+"+x", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"dodge-type", "a type that is nearly that of a layer hides no blob that unpacks in two ways", NewImage(typed(ocispec.MediaTypeImageLayer+".gzip", TwoContents(opened, evil), opened)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"dodge-octets", "docker unpacks octet streams too, so what their diff_ids say must be true", WrongDigit(NewImage(typed("application/octet-stream", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"dodge-capitals", "docker does not mind capitals in a type", WrongDigit(NewImage(typed("application/vnd.docker.image.rootfs.diff.TAR.gzip", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"dodge-beside", "nor does a right tar beside it make a false octet stream true", claiming(NewImage(layer1, typed("application/octet-stream", Gzip(issue), issue)), layer1.DiffID(), layer3.DiffID()), Reject, verify.Mismatch, found("image: not_portable", "1: diff_id_mismatch")},
		{"dodge-encrypted", "bytes that decode to a tar were not encrypted", WrongDigit(NewImage(typed(ocispec.MediaTypeImageLayerGzip+"+encrypted", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"octets", "an octet stream that is a tar has its true diff_id, and containerd does not unpack it", NewImage(typed("application/octet-stream", Gzip(motd), motd)), Warn, verify.Match, found("0: not_portable")},
		{"octets-digest", "an octet stream that is a tar cannot have its digest for a diff_id: docker unpacks it", CompressedDigest(NewImage(typed("application/octet-stream", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"octets-unlisted", "an octet stream that is a tar and that no diff_id is about is refused", claiming(NewImage(typed("application/octet-stream", Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_count")},
		{"empty-swapped", "an empty layer and another have changed places: nobody pushed a placeholder", claiming(NewImage(GzipLayer(Tar()), layer1, layer2), layer1.DiffID(), GzipLayer(Tar()).DiffID(), layer2.DiffID()), Reject, verify.Mismatch, mismatch(verify.CauseOtherLayer, "0", "1")},
		{"data-wrong", "the config of a good image has another one inline beside it", WrongData(three), Reject, verify.Mismatch, found("image: manifest_ambiguous")},
	}
}
