package verifytest

import (
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const octetStream = "application/octet-stream"

// matrixOfForms returns the images that were pushed to real runtimes to see
// what they make of encodings, counts and media types.
func matrixOfForms() []Case {
	return []Case{
		{"M01", "a gzip layer under the OCI type for gzip is what most tools push", NewImage(layer1), Accept, verify.Match, nil},
		{"M02", "a gzip layer under Docker's types is what docker pushes", NewImage(layer1).Docker(), Accept, verify.Match, nil},
		{"M03", "an uncompressed layer under the OCI type for tar is its own content", NewImage(TarLayer(motd)), Accept, verify.Match, nil},
		{"M04", "an uncompressed layer under Docker's type for tar is its own content", NewImage(TarLayer(motd)).Docker(), Accept, verify.Match, nil},
		{"M05", "a zstd layer unpacks wherever zstd is known, and older runtimes are not counted", NewImage(ZstdLayer(motd)), Accept, verify.Match, nil},
		{"M06", "zstd of two frames with a skippable one between them is read to its end by all", zstdTyped(cat(Zstd(head), ZstdSkippable(junk), Zstd(tail)), motd), Accept, verify.Match, nil},
		{"M07", "zstd that begins with a skippable frame is taken for uncompressed by podman, skopeo and crane", zstdTyped(cat(ZstdSkippable(junk), Zstd(motd)), motd), Warn, verify.Match, found("0: not_portable")},
		{"M08", "gzip of two members, as pgzip writes it, is read to its end by all", gzipTyped(GzipMembers(head, tail), motd), Accept, verify.Match, nil},
		{"M09", "gzip with an empty last member, as eStargz has it, is read to its end by all", gzipTyped(GzipMembers(motd, nil), motd), Accept, verify.Match, nil},
		{"M10", "zero bytes after a gzip stream are ignored with unpigz and refused without", gzipTyped(cat(Gzip(motd), zeros(512)), motd), Warn, verify.Match, found("0: not_portable")},
		{"M11", "junk after a gzip stream is ignored by some decoders, refused by some and could be decoded by others", gzipTyped(cat(Gzip(motd), junk), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"M12", "gzip without its trailer is refused by all", gzipTyped(cut(Gzip(motd), 8), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"M13", "gzip with a wrong CRC-32 is refused by all", gzipTyped(Member{Content: motd, WrongCRC: true}.Bytes(), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"M14", "a diff_id with one wrong digit is false", WrongDigit(NewImage(layer1)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"M15", "the digest of the compressed blob is no diff_id", CompressedDigest(NewImage(layer1)), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"M16", "diff_ids in the wrong order are both false", Swapped(NewImage(layer1, layer2)), Reject, verify.Mismatch, found("0: diff_id_mismatch (reversed)", "1: diff_id_mismatch (reversed)")},
		{"M17", "a diff_id that is missing leaves a layer that nobody vouches for", Fewer(NewImage(layer1, layer2)), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"M18", "a diff_id too many belongs to no layer", More(NewImage(layer1, layer2)), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"M19", "one blob may be two layers and is claimed twice then", NewImage(layer1, layer1), Accept, verify.Match, nil},
		{"M20", "one diff_id may belong to two blobs: one content, compressed in two ways", NewImage(layer1, ZstdLayer(motd)), Accept, verify.Match, nil},
		{"M21", "of one blob in two places the second claim counts too", WrongDigit(NewImage(layer1, layer1)), Reject, verify.Mismatch, found("1: diff_id_mismatch (other_layer)")},
		{"M22", "an empty tar is a layer that changes nothing", NewImage(GzipLayer(Tar())), Accept, verify.Match, nil},
		{"M23", "a blob of no bytes is an empty layer to docker and refused by containerd", gzipTyped(nil, nil).Docker(), Warn, verify.Match, found("0: not_portable")},
		{"M24", "gzip of nothing unpacks to nothing everywhere", gzipTyped(Gzip(nil), nil), Accept, verify.Match, nil},
		{"M25", "no layers and no diff_ids agree", NewImage(), Accept, verify.Match, nil},
		{"M26", "no layers and no rootfs agree, but docker wants a rootfs", NoRootFS(NewImage()), Warn, verify.Match, found("image: not_portable")},
		{"M27", "layers without a rootfs are claimed by nobody, and a count that is wrong fails closed", NoRootFS(NewImage(layer1)), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"M28", "gzip under the OCI type for tar unpacks under docker and not under containerd, which believes the type", tarTyped(Gzip(motd), motd), Warn, verify.Match, found("0: not_portable")},
		{"M29", "gzip under the OCI type for tar has the diff_id of its content, not its digest, where it unpacks at all", tarTyped(Gzip(motd), Gzip(motd)), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"M30", "gzip under Docker's type for tar is ordinary: every runtime looks at the bytes", NewImage(typed(DockerTar, Gzip(motd), motd)).Docker(), Accept, verify.Match, nil},
		{"M31", "an uncompressed layer under the type for gzip is refused by crane and unpacked by runtimes", gzipTyped(motd, motd), Warn, verify.Match, found("0: not_portable")},
		{"M32", "zstd under the type for gzip is refused by umoci and unpacked by runtimes", gzipTyped(Zstd(motd), motd), Warn, verify.Match, found("0: not_portable")},
	}
}

// matrixOfBytes returns the rest of the images that were pushed to real
// runtimes: unusual encodings, tars, configs and artifacts.
func matrixOfBytes() []Case {
	return []Case{
		{"M33", "gzip under the type for zstd is refused by umoci and unpacked by runtimes", zstdTyped(Gzip(motd), motd), Warn, verify.Match, found("0: not_portable")},
		{"M34", "bzip2 is unpacked by docker and podman and not by containerd", NewImage(typed(DockerTar, Bzip2(motd), motd)).Docker(), Warn, verify.Match, found("0: not_portable")},
		{"M35", "xz is unpacked by docker and podman and not by containerd; podman import pushes it under the type for gzip", NewImage(typed(DockerTarGzip, XZ(motd), motd)).Docker(), Warn, verify.Match, found("0: not_portable")},
		{"M36", "gzip of gzip is unpacked once by all, and the diff_id is that of unpacking twice", gzipTyped(Gzip(Gzip(motd)), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch (recompressed)")},
		{"M37", "a true SHA-512 diff_id is allowed by the specification and refused by all runtimes, which compute SHA-256", claiming(NewImage(layer1), digest.SHA512.FromBytes(motd).String()), Warn, verify.Match, found("0: not_portable")},
		{"M38", "a diff_id in capitals is no digest", Uppercase(NewImage(layer1)), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"M39", "zeros behind the end of a tar are content, and the diff_id counts them", NewImage(GzipLayer(cat(motd, zeros(4096)))), Accept, verify.Match, nil},
		{"M40", "junk behind the end of a tar is content, and the diff_id counts it", NewImage(GzipLayer(cat(motd, junk))), Accept, verify.Match, nil},
		{"M41", "a diff_id that leaves out the junk behind the end of a tar is false", gzipTyped(Gzip(cat(motd, junk)), motd), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"M42", "a tar without an end marker unpacks everywhere", NewImage(GzipLayer(opened)), Accept, verify.Match, nil},
		{"M43", "BuildKit's attestation has an image config, and a diff_id that is a blob's digest, and is no image", NewImage(attestation()), Accept, verify.NotAnImage, nil},
		{"M44", "a tar and an attestation with two diff_ids: docker and older containerd refuse the mixture", NewImage(layer1, attestation()), Warn, verify.Match, found("image: not_portable")},
		{"M45", "a tar and an attestation with a diff_id for the tar only, as new containerd wants it", claiming(NewImage(layer1, attestation()), layer1.DiffID()), Warn, verify.Match, found("image: not_portable")},
		{"M46", "an attestation and a tar with a diff_id for the tar only: it is the tar's wherever that stands", claiming(NewImage(attestation(), layer1), layer1.DiffID()), Warn, verify.Match, found("image: not_portable")},
		{"M47", "rootfs.type layers+base is from old Windows images: crane and umoci refuse it", edited(NewImage(layer1), `"layers"`, `"layers+base"`), Warn, verify.Match, found("image: not_portable")},
		{"M48", "no rootfs.type: crane and umoci refuse it", edited(NewImage(layer1), `"type":"layers",`, ``), Warn, verify.Match, found("image: not_portable")},
		{"M49", "of two keys rootfs Go reads the last, which is true, and other parsers the first", DuplicateKey(NewImage(layer1)), Reject, verify.Mismatch, found("image: config_ambiguous")},
		{"M50", "of rootfs and RootFS Go reads the last, which is true, and other parsers the one that is spelled right", CaseVariant(NewImage(layer1)), Reject, verify.Mismatch, found("image: config_ambiguous")},
		{"M51", "a config typed octet-stream is an image's to docker, and true; podman does not run it", configured(NewImage(layer1), octetStream), Warn, verify.Match, found("image: not_portable")},
		{"M52", "a config typed octet-stream is no way round the check", configured(WrongDigit(NewImage(layer1)), octetStream), Reject, verify.Mismatch, found("image: not_portable", "0: diff_id_mismatch")},
		{"M53", "a foreign layer that the registry holds is judged as any other", NewImage(elsewhere(typed(DockerForeign, Gzip(motd), motd))).Docker(), Accept, verify.Match, nil},
		{"M54", "a Docker layer in an OCI manifest is known to every runtime", NewImage(typed(DockerTarGzip, Gzip(motd), motd)), Accept, verify.Match, nil},
		{"M55", "a Helm chart is no image, though its layer is a gzip of a tar", artifact("application/vnd.cncf.helm.config.v1+json", `{"name":"app","version":"1.4.0"}`, typed("application/vnd.cncf.helm.chart.content.v1.tar+gzip", Gzip(motd), motd)), Accept, verify.NotAnImage, nil},
		{"M56", "a BuildKit cache is no image, though its layers are: its config says no diff_ids", artifact(buildKitCache, cacheConfig(layer1), layer1), Accept, verify.NotAnImage, nil},
		{"M57", "a cosign signature has an image config and a diff_id that is a blob's digest, and is no image", NewImage(raw("application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`))), Accept, verify.NotAnImage, nil},
		{"M58", "of an encrypted layer nobody without the key knows the content, so its diff_id is not proven", NewImage(encrypted(noise(100), motd)), Reject, verify.Unverifiable, found("0: unverifiable (encrypted)")},
		{"M59", "an empty string is no digest", Malformed(NewImage(layer1)), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"M60", "a zlib stream is neither a tar nor anything that a runtime decompresses", gzipTyped(zlibStream(motd), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"M61", "junk after a zstd stream is refused by all", zstdTyped(cat(Zstd(motd), junk), motd), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"M62", "a zstd layer under Docker's type is what docker pushes when told to", NewImage(ZstdLayer(motd)).Docker(), Accept, verify.Match, nil},
		{"M63", "a zero byte between two gzip members ends the stream for some and is skipped by others", gzipTyped(cat(Gzip(head), zeros(1), Gzip(tail)), motd), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"M64", "one path twice in a tar is for tar readers to judge: the bytes are one content", NewImage(GzipLayer(Tar("a", "1", "a", "2"))), Accept, verify.Match, nil},
	}
}
