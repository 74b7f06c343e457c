package verifytest

import (
	"bytes"
	"compress/zlib"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

const (
	stargzTOC  = "containerd.io/snapshot/stargz/toc.digest"
	chunkedTOC = "io.github.containers.zstd-chunked.manifest-checksum"
	// chunkedTOC2 is another name of that.
	chunkedTOC2 = "io.containers.zstd-chunked.manifest-checksum"
)

// encodingCases returns layers in encodings and under media types that go with
// each other more or less (E13 to E19, E21, E24, E25).
func encodingCases() []Case {
	eStargz := cat(GzipMembers(head, tail), Member{Extra: []byte("SG\x16\x000000000000000000STARGZ")}.Bytes())
	chunked := cat(ZstdFrames(head, tail), ZstdSkippable(junk))
	chunkedLayer := annotated(typed(ocispec.MediaTypeImageLayerZstd, chunked, motd), chunkedTOC)
	return []Case{
		{"E15a", "zstd under Docker's type for tar is unpacked by all who look at the bytes, and umoci does not", NewImage(typed(DockerTar, Zstd(motd), motd)).Docker(), Warn, verify.Match, found("0: not_portable")},
		{"E16a", "an uncompressed layer under the type for zstd is refused by crane", zstdTyped(motd, motd), Warn, verify.Match, found("0: not_portable")},
		{"E16b", "zstd under the OCI type for tar is not unpacked by containerd, which believes the type", tarTyped(Zstd(motd), motd), Warn, verify.Match, found("0: not_portable")},
		{"E17a", "zstd:chunked ends with its table of contents in a skippable frame", NewImage(chunkedLayer), Accept, verify.Match, nil},
		{"E17b", "zstd of an empty frame and a full one is one content", zstdTyped(ZstdFrames(nil, motd), motd), Accept, verify.Match, nil},
		{"E17c", "zstd of two frames is the content of both: the diff_id of the first is false", zstdTyped(ZstdFrames(motd, issue), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E17d", "zstd:chunked has two names for its table of contents, and both are of one kind", NewImage(annotated(typed(ocispec.MediaTypeImageLayerZstd, chunked, motd), chunkedTOC, chunkedTOC2)), Accept, verify.Match, nil},
		{"E19a", "eStargz is gzip of many members with a footer of no content", NewImage(annotated(typed(ocispec.MediaTypeImageLayerGzip, eStargz, motd), stargzTOC)), Accept, verify.Match, nil},
		{"E19b", "a table of contents is a claim that only lazy pullers look at: the diff_id is judged as ever", WrongDigit(NewImage(annotated(layer1, stargzTOC))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E19c", "a layer with both kinds of table of contents is refused by podman", NewImage(annotated(layer1, stargzTOC, chunkedTOC)), Warn, verify.Match, found("0: not_portable")},
		{"E19d", "gzip of two members is the content of both: the diff_id of the first is false", gzipTyped(GzipMembers(motd, issue), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E19e", "a layer with a table of eStargz and one of zstd:chunked by its other name has both kinds", NewImage(annotated(layer1, stargzTOC, chunkedTOC2)), Warn, verify.Match, found("0: not_portable")},
		{"E21a", "gzip with a wrong length in its trailer is refused by all", gzipTyped(Member{Content: motd, WrongSize: true}.Bytes(), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E21b", "a zlib stream under a type for tar is no tar, though its digest is the diff_id", NewImage(TarLayer(zlibStream(motd))), Warn, verify.Match, found("0: not_portable")},
		{"E21c", "text under a type for tar is no tar, though its digest is the diff_id", NewImage(TarLayer([]byte("hello\n"))).Docker(), Warn, verify.Match, found("0: not_portable")},
		{"E21d", "bytes of nothing known under the type for gzip are neither gzip nor tar", gzipTyped(noise(600), noise(600)), Warn, verify.Match, found("0: not_portable")},
		{"E21e", "bytes of nothing known under the type for zstd are neither zstd nor tar", zstdTyped(noise(600), noise(600)), Warn, verify.Match, found("0: not_portable")},
		{"E21g", "text under a type for tar, and the diff_id is not even its digest", WrongDigit(NewImage(TarLayer([]byte("hello\n")))), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E21f", "the first two bytes of gzip are all that is left of it", gzipTyped([]byte{0x1f, 0x8b}, nil), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E24a", "zstd of gzip is unpacked once, too", zstdTyped(Zstd(Gzip(motd)), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch (recompressed)")},
		{"E25a", "bzip2 under the OCI type for gzip is decompressed by docker and podman and not by containerd", gzipTyped(Bzip2(motd), motd), Warn, verify.Match, found("0: not_portable")},
		{"E25b", "xz under the OCI type for tar is decompressed by docker and podman and not by containerd", tarTyped(XZ(motd), motd), Warn, verify.Match, found("0: not_portable")},
		{"E25c", "the digest of a bzip2 blob is no diff_id", NewImage(typed(DockerTar, Bzip2(motd), Bzip2(motd))).Docker(), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"E25d", "xz that is cut is refused by all", NewImage(typed(DockerTar, cut(XZ(motd), 20), motd)).Docker(), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E25e", "bzip2 that is cut is refused by all", NewImage(typed(DockerTar, cut(Bzip2(motd), 20), motd)).Docker(), Reject, verify.Mismatch, found("0: layer_corrupt")},
	}
}

// otherFormCases returns layers in forms that lazy pullers mount and that the
// image specification does not know (E27).
func otherFormCases() []Case {
	const (
		nydus   = "application/vnd.oci.image.layer.nydus.blob.v1"
		erofs   = "application/vnd.erofs.layer.v1"
		unknown = "application/vnd.oci.image.layer.v2.squashfs"
	)
	bootstrap := annotated(GzipLayer(Tar("image/image.boot", "RAFS")), "containerd.io/snapshot/nydus-bootstrap")
	return []Case{
		{"E27a", "the diff_id of a nydus blob is its digest", NewImage(raw(nydus, noise(700))), Accept, verify.Match, nil},
		{"E27b", "a nydus blob begins with its first chunk, which may be zstd, and is no zstd stream", NewImage(raw(nydus, cat(Zstd(noise(9000)), noise(700)))), Accept, verify.Match, nil},
		{"E27m", "a nydus blob that begins as a compressed tar does is one to runtimes that look at the bytes", NewImage(raw(nydus, cat(Zstd(motd), noise(700)))), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E27c", "a nydus image ends with a bootstrap that is an ordinary layer", NewImage(raw(nydus, noise(700)), bootstrap), Accept, verify.Match, nil},
		{"E27d", "a false diff_id of an ordinary layer beside a nydus blob is false", WrongDigit(NewImage(raw(nydus, noise(700)), bootstrap)), Reject, verify.Mismatch, found("1: diff_id_mismatch")},
		{"E27e", "a nydus blob has its digest for a diff_id, and nothing else", WrongDigit(NewImage(raw(nydus, noise(700)))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E27f", "EROFS is mounted by containerd 2.3 and later, and by no other runtime", NewImage(raw(erofs, noise(700))), Warn, verify.Match, found("0: not_portable")},
		{"E27g", "overlaybd puts its blob into a tar under the ordinary type", NewImage(TarLayer(Tar("overlaybd.commit", string(noise(700))))), Accept, verify.Match, nil},
		{"E27h", "under an unknown type of layer the digest of the blob may be the diff_id", NewImage(raw(unknown, noise(700))), Warn, verify.Match, found("0: not_portable")},
		{"E27i", "under an unknown type of layer, too, runtimes unpack a gzip, and the digest of the blob is a false diff_id", NewImage(raw(unknown, Gzip(motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"E27j", "under an unknown type of layer the diff_id may be that of the content", NewImage(typed(unknown, Gzip(motd), motd)), Warn, verify.Match, found("0: not_portable")},
		{"E27k", "under an unknown type of layer what is neither is false, as docker and podman read it", WrongDigit(NewImage(typed(unknown, Gzip(motd), motd))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E27l", "under an unknown type of layer a string that is no digest is false", Malformed(NewImage(raw(unknown, noise(700)))), Reject, verify.Mismatch, found("0: diff_id_malformed")},
	}
}

// gzipCases returns the rows of the table of gzip: headers, ends and what may
// follow them (E20, DEC-G, DEC-X).
func gzipCases() []Case {
	member := func(m Member) []byte { m.Content = motd; return m.Bytes() }
	second := func(m Member) []byte { m.Content = tail; return cat(Gzip(head), m.Bytes()) }
	name := func(n int) Member { return Member{Name: strings.Repeat("n", n)} }
	return []Case{
		{"gzip-header", "a name, a comment and an extra field in a gzip header are read by all", gzipTyped(member(Member{Name: "layer.tar", Comment: "c", Extra: []byte("x"), Flags: FlagText}), motd), Accept, verify.Match, nil},
		{"gzip-header-crc", "a gzip header with a checksum that is right is refused by podman beside other fields", gzipTyped(member(Member{HeaderCRC: true}), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-header-crc-wrong", "a gzip header with a wrong checksum is refused by all runtimes in the first member", gzipTyped(member(Member{WrongHeaderCRC: true}), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-header-crc-wrong-later", "a wrong header checksum in a later member ends the stream for unpigz and is an error for others", gzipTyped(second(Member{WrongHeaderCRC: true}), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-name-511", "a gzip name of 511 bytes is read by all", gzipTyped(member(name(511)), motd), Accept, verify.Match, nil},
		{"gzip-name-512", "a gzip name of 512 bytes is refused by runtimes without unpigz or igzip", gzipTyped(member(name(512)), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-name-512-later", "a gzip name of 512 bytes in a later member is an error where it is not read: nobody ends before it", gzipTyped(second(name(512)), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-reserved", "a reserved flag in the first member is refused by unpigz and ignored by others", gzipTyped(member(Member{Flags: FlagReserved5}), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-reserved-later-first", "a reserved flag in a later member: the diff_id is that of what unpigz reads", gzipTyped(TwoContents(opened, evil), opened), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-reserved-later-both", "a reserved flag in a later member: the diff_id is that of what Go reads", gzipTyped(TwoContents(opened, evil), cat(opened, evil)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-method-later", "a second member of another method ends the stream for unpigz and is an error for others", gzipTyped(second(Member{Method: 7}), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-crc-wrong-first", "a wrong CRC-32 in the first of two members is refused by all", gzipTyped(cat(Member{Content: head, WrongCRC: true}.Bytes(), Gzip(tail)), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-cut-name", "a second member that is cut inside its name is a clean end for some readers and damage for all who are right", gzipTyped(cat(Gzip(motd), Member{Name: "name"}.Header()[:12]), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-cut-body", "a second member that is cut is refused by all", gzipTyped(cat(Gzip(head), cut(Gzip(tail), 12)), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-cut-header", "a gzip of nothing but a header is refused by all", gzipTyped(Gzip(motd)[:10], motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-zero", "one zero byte after a gzip stream is as many", gzipTyped(cat(Gzip(motd), zeros(1)), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-zeros-many", "100 000 zero bytes after a gzip stream are as one", gzipTyped(cat(Gzip(motd), zeros(100_000)), motd), Warn, verify.Match, found("0: not_portable")},
		{"gzip-zeros-junk", "junk behind zero bytes after a gzip stream could be decoded by some", gzipTyped(cat(Gzip(motd), zeros(512), junk), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-zeros-member", "a member behind zero bytes is read by Python and by no runtime", gzipTyped(cat(Gzip(opened), zeros(512), Gzip(evil)), opened), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-magic", "the first three bytes of a member after a gzip stream are an end for unpigz and damage for others", gzipTyped(cat(Gzip(motd), []byte{0x1f, 0x8b, 8}), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"gzip-magic-half", "the first byte of a member after a gzip stream is an end for unpigz and damage for others", gzipTyped(cat(Gzip(motd), []byte{0x1f}), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-zlib", "a zlib stream after a gzip stream is decoded by unpigz and by nobody else", gzipTyped(cat(Gzip(opened), zlibStream(evil)), cat(opened, evil)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-zstd", "a zstd frame after a gzip stream is ignored by some and refused by others", gzipTyped(cat(Gzip(opened), Zstd(evil)), opened), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"gzip-flood", "a flood of empty members is decoded to its end", gzipTyped(cat(bytes.Repeat(Member{}.Bytes(), 3000), Gzip(motd)), motd), Accept, verify.Match, nil},
		{"gzip-flood-false", "a flood of members does not hide a mismatch", WrongDigit(gzipTyped(cat(bytes.Repeat(Member{}.Bytes(), 1600), Gzip(motd)), motd)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
	}
}

// zlibStream returns content as zlib (RFC 1950), which begins with 78 9c.
func zlibStream(content []byte) []byte {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	_, err := w.Write(content)
	must(err)
	must(w.Close())
	return buf.Bytes()
}

// cut returns a blob without its last n bytes.
func cut(blob []byte, n int) []byte { return blob[:len(blob)-n] }
