package verifytest

import (
	"bytes"
	"encoding/binary"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// zstdCases returns the rows of the table of zstd (E18, DEC-Z).
func zstdCases() []Case {
	return []Case{
		{"zstd-zeros", "zero bytes after a zstd stream are refused by all", zstdTyped(cat(Zstd(motd), zeros(512)), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-gzip", "a gzip member after a zstd stream is decoded by zstd(1) and refused by runtimes", zstdTyped(cat(Zstd(opened), Gzip(evil)), opened), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-cut", "a second frame that is cut is refused by all", zstdTyped(cat(Zstd(head), cut(Zstd(tail), 6)), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-checksum", "a wrong checksum is refused by all", zstdTyped(append(cut(Zstd(motd), 1), Zstd(motd)[len(Zstd(motd))-1]^1), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-size", "a frame that holds one byte less than it says is refused by zstd(1)", zstdTyped(zstdStored(0x60, binary.LittleEndian.AppendUint16(nil, uint16(len(evil)+1-256)), evil), evil), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-dictionary", "a frame that needs a dictionary is refused by all who do not have it", zstdTyped(zstdStored(0x01, []byte{0x58, 42}, evil), evil), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"zstd-window-256MiB", "a window of 256 MiB is read by containerd and docker, and refused by zstd(1)", zstdTyped(zstdStored(0, []byte{18 << 3}, evil), evil), Warn, verify.Match, found("0: not_portable")},
		{"zstd-window-false", "a large window does not hide a mismatch", WrongDigit(zstdTyped(zstdStored(0, []byte{18 << 3}, evil), evil)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"zstd-window-1GiB", "a window of 1 GiB is over the limit, so the content is not known", zstdTyped(zstdStored(0, []byte{20 << 3}, evil), evil), Reject, verify.Unverifiable, found("0: over_limit")},
		{"zstd-skippable-only", "a skippable frame and nothing else is content of no bytes", zstdTyped(ZstdSkippable(junk), nil), Warn, verify.Match, found("0: not_portable")},
		{"zstd-flood", "a flood of empty frames is decoded to its end", zstdTyped(cat(bytes.Repeat(Zstd(nil), 3000), Zstd(motd)), motd), Accept, verify.Match, nil},
		{"zstd-flood-false", "a flood of skippable frames does not hide a mismatch", WrongDigit(zstdTyped(cat(Zstd(motd), bytes.Repeat(ZstdSkippable(nil), 3000)), motd)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
	}
}

// zstdStored returns a frame with the given descriptor and rest of a header
// whose content is not compressed.
func zstdStored(descriptor byte, header, content []byte) []byte {
	block := uint32(len(content))<<3 | 1
	return cat([]byte{0x28, 0xb5, 0x2f, 0xfd, descriptor}, header, []byte{byte(block), byte(block >> 8), byte(block >> 16)}, content)
}

// polyglotCases returns blobs that are a tar and a compressed stream at once
// (DEC-N10, DEC-N11).
func polyglotCases() []Case {
	orGzip, orZstd := TarOrGzip(issue), TarOrZstd(issue)
	return []Case{
		{"tar-or-gzip-as-tar", "a tar that is gzip too, under the type for tar: containerd unpacks the one, docker the other", NewImage(TarLayer(orGzip)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-gzip-as-gzip", "a tar that is gzip too, under the type for gzip, is no better: crane and scanners may look at the tar", gzipTyped(orGzip, issue), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-gzip-as-docker-tar", "a tar that is gzip too, under Docker's type for tar", NewImage(typed(DockerTar, orGzip, issue)).Docker(), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-gzip-as-docker-gzip", "a tar that is gzip too, under Docker's type for gzip", gzipTyped(orGzip, issue).Docker(), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-gzip-as-zstd", "a tar that is gzip too, under the type for zstd", zstdTyped(orGzip, issue), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-zstd-as-gzip", "a tar that is zstd too, under the type for gzip: containerd unpacks the one, podman the other", gzipTyped(orZstd, issue), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-zstd-as-zstd", "a tar that is zstd too, under the type for zstd, with the diff_id of the blob", zstdTyped(orZstd, orZstd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-zstd-as-tar", "a tar that is zstd too, under the type for tar", NewImage(TarLayer(orZstd)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-blank-or-zstd", "a tar whose checksum is blanks is a tar to archive/tar, and this one is zstd too", NewImage(typed(ocispec.MediaTypeImageLayer, BlankTarOrZstd(issue), issue)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-blank-or-zstd-as-zstd", "the same under the type for zstd", zstdTyped(BlankTarOrZstd(issue), issue), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-blank-or-gzip", "a tar whose checksum is blanks and that is gzip too", gzipTyped(BlankTarOrGzip(issue), issue), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-bzip2", "a tar whose first file is called BZh91AY is bzip2 to docker", NewImage(TarLayer(Tar("BZh91AY&SY", "hello\n"))), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"tar-or-xz", "a tar whose first file is called as xz begins is xz to docker", NewImage(TarLayer(cat(tarHeader("\xfd7zXZ\x00", 0), zeros(1024)))), Reject, verify.Mismatch, found("0: layer_ambiguous")},
	}
}

// tarCases returns tars that are odd inside, which is nobody's business here:
// a diff_id covers all bytes (E22, E23).
func tarCases() []Case {
	return []Case{
		{"E22a", "two tars in a row are one content", NewImage(GzipLayer(cat(motd, issue))), Accept, verify.Match, nil},
		{"E22b", "the diff_id of the first of two tars in a row is false", gzipTyped(Gzip(cat(motd, issue)), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E22c", "a tar that is cut in the body of a file is for tar readers to judge", NewImage(GzipLayer(motd[:700])), Accept, verify.Match, nil},
		{"E22d", "a diff_id that leaves out one of many blocks of zeros is that of the tar before it was padded", gzipTyped(Gzip(cat(motd, zeros(4096))), cat(motd, zeros(3584))), Reject, verify.Mismatch, found("0: diff_id_mismatch (unpadded_tar)")},
		{"E22e", "a diff_id that leaves out the end marker is that of the tar before it was ended", gzipTyped(Gzip(issue), cut(issue, 1024)), Reject, verify.Mismatch, found("0: diff_id_mismatch (unpadded_tar)")},
		{"E22f", "a diff_id with zeros that the blob does not have is false, as skopeo 1.9.3 writes it into zstd:chunked images", gzipTyped(Gzip(opened), cat(opened, zeros(1024))), Reject, verify.Mismatch, found("0: diff_id_mismatch (unpadded_tar)")},
	}
}

// configCases returns configs that parsers read differently, or that say odd
// things about the rootfs (E31, E32).
func configCases() []Case {
	honest := NewImage(layer1)
	liar := WrongDigit(honest)
	ids := `"diff_ids":["` + layer1.DiffID() + `"]`
	wrongIDs := `"diff_ids":["` + liar.DiffIDs[0] + `"]`
	ambiguous, invalid, variant := found("image: config_ambiguous"), found("image: config_invalid"), found("image: not_portable")
	return []Case{
		{"E31a", "of diff_ids and DIFF_IDS Go reads the last", edited(honest, ids, wrongIDs+`,"DIFF_IDS":["`+layer1.DiffID()+`"]`), Reject, verify.Mismatch, ambiguous},
		{"E31b", "DIFF_IDS alone are diff_ids to Go and unknown to others", edited(honest, "diff_ids", "DIFF_IDS"), Warn, verify.Match, variant},
		{"E31c", "of two keys diff_ids Go reads the last", edited(honest, ids, wrongIDs+","+ids), Reject, verify.Mismatch, ambiguous},
		{"E31d", "of two keys diff_ids that say the same, nobody needs the second", edited(honest, ids, ids+","+ids), Reject, verify.Mismatch, ambiguous},
		{"E31e", "RootFS alone is rootfs to Go and unknown to others", edited(honest, "rootfs", "RootFS"), Warn, verify.Match, variant},
		{"E31f", "rootfs with a long s is rootfs to Go, which folds it, and unknown to others", edited(honest, "rootfs", "rootf\u017f"), Warn, verify.Match, variant},
		{"E31g", "of rootfs and an escaped rootfs Go reads the last", edited(honest, `"rootfs"`, `"rootfs":{},"\u0072ootfs"`), Reject, verify.Mismatch, ambiguous},
		{"E31h", "a second config behind the first is read by some and ignored by others", TrailingJSON(honest), Reject, verify.Mismatch, ambiguous},
		{"E31i", "a string that is not UTF-8 is mended by Go and refused by others", edited(honest, `"os"`, "\"x\":\"\xff\",\"os\""), Reject, verify.Mismatch, ambiguous},
		{"E31j", "arrays that are nested deep are refused by some parsers", edited(honest, `"os"`, `"x":`+nested(1000)+`,"os"`), Reject, verify.Mismatch, ambiguous},
		{"E31k", "a byte order mark is refused by Go and skipped by others", withConfig(honest, "\ufeff"+string(honest.Config())), Reject, verify.Mismatch, invalid},
		{"E31l", "diff_ids that are numbers are no diff_ids", NotStrings(honest), Reject, verify.Mismatch, invalid},
		{"E31m", "an image config that is no JSON says nothing", withConfig(honest, "\x00\x01"), Reject, verify.Mismatch, invalid},
		{"E31n", "an image config of no bytes says nothing", withConfig(honest, ""), Reject, verify.Mismatch, invalid},
		{"E31o", "a rootfs that is a string says no diff_ids, and belongs to no image under octet-stream", withConfig(configured(honest, octetStream), `{"rootfs":"layers"}`), Accept, verify.NotAnImage, nil},
		{"E31u", "rootfS alone, as the bases of Windows have it, does not hide a mismatch", edited(liar, "rootfs", "rootfS"), Reject, verify.Mismatch, found("image: not_portable", "0: diff_id_mismatch")},
		{"E31v", "rootfS and rootfs are two spellings, though they say the same", edited(honest, `"rootfs"`, `"rootfS":`+string(rootFS(honest.DiffIDs))+`,"rootfs"`), Reject, verify.Mismatch, ambiguous},
		{"E31p", "diff_ids that are numbers under octet-stream make an image that is invalid", configured(NotStrings(honest), octetStream), Reject, verify.Mismatch, invalid},
		{"E31q", "a string that is not UTF-8 under octet-stream does not hide a lie", configured(edited(liar, `"os"`, "\"x\":\"\xff\",\"os\""), octetStream), Reject, verify.Mismatch, ambiguous},
		{"E31r", "arrays that are nested deep under octet-stream do not hide a lie", configured(edited(liar, `"os"`, `"x":`+nested(70)+`,"os"`), octetStream), Reject, verify.Mismatch, ambiguous},
		{"E31s", "two equal keys where no key decides anything are left alone", edited(honest, `"os"`, `"history":[{"a":1,"a":2}],"os"`), Accept, verify.Match, nil},
		{"E31t", "a config as text/html is an image's to docker, and false", configured(liar, "text/html"), Reject, verify.Mismatch, found("image: not_portable", "0: diff_id_mismatch")},
		{"E32a", "a rootfs.type that is null is missing", edited(honest, `"layers"`, `null`), Warn, verify.Match, found("image: not_portable")},
		{"E32b", "a rootfs.type that is empty is missing", edited(honest, `"layers"`, `""`), Warn, verify.Match, found("image: not_portable")},
		{"E32c", "a rootfs.type that is a number makes a config that is invalid", edited(honest, `"layers"`, `1`), Reject, verify.Mismatch, invalid},
	}
}

// nested returns arrays in each other.
func nested(n int) string {
	return string(bytes.Repeat([]byte("["), n)) + string(bytes.Repeat([]byte("]"), n))
}

// inlineCases returns descriptors that say more about a blob, or something
// else, than its bytes do (E46, and wrong sizes).
func inlineCases() []Case {
	inline := NewImage(layer1)
	inline.ConfigData = inline.Config()
	sparse := inline
	sparse.ConfigAbsent = true
	other := NewImage(layer1)
	other.ConfigData = WrongDigit(other).Config()
	hidden := WrongDigit(NewImage(layer1))
	hidden.ConfigData = NewImage(layer1).Config()
	lie := WrongDigit(NewImage(layer1))
	lie.ConfigData = lie.Config()
	layer := func(data []byte) Image { l := layer1; l.Data = data; return NewImage(l) }
	sized := func(n int64) Image { l := layer1; l.Size = int64(len(l.Blob)) + n; return NewImage(l) }
	config := NewImage(layer1)
	config.ConfigSize = 1
	shifted := sized(1)
	shifted.Layers[0].MediaType = ocispec.MediaTypeImageLayerZstd
	ambiguous, notPortable := found("image: manifest_ambiguous"), found("0: not_portable")
	return []Case{
		{"E46a", "a config that is inline in its descriptor too says nothing new", inline, Accept, verify.Match, nil},
		{"E46b", "a config that is inline in its descriptor need not be fetched", sparse, Accept, verify.Match, nil},
		{"E46c", "an inline config that is not the one of the digest: some read the one, some the other", other, Reject, verify.Mismatch, ambiguous},
		{"E46d", "a true inline config does not mend a false one under the digest", hidden, Reject, verify.Mismatch, ambiguous},
		{"E46e", "an inline config that is false is false", lie, Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E46f", "a layer that is inline in its descriptor too says nothing new", layer(layer1.Blob), Accept, verify.Match, nil},
		{"E46g", "an inline layer that is not the one of the digest: some read the one, some the other", layer(layer2.Blob), Reject, verify.Mismatch, ambiguous},
		{"size-large", "a layer that is smaller than its descriptor says is refused by containerd and podman", sized(1), Warn, verify.Match, notPortable},
		{"size-small", "a layer that is larger than its descriptor says is refused by containerd and podman", sized(-1), Warn, verify.Match, notPortable},
		{"size-config", "a config that is larger than its descriptor says is refused by containerd and podman", config, Warn, verify.Match, found("image: not_portable")},
		{"size-false", "a wrong size does not hide a lie", WrongDigit(sized(1)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"size-type", "of a wrong size and a wrong type both are told", shifted, Warn, verify.Match, found("0: not_portable", "0: not_portable")},
	}
}
