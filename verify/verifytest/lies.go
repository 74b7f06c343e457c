package verifytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"diffgate/verify"

	"github.com/opencontainers/go-digest"
)

// A Lie is an image that must be refused.
type Lie struct {
	Name   string // one word
	Is     string // one sentence
	Image  Image
	Reason verify.Reason
	Cause  verify.Cause
}

// Lies returns an honest image of three layers, told wrong in every way that
// this package knows.
func Lies() []Lie {
	img := Honest(3)
	return []Lie{
		{"WrongDigit", "one digit of one diff_id is wrong", WrongDigit(img), verify.ReasonDiffIDMismatch, ""},
		{"Swapped", "two diff_ids have changed places", Swapped(img), verify.ReasonDiffIDMismatch, verify.CauseOtherLayer},
		{"Reversed", "the diff_ids are in reverse order", Reversed(img), verify.ReasonDiffIDMismatch, verify.CauseReversed},
		{"CompressedDigest", "the diff_ids are digests of the compressed blobs", CompressedDigest(img), verify.ReasonDiffIDMismatch, verify.CauseCompressedDigest},
		{"EmptyString", "the diff_ids are the digest of nothing", EmptyString(img), verify.ReasonDiffIDMismatch, verify.CauseEmptyString},
		{"Unpadded", "a diff_id was computed before the tar was padded", Unpadded(img), verify.ReasonDiffIDMismatch, verify.CauseUnpaddedTar},
		{"OtherLayer", "one diff_id is that of another layer", OtherLayer(img), verify.ReasonDiffIDMismatch, verify.CauseOtherLayer},
		{"Fewer", "a diff_id is missing", Fewer(img), verify.ReasonDiffIDCount, ""},
		{"More", "a diff_id is too many", More(img), verify.ReasonDiffIDCount, ""},
		{"MissingDiffIDs", "the rootfs has no diff_ids", MissingDiffIDs(img), verify.ReasonDiffIDCount, ""},
		{"NoRootFS", "the config has no rootfs", NoRootFS(img), verify.ReasonDiffIDCount, ""},
		{"NoLayers", "the manifest has no layers", NoLayers(img), verify.ReasonDiffIDCount, ""},
		{"UncompressedTwin", "the last layer, uncompressed, stands in the place of the first two", UncompressedTwin(img), verify.ReasonDiffIDMismatch, verify.CauseUncompressedTwin},
		{"EmptyBlobs", "all layers but the last are blobs of no bytes", EmptyBlobs(img), verify.ReasonDiffIDMismatch, verify.CauseEmptyBlob},
		{"XZDigest", "a layer is compressed with xz and its diff_id is the digest of that", XZDigest(img), verify.ReasonDiffIDMismatch, verify.CauseCompressedDigest},
		{"GzipTwice", "a layer is compressed twice", GzipTwice(img), verify.ReasonDiffIDMismatch, verify.CauseRecompressed},
		{"ContentChanged", "a layer was made once more and its diff_id was kept", ContentChanged(img), verify.ReasonDiffIDMismatch, ""},
		{"Masked", "the layers are others and the config is that of a good image", Masked(img), verify.ReasonDiffIDMismatch, ""},
		{"WrongSHA512", "a diff_id is the SHA-512 digest of something else", WrongSHA512(img), verify.ReasonDiffIDMismatch, ""},
		{"Malformed", "a diff_id is an empty string", Malformed(img), verify.ReasonDiffIDMalformed, ""},
		{"Uppercase", "a diff_id is written in capitals", Uppercase(img), verify.ReasonDiffIDMalformed, ""},
		{"NotStrings", "the diff_ids are numbers", NotStrings(img), verify.ReasonConfigInvalid, ""},
		{"DuplicateKey", "the config has two rootfs, of which the last is true", DuplicateKey(img), verify.ReasonConfigAmbiguous, ""},
		{"CaseVariant", "the config has a rootfs and a true RootFS", CaseVariant(img), verify.ReasonConfigAmbiguous, ""},
		{"TrailingJSON", "the config is true and a second one follows it", TrailingJSON(img), verify.ReasonConfigAmbiguous, ""},
		{"CutLayer", "a layer is cut and the diff_id is that of the rest", CutLayer(img), verify.ReasonLayerCorrupt, ""},
		{"AmbiguousLayer", "a layer unpacks differently with and without unpigz", AmbiguousLayer(img), verify.ReasonLayerAmbiguous, ""},
	}
}

// WrongDigit returns the image with one wrong digit in its last diff_id.
func WrongDigit(img Image) Image {
	return change(img, func(ids []string) []string {
		last := &ids[len(ids)-1]
		digit := "0"
		if strings.HasSuffix(*last, digit) {
			digit = "1"
		}
		*last = (*last)[:len(*last)-1] + digit
		return ids
	})
}

