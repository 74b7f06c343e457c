package verifytest

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

const emptyJSON = "{}"

// artifactCases returns what is pushed as an image manifest and is no image,
// and images with something else among their layers (E1 to E3).
func artifactCases() []Case {
	spdx := raw("application/spdx+json", []byte(`{"spdxVersion":"SPDX-2.3"}`))
	sbom := artifact(ocispec.MediaTypeEmptyJSON, emptyJSON, spdx)
	sbom.ArtifactType, sbom.ConfigData = spdx.MediaType, []byte(emptyJSON)
	provenance := artifact(ocispec.MediaTypeEmptyJSON, emptyJSON, attestation())
	provenance.ArtifactType = "application/vnd.docker.attestation.manifest.v1+json"
	text := artifact("application/vnd.acme.rocket.config", "fuel: kerosene\n", raw("text/plain", []byte("hello\n")))
	return []Case{
		{"E1a", "an attestation of BuildKit with provenance and SBOM has no layer that unpacks", NewImage(attestation(), raw(InToto, []byte(`{"predicateType":"https://spdx.dev/Document"}`))), Accept, verify.NotAnImage, nil},
		{"E1b", "the newer form of an attestation has the empty config and an artifact type", provenance, Accept, verify.NotAnImage, nil},
		{"E1c", "the diff_id of an attestation is its digest: that of another image's layer would have containerd run that", claiming(NewImage(attestation()), layer1.DiffID()), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E2a", "with three tars and an attestation two diff_ids belong to neither all layers nor the tars", claiming(NewImage(layer1, layer1, attestation(), layer1), layer1.DiffID(), layer1.DiffID()), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E2b", "the diff_id of an attestation among tars is its digest, and nothing else", claiming(NewImage(layer1, attestation()), layer1.DiffID(), layer2.DiffID()), Reject, verify.Mismatch, found("image: not_portable", "1: diff_id_mismatch")},
		{"E2c", "an attestation among the layers does not hide the false diff_id of a tar", claiming(NewImage(attestation(), layer1), attestation().DiffID(), layer2.DiffID()), Reject, verify.Mismatch, found("image: not_portable", "1: diff_id_mismatch")},
		{"E2d", "the diff_id of a tar that stands behind an attestation is compared with the tar", claiming(NewImage(attestation(), layer1), layer2.DiffID()), Reject, verify.Mismatch, found("image: not_portable", "1: diff_id_mismatch")},
		{"E3a", "a config that is no JSON belongs to no image under a type of its own", text, Accept, verify.NotAnImage, nil},
		{"E3b", "an SBOM with the empty config, inline as oras pushes it, is no image", sbom, Accept, verify.NotAnImage, nil},
		{"E3c", "WebAssembly under its own config type is no image", artifact("application/vnd.wasm.config.v0+json", `{"architecture":"wasm","os":"wasip1","layerDigests":[]}`, raw("application/wasm", []byte("\x00asm\x01\x00\x00\x00"))), Accept, verify.NotAnImage, nil},
		{"E3d", "WebAssembly under an image config has no layer that unpacks", NewImage(raw("application/vnd.wasm.content.layer.v1+wasm", []byte("\x00asm\x01\x00\x00\x00"))), Accept, verify.NotAnImage, nil},
		{"E3e", "a Docker plugin has a rootfs and its own config type, and its diff_ids are true", configured(NewImage(layer1).Docker(), dockerPlugin), Accept, verify.Match, nil},
		{"E3f", "a Flux source is a gzip of a tar under its own types", artifact("application/vnd.cncf.flux.config.v1+json", `{}`, typed("application/vnd.cncf.flux.content.v1.tar+gzip", Gzip(motd), motd)), Accept, verify.NotAnImage, nil},
		{"E3g", "a cosign bundle has the empty config", artifact(ocispec.MediaTypeEmptyJSON, emptyJSON, raw("application/vnd.dev.sigstore.bundle.v0.3+json", []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`))), Accept, verify.NotAnImage, nil},
		{"E3h", "an empty config under the type of the empty config makes no image, though the layer is one", artifact(ocispec.MediaTypeEmptyJSON, emptyJSON, layer1), Accept, verify.NotAnImage, nil},
		{"E3i", "an AI model is one file under its own types", artifact("application/vnd.docker.ai.model.config.v0.1+json", `{"config":{"format":"gguf"},"rootfs":{"type":"rootfs","diff_ids":[]}}`, raw("application/vnd.docker.ai.gguf.v3", []byte("GGUF\x03\x00\x00\x00"))), Accept, verify.NotAnImage, nil},
		{"E3j", "a Singularity image is one file under its own types", artifact("application/vnd.sylabs.sif.config.v1+json", emptyJSON, raw("application/vnd.sylabs.sif.layer.v1.sif", noise(300))), Accept, verify.NotAnImage, nil},
		{"E3k", "a SOCI index holds tables about the layers of another image", artifact("application/vnd.amazon.soci.index.v1+json", emptyJSON, raw(octetStream, noise(200))), Accept, verify.NotAnImage, nil},
		{"E3l", "bytes under octet-stream that are no config belong to no image", withConfig(configured(NewImage(layer1), octetStream), "\x00\x01"), Accept, verify.NotAnImage, nil},
		{"E3m", "blanks under octet-stream are no config", withConfig(configured(NewImage(layer1), octetStream), " "), Accept, verify.NotAnImage, nil},
		{"E3n", "JSON under octet-stream without a rootfs is no image's config", withConfig(configured(NewImage(layer1), octetStream), `{"name":"app"}`), Accept, verify.NotAnImage, nil},
		{"E3o", "of a chart nothing is read, so its layer may be missing here", artifact("application/vnd.cncf.helm.config.v1+json", emptyJSON, absent(layer1)), Accept, verify.NotAnImage, nil},
	}
}

// foreignCases returns images with layers that the registry need not hold, or
// does not hold though it should (E4, E33, E45).
func foreignCases() []Case {
	foreign := elsewhere(typed(DockerForeign, Gzip(motd), motd))
	restricted := elsewhere(typed("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Gzip(motd), motd))
	windows := edited(NewImage(absent(foreign), layer2).Docker(), `"os":"linux"`, `"os":"windows","os.version":"10.0.20348.2700"`)
	noConfig := NewImage(layer1)
	noConfig.ConfigAbsent = true
	return []Case{
		{"E4a", "a foreign layer that the registry does not hold cannot be judged, so its diff_id is not proven", NewImage(absent(foreign)).Docker(), Reject, verify.Unverifiable, found("0: unverifiable (foreign)")},
		{"E4b", "of a foreign layer that the registry does not hold any claim may be true", WrongDigit(NewImage(absent(foreign)).Docker()), Reject, verify.Unverifiable, found("0: unverifiable (foreign)")},
		{"E4c", "a foreign layer that the registry holds is judged, and its diff_id is false", WrongDigit(NewImage(foreign).Docker()), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E4d", "OCI's name for a foreign layer is nondistributable", NewImage(restricted), Accept, verify.Match, nil},
		{"E4e", "a nondistributable layer that the registry does not hold cannot be judged", NewImage(layer2, absent(restricted)), Reject, verify.Unverifiable, found("1: unverifiable (foreign)")},
		{"E4f", "a nondistributable layer that the registry holds is judged, and its diff_id is false", WrongDigit(NewImage(layer2, restricted)), Reject, verify.Mismatch, found("1: diff_id_mismatch")},
		{"E4g", "a foreign layer that is not there does not hide a false one that is", claiming(NewImage(absent(foreign), layer2).Docker(), layer1.DiffID(), layer1.DiffID()), Reject, verify.Mismatch, found("0: unverifiable (foreign)", "1: diff_id_mismatch")},
		{"E4h", "the count counts foreign layers too, there or not", Fewer(NewImage(absent(foreign), layer2).Docker()), Reject, verify.Mismatch, found("image: diff_id_count", "0: unverifiable (foreign)")},
		{"E4i", "URLs do not make an ordinary layer foreign: it must be there", NewImage(layer1, elsewhere(absent(layer2))), Reject, verify.Mismatch, found("1: blob_unknown")},
		{"E4j", "URLs of an ordinary layer that is there do not matter", NewImage(elsewhere(layer1)), Accept, verify.Match, nil},
		{"E4k", "a foreign layer may be uncompressed", NewImage(elsewhere(raw("application/vnd.docker.image.rootfs.foreign.diff.tar", motd))).Docker(), Accept, verify.Match, nil},
		{"E4l", "a foreign layer without URLs is nowhere, so the registry must hold it", NewImage(absent(typed(DockerForeign, Gzip(motd), motd))).Docker(), Reject, verify.Mismatch, found("0: blob_unknown")},
		{"E33a", "a Windows image has a foreign base that is not pushed, and a layer of its own", windows, Reject, verify.Unverifiable, found("0: unverifiable (foreign)")},
		{"E33b", "a Windows image whose base was pushed all the same is judged whole", edited(NewImage(foreign, layer2).Docker(), `"os":"linux"`, `"os":"windows","os.version":"10.0.20348.2700"`), Accept, verify.Match, nil},
		{"E45a", "a manifest before its config is refused as the registry itself would refuse it", noConfig, Reject, verify.Mismatch, found("image: blob_unknown")},
		{"E45b", "a manifest before one of its layers is refused as the registry itself would refuse it", NewImage(layer1, absent(layer2)), Reject, verify.Mismatch, found("1: blob_unknown")},
		{"E45c", "a layer that is missing in two places is told about both", NewImage(absent(layer1), absent(layer1)), Reject, verify.Mismatch, found("0: blob_unknown", "1: blob_unknown")},
		{"E45d", "an encrypted layer must be there too", NewImage(absent(encrypted(noise(100), motd))), Reject, verify.Mismatch, found("0: blob_unknown")},
	}
}

// countCases returns images with equal layers, equal contents and wrong counts
// (E5 to E12).
func countCases() []Case {
	const emptyLayerOfDocker = "\x1f\x8b\x08\x00\x00\x09\x6e\x88\x00\xff\x62\x18\x05\xa3\x60\x14\x8c\x58\x00\x08\x00\x00\xff\xff\x2e\xaf\xb5\xef\x00\x04\x00\x00"
	const emptyLayerOfBuildKit = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x62\x18\x05\xa3\x60\x14\x8c\x58\x00\x08\x00\x00\xff\xff\x2e\xaf\xb5\xef\x00\x04\x00\x00"
	return []Case{
		{"E5a", "a layer may come again behind another one", NewImage(layer1, layer2, layer1), Accept, verify.Match, nil},
		{"E5b", "claims are compared by position: the first of three equal layers has the false one", claiming(NewImage(layer1, layer1, layer1), layer2.DiffID(), layer1.DiffID(), layer1.DiffID()), Reject, verify.Mismatch, found("0: diff_id_mismatch (other_layer)")},
		{"E6a", "one content may be stored as tar, gzip and zstd in one image", NewImage(TarLayer(motd), layer1, ZstdLayer(motd)), Accept, verify.Match, nil},
		{"E7a", "the empty layer of docker, a3ed95caeb02, is a gzip of 1024 zeros", gzipTyped([]byte(emptyLayerOfDocker), zeros(1024)).Docker(), Accept, verify.Match, nil},
		{"E7b", "the empty layer of BuildKit, 4f4fb700ef54, is another gzip of 1024 zeros", gzipTyped([]byte(emptyLayerOfBuildKit), zeros(1024)), Accept, verify.Match, nil},
		{"E8a", "a blob of no bytes is a tar of no files under the OCI type for tar too", tarTyped(nil, nil), Warn, verify.Match, found("0: not_portable")},
		{"E8b", "1024 zeros, uncompressed, are an empty tar", NewImage(TarLayer(Tar())), Accept, verify.Match, nil},
		{"E10a", "no layers and one diff_id do not agree", claiming(NewImage(), layer1.DiffID()), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E10b", "no layers and a rootfs without diff_ids agree", edited(NewImage(), `,"diff_ids":[]`, ``), Accept, verify.Match, nil},
		{"E11a", "an empty list of diff_ids claims no layer", claiming(NewImage(layer1)), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E11b", "a rootfs without diff_ids claims no layer", edited(claiming(NewImage(layer1)), `,"diff_ids":[]`, ``), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E11c", "diff_ids that are null claim no layer", edited(claiming(NewImage(layer1)), `[]`, `null`), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E11d", "a rootfs that is null claims no layer", edited(claiming(NewImage(layer1)), string(rootFS(nil)), `null`), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E12a", "the count and a layer that is damaged are told in one answer", Fewer(CutLayer(NewImage(layer1, layer2))), Reject, verify.Mismatch, found("image: diff_id_count", "1: layer_corrupt")},
		{"E26a", "the count counts encrypted layers too", claiming(NewImage(encrypted(noise(100), motd))), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"E26b", "an encrypted layer does not hide a false one", WrongDigit(NewImage(encrypted(noise(100), motd), layer2)), Reject, verify.Mismatch, found("0: unverifiable (encrypted)", "1: diff_id_mismatch")},
		{"E26c", "an encrypted layer whose diff_id is no digest can be told to be false", Malformed(NewImage(encrypted(noise(100), motd))), Reject, verify.Mismatch, found("0: diff_id_malformed")},
	}
}

// algorithmCases returns digests and diff_ids of other algorithms, and such as
// are none (E28 to E30).
func algorithmCases() []Case {
	wide := func(content []byte) string { return digest.SHA512.FromBytes(content).String() }
	allWide := NewImage(by512(layer1), by512(layer2))
	allWide.Algorithm = digest.SHA512
	return []Case{
		{"E28a", "a layer may be named by its SHA-512 digest, and its diff_id is SHA-256 all the same", NewImage(by512(layer1)), Accept, verify.Match, nil},
		{"E28b", "config and layers may be named by SHA-512 digests", allWide, Accept, verify.Match, nil},
		{"E28c", "a layer that is named by its SHA-512 digest is judged", WrongDigit(NewImage(by512(layer1))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E28d", "the SHA-256 digest of the blob is told as such, though the manifest names another", CompressedDigest(NewImage(by512(layer1))), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"E28e", "a damaged layer is damaged under any digest", NewImage(by512(typed(ocispec.MediaTypeImageLayerGzip, Gzip(motd)[:9], motd))), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E28f", "one blob may be named by both digests in one image", NewImage(layer1, by512(layer1)), Accept, verify.Match, nil},
		{"E29a", "a SHA-512 diff_id can be false", claiming(NewImage(layer1), wide(issue)), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"E29b", "the SHA-512 digest of the blob is no diff_id", claiming(NewImage(by512(layer1)), wide(layer1.Blob)), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"E29c", "the SHA-512 digest of nothing is what the conformance suite pushes", claiming(NewImage(layer1), wide(nil)), Reject, verify.Mismatch, found("0: diff_id_mismatch (empty_string)")},
		{"E29d", "a true SHA-512 diff_id beside a true SHA-256 one concerns its own layer", claiming(NewImage(layer1, layer2), layer1.DiffID(), wide(issue)), Warn, verify.Match, found("1: not_portable")},
		{"E29e", "a true SHA-512 diff_id does not mend a layer that is damaged", claiming(gzipTyped(cut(layer1.Blob, 1), motd), wide(motd)), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"E29f", "layers and diff_ids by SHA-512 throughout are right and pull nowhere", claiming(allWide, wide(motd), wide(issue)), Warn, verify.Match, found("0: not_portable", "1: not_portable")},
		{"E30a", "63 digits are no digest", claiming(NewImage(layer1), layer1.DiffID()[:70]), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"E30b", "digits without an algorithm are no digest", claiming(NewImage(layer1), layer1.DiffID()[len("sha256:"):]), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"E30c", "an algorithm that the specification does not know is none", claiming(NewImage(layer1), "blake3:"+layer1.DiffID()[len("sha256:"):]), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"E30d", "a blank before a digest is part of it", claiming(NewImage(layer1), " "+layer1.DiffID()), Reject, verify.Mismatch, found("0: diff_id_malformed")},
		{"E30e", "null is read as an empty string", edited(NewImage(layer1), `"`+layer1.DiffID()+`"`, "null"), Reject, verify.Mismatch, found("0: diff_id_malformed")},
	}
}