// Swapped returns the image with its first two diff_ids swapped.
func Swapped(img Image) Image {
	return change(img, func(ids []string) []string {
		ids[0], ids[1] = ids[1], ids[0]
		return ids
	})
}

// Reversed returns the image with its diff_ids in reverse order, as docker save
// of Docker 25.0.0 wrote them (moby/moby#47150).
func Reversed(img Image) Image {
	return change(img, func(ids []string) []string {
		slices.Reverse(ids)
		return ids
	})
}

// CompressedDigest returns the image with the digests of its blobs as diff_ids,
// the first error of every new tool (opencontainers/umoci#15,
// containers/build#307) and of old ones (buildpacks/lifecycle#1662).
func CompressedDigest(img Image) Image {
	return change(img, func(ids []string) []string {
		for i, l := range img.Layers {
			ids[i] = digest.FromBytes(l.Blob).String()
		}
		return ids
	})
}

// EmptyString returns the image with the digest of nothing for all diff_ids, as the
// OCI conformance suite pushes them.
func EmptyString(img Image) Image {
	return change(img, func(ids []string) []string {
		for i := range ids {
			ids[i] = digest.FromBytes(nil).String()
		}
		return ids
	})
}

// Unpadded returns the image with a diff_id for its last layer that leaves out
// the zeros at the end (podman-container-tools/container-libs#391).
func Unpadded(img Image) Image {
	return change(img, func(ids []string) []string {
		last := len(ids) - 1
		ids[last] = digest.FromBytes(bytes.TrimRight(img.Layers[last].Content, "\x00")).String()
		return ids
	})
}

// OtherLayer returns the image with the first diff_id also in the last place.
func OtherLayer(img Image) Image {
	return change(img, func(ids []string) []string {
		ids[len(ids)-1] = ids[0]
		return ids
	})
}

// Fewer returns the image without its last diff_id.
func Fewer(img Image) Image {
	return change(img, func(ids []string) []string { return ids[:len(ids)-1] })
}

// More returns the image with its last diff_id twice.
func More(img Image) Image {
	return change(img, func(ids []string) []string { return append(ids, ids[len(ids)-1]) })
}

// Malformed returns the image with an empty string for its last diff_id.
func Malformed(img Image) Image {
	return change(img, func(ids []string) []string {
		ids[len(ids)-1] = ""
		return ids
	})
}

// Uppercase returns the image with its last diff_id in capitals.
func Uppercase(img Image) Image {
	return change(img, func(ids []string) []string {
		last := &ids[len(ids)-1]
		*last = "sha256:" + strings.ToUpper(strings.TrimPrefix(*last, "sha256:"))
		return ids
	})
}

// NoRootFS returns the image with a config that has no rootfs.
func NoRootFS(img Image) Image {
	img.RawConfig = fmt.Appendf(nil, `{%s}`, platformMembers)
	return img
}

// NotStrings returns the image with numbers for diff_ids.
func NotStrings(img Image) Image {
	img.RawConfig = fmt.Appendf(nil, `{%s,"rootfs":{"type":"layers","diff_ids":[1,2,3]}}`, platformMembers)
	return img
}

// DuplicateKey returns the image with a false rootfs before the true one: Go
// reads the last, other parsers the first.
func DuplicateKey(img Image) Image {
	img.RawConfig = fmt.Appendf(nil, `{%s,"rootfs":%s,"rootfs":%s}`, platformMembers, rootFS(WrongDigit(img).DiffIDs), rootFS(img.DiffIDs))
	return img
}

// CaseVariant returns the image with a false rootfs and a true RootFS: Go reads
// the last of them, other parsers the one that is spelled right.
func CaseVariant(img Image) Image {
	img.RawConfig = fmt.Appendf(nil, `{%s,"rootfs":%s,"RootFS":%s}`, platformMembers, rootFS(WrongDigit(img).DiffIDs), rootFS(img.DiffIDs))
	return img
}

// TrailingJSON returns the image with another config behind its config.
func TrailingJSON(img Image) Image {
	img.RawConfig = append(img.Config(), WrongDigit(img).Config()...)
	return img
}

// CutLayer returns the image with its last layer cut in half.
func CutLayer(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	last := &img.Layers[len(img.Layers)-1]
	last.Blob = last.Blob[:len(last.Blob)/2]
	return img
}

// AmbiguousLayer returns the image with a last layer of [TwoContents] and the
// diff_id of the first of them.
func AmbiguousLayer(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	last := &img.Layers[len(img.Layers)-1]
	last.Content = TarWithoutEnd("hello.txt", "hello\n")
	last.Blob = TwoContents(last.Content, Tar("evil.txt", "evil\n"))
	return change(img, func(ids []string) []string {
		ids[len(ids)-1] = last.DiffID()
		return ids
	})
}

func change(img Image, edit func(ids []string) []string) Image {
	img.DiffIDs = edit(slices.Clone(img.DiffIDs))
	return img
}
