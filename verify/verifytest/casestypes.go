package verifytest

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

const (
	buildKitCache = "application/vnd.buildkit.cacheconfig.v0"
	dockerPlugin  = "application/vnd.docker.plugin.v1+json"
	helmConfig    = "application/vnd.cncf.helm.config.v1+json"
)

// cacheConfig returns the config of a BuildKit cache.
func cacheConfig(layers ...Layer) string {
	var list []string
	for i, l := range layers {
		list = append(list, fmt.Sprintf(`{"blob":%q,"parent":%d}`, l.Digest(), i-1))
	}
	return `{"layers":[` + strings.Join(list, ",") + `],"records":[]}`
}

// configTypeCases returns images under config types that a list of types would not
// have: each runtime accepts other ones, so the config itself decides.
func configTypeCases() []Case {
	var cases []Case
	warned := found("image: not_portable")
	for i, t := range []string{
		dockerPlugin, helmConfig, buildKitCache, ocispec.MediaTypeEmptyJSON,
		"application/vnd.cncf.flux.config.v1+json", "application/vnd.wasm.config.v0+json", "text/plain", "x",
	} {
		what := fmt.Sprintf("a config as %q", t)
		cases = append(cases,
			Case{fmt.Sprintf("config-type-%02d", i+1), what + " is judged, since it says diff_ids, and is true", configured(NewImage(layer1), t), Accept, verify.Match, nil},
			Case{fmt.Sprintf("config-type-%02d-false", i+1), what + " does not hide a mismatch", configured(WrongDigit(NewImage(layer1)), t), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
			Case{fmt.Sprintf("config-type-%02d-docker", i+1), what + " in a Docker manifest does not hide one either", configured(CompressedDigest(NewImage(layer1).Docker()), t), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")})
	}
	for i, t := range []string{
		"", ";", "application/json", "TEXT/HTML",
		ocispec.MediaTypeImageConfig + "; charset=utf-8", strings.ToUpper(ocispec.MediaTypeImageConfig), ocispec.MediaTypeImageConfig + " ",
		"application/vnd.oci.image.config.v2+json", "application/vnd.docker.container.image.v2+json", "application/vnd.docker.whatever", "application/vnd.oci.image.whatever",
	} {
		what := fmt.Sprintf("a config as %q", t)
		cases = append(cases,
			Case{fmt.Sprintf("config-loose-%02d", i+1), what + " is an image's to docker, is judged, and podman does not run it", configured(NewImage(layer1), t), Warn, verify.Match, warned},
			Case{fmt.Sprintf("config-loose-%02d-false", i+1), what + " does not hide a mismatch", configured(WrongDigit(NewImage(layer1)), t), Reject, verify.Mismatch, append(slices.Clone(warned), "0: diff_id_mismatch")},
			Case{fmt.Sprintf("config-loose-%02d-docker", i+1), what + " in a Docker manifest does not hide one either", configured(CompressedDigest(NewImage(layer1).Docker()), t), Reject, verify.Mismatch, append(slices.Clone(warned), "0: diff_id_mismatch (compressed_digest)")})
	}
	return cases
}

// layerTypeCases returns blobs under layer types that a list of types would not
// have. Whatever the type, the bytes decide.
func layerTypeCases() []Case {
	var cases []Case
	add := func(name, is string, img Image, answer Answer, verdict verify.Verdict, findings ...string) {
		cases = append(cases, Case{name, is, img, answer, verdict, findings})
	}
	for i, t := range []string{
		"", octetStream, "application/x-tar", "application/x-gzip", "text/plain", InToto, "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
		"application/vnd.oci.image.layer.nydus.blob.v1", "application/vnd.wasm.content.layer.v1+wasm", "application/vnd.example.layer; a=b",
	} {
		id, what := fmt.Sprintf("layer-type-%02d", i+1), fmt.Sprintf("a gzipped tar as %q", t)
		layer := typed(t, Gzip(motd), motd)
		add(id, what+" has its true diff_id, and containerd does not unpack it", NewImage(layer), Warn, verify.Match, "0: not_portable")
		add(id+"-digest", what+" cannot have its digest for a diff_id", CompressedDigest(NewImage(layer)), Reject, verify.Mismatch, "0: diff_id_mismatch (compressed_digest)")
		add(id+"-two", what+" with two contents is refused", NewImage(typed(t, TwoContents(opened, evil), opened)), Reject, verify.Mismatch, "0: layer_ambiguous")
		add(id+"-two-digest", what+" with two contents is refused with its digest for a diff_id, too", CompressedDigest(NewImage(typed(t, TwoContents(opened, evil), opened))), Reject, verify.Mismatch, "0: layer_ambiguous")
		cutLater := cat(Gzip(motd), Member{Name: "name"}.Header()[:12])
		add(id+"-cut", what+" that is cut in a later member is whole to some readers, and cannot have its digest", CompressedDigest(NewImage(typed(t, cutLater, motd))), Reject, verify.Mismatch, "0: layer_corrupt")
		add(id+"-noise", fmt.Sprintf("noise as %q has its digest for a diff_id, and nothing else", t), WrongDigit(NewImage(raw(t, noise(700)))), Reject, verify.Mismatch, "0: diff_id_mismatch")
		if strings.Contains(t, ".oci.image.layer.") {
			continue // containerd counts it as a layer
		}
		beside := NewImage(layer1, typed(t, Gzip(issue), issue))
		add(id+"-beside", what+" beside a good layer cannot have its digest either", claiming(beside, layer1.DiffID(), beside.Layers[1].Digest().String()), Reject, verify.Mismatch, "image: not_portable", "1: diff_id_mismatch (compressed_digest)")
		add(id+"-unlisted", what+" that no diff_id is about is refused: docker would unpack it", claiming(beside, layer1.DiffID()), Reject, verify.Mismatch, "image: not_portable", "1: diff_id_count")
		cutBeside := NewImage(layer1, typed(t, cutLater, issue))
		add(id+"-cut-unlisted", what+" that is cut in a later member is refused when no diff_id is about it", claiming(cutBeside, layer1.DiffID()), Reject, verify.Mismatch, "image: not_portable", "1: layer_corrupt")
		two := NewImage(layer1, typed(t, TwoContents(opened, evil), opened))
		add(id+"-two-unlisted", what+" with two contents is refused when no diff_id is about it", claiming(two, layer1.DiffID()), Reject, verify.Mismatch, "image: not_portable", "1: layer_ambiguous")
	}
	for i, t := range []string{
		strings.ToUpper(ocispec.MediaTypeImageLayerGzip), ocispec.MediaTypeImageLayerGzip + "; charset=utf-8", ocispec.MediaTypeImageLayerGzip + "+encrypted", strings.ToUpper(DockerTarGzip),
	} {
		id, what := fmt.Sprintf("layer-spelling-%02d", i+1), fmt.Sprintf("a layer as %q", t)
		layer := typed(t, Gzip(motd), motd)
		add(id+"-false", what+" does not hide a mismatch", WrongDigit(NewImage(layer)), Reject, verify.Mismatch, "0: diff_id_mismatch")
		add(id+"-digest", what+" cannot have its digest for a diff_id", CompressedDigest(NewImage(layer)), Reject, verify.Mismatch, "0: diff_id_mismatch (compressed_digest)")
		add(id+"-two", what+" with two contents is refused", NewImage(typed(t, TwoContents(opened, evil), opened)), Reject, verify.Mismatch, "0: layer_ambiguous")
	}
	return cases
}

// erofsImage returns the start of an EROFS image, whose first KiB is free.
func erofsImage() []byte { return cat(zeros(1024), []byte{0xe2, 0xe1, 0xf5, 0xe0}, noise(700)) }

// erofsCases returns EROFS layers, which containerd 2.3 and later counts and checks.
func erofsCases() []Case {
	const (
		erofs = "application/vnd.erofs.layer.v1"
		draft = "application/vnd.erofs"
	)
	content := erofsImage()
	packed := Zstd(content)
	warned := found("0: not_portable")
	return []Case{
		{"erofs", "the diff_id of plain EROFS is the digest of the blob", NewImage(raw(erofs, content)), Warn, verify.Match, warned},
		{"erofs-false", "plain EROFS with another diff_id is a mismatch", WrongDigit(NewImage(raw(erofs, content))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"erofs-zstd", "the diff_id of EROFS in zstd is the digest of the decoded bytes", NewImage(typed(erofs+"+zstd", packed, content)), Warn, verify.Match, warned},
		{"erofs-zstd-digest", "the digest of the blob is no diff_id of EROFS in zstd", CompressedDigest(NewImage(typed(erofs+"+zstd", packed, content))), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"erofs-draft", "the type that was proposed first is mounted by no runtime", NewImage(raw(draft, content)), Warn, verify.Match, warned},
		{"erofs-draft-zstd", "zstd under the type that was proposed first", NewImage(typed(draft+"+zstd", packed, content)), Warn, verify.Match, warned},
		{"erofs-draft-false", "the type that was proposed first does not hide a mismatch", WrongDigit(NewImage(raw(draft, content))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
		{"erofs-other", "the diff_id of EROFS with another suffix is not defined", NewImage(typed(erofs+"+lz4", content, content)), Reject, verify.Unverifiable, found("0: unverifiable")},
		{"erofs-mistyped", "zstd under the type of plain EROFS has the one diff_id to containerd and the other to runtimes that look at the bytes", NewImage(typed(erofs, packed, content)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"erofs-mistyped-digest", "nor is its digest the diff_id to all of them", CompressedDigest(NewImage(typed(erofs, packed, content))), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"erofs-mistyped-plain", "plain EROFS under the type for zstd is no zstd", NewImage(raw(erofs+"+zstd", content)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"erofs-beside", "EROFS beside a tar is a layer as well", NewImage(layer1, raw(erofs, content)), Warn, verify.Match, found("1: not_portable")},
		{"erofs-beside-false", "a mismatched EROFS beside a tar is a mismatch", WrongDigit(NewImage(layer1, raw(erofs, content))), Reject, verify.Mismatch, found("1: diff_id_mismatch")},
		{"erofs-beside-unlisted", "EROFS beside a tar needs a diff_id of its own", Fewer(NewImage(layer1, raw(erofs, content))), Reject, verify.Mismatch, found("image: diff_id_count")},
		{"erofs-capitals", "the type of EROFS is compared without case", WrongDigit(NewImage(raw(strings.ToUpper(erofs), content))), Reject, verify.Mismatch, found("0: diff_id_mismatch")},
	}
}

// unprovenCases returns layers that say they need not be readable.
func unprovenCases() []Case {
	victim := layer2.DiffID()
	bare := typed(ocispec.MediaTypeImageLayerGzip+"+encrypted", noise(100), nil)
	lucky := encrypted(cat([]byte{0x1f, 0x8b}, noise(100)), motd)
	readable := encrypted(Gzip(motd), motd)
	return []Case{
		{"encrypted-bare", "noise that says it is encrypted and has no key is not encrypted: with the diff_id of another image's layer containerd would run that", claiming(NewImage(bare), victim), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"encrypted-type", "keys do not make a layer encrypted that has not the type", claiming(NewImage(annotated(typed(ocispec.MediaTypeImageLayerGzip, noise(100), nil), "org.opencontainers.image.enc.keys.jwe")), victim), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"encrypted-lucky", "an encrypted layer may begin as gzip does by chance", NewImage(lucky), Reject, verify.Unverifiable, found("0: unverifiable (encrypted)")},
		{"encrypted-readable", "bytes that decode were not encrypted", CompressedDigest(NewImage(readable)), Reject, verify.Mismatch, found("0: diff_id_mismatch (compressed_digest)")},
		{"encrypted-cut", "bytes that decode in part were not encrypted", NewImage(encrypted(cut(Gzip(noise(70_000)), 9), motd)), Reject, verify.Mismatch, found("0: layer_corrupt")},
		{"encrypted-digest", "the digest of an encrypted layer is proven, and is no diff_id of a layer that a runtime unpacks", CompressedDigest(NewImage(encrypted(cat([]byte{0x1f, 0x8b}, noise(100)), motd))), Reject, verify.Unverifiable, found("0: unverifiable (encrypted)")},
	}
}

// claimlessCases returns manifests whose config says no diff_ids.
func claimlessCases() []Case {
	const image = ocispec.MediaTypeImageConfig
	notice := found("image: not_an_image")
	count := found("image: diff_id_count")
	dockerType := func(configType, config string, layers ...Layer) Image {
		img := artifact(configType, config, layers...)
		img.MediaType = DockerManifest
		return img
	}
	text := raw("text/plain", []byte("hello\n"))
	return []Case{
		{"claimless-image", "a config of {} under the type of an image config claims nothing, as oras, OPA and Spack push it", artifact(image, emptyJSON, layer1), Warn, verify.NotAnImage, notice},
		{"claimless-other-keys", "nor does a config without a key of an image config", artifact(image, `{"name":"app"}`, layer1), Warn, verify.NotAnImage, notice},
		{"claimless-one-key", "a config with one key of an image config is an image's, and has a layer too many", artifact(image, `{"architecture":"amd64"}`, layer1), Reject, verify.Mismatch, count},
		{"claimless-capitals", "the same key in capitals", artifact(image, `{"Architecture":"amd64"}`, layer1), Reject, verify.Mismatch, found("image: not_portable", "image: diff_id_count")},
		{"claimless-docker", "podman runs a Docker manifest without diff_ids", dockerType(DockerConfig, emptyJSON, layer1), Reject, verify.Mismatch, count},
		{"claimless-docker-any", "whatever the type of its config", dockerType("application/vnd.example.config", emptyJSON, typed("text/plain", Gzip(motd), motd)), Reject, verify.Mismatch, found("0: diff_id_count")},
		{"claimless-docker-text", "a Docker manifest of a blob that is no tar is an artifact", dockerType("application/vnd.example.config", emptyJSON, text), Accept, verify.NotAnImage, nil},
		{"claimless-docker-two", "a Docker manifest of a blob that may be read as a tar in two ways is refused", dockerType("application/vnd.example.config", emptyJSON, typed("text/plain", TwoContents(opened, evil), opened)), Reject, verify.Mismatch, found("0: layer_ambiguous")},
		{"claimless-docker-twice", "nor does a config with two empty lists hide a tar in a Docker manifest", dockerType("application/vnd.example.config", `{"rootfs":{"diff_ids":[],"diff_ids":[]}}`, layer1), Reject, verify.Mismatch, count},
		{"claimless-docker-odd", "nor does one that is no image config to Go", dockerType("application/vnd.example.config", `{"os":1}`, layer1), Reject, verify.Mismatch, count},
		{"claimless-docker-null", "podman runs a Docker manifest whose config is null, too", dockerType("application/json", `null`, layer1), Reject, verify.Mismatch, found("image: not_portable", "image: diff_id_count")},
		{"claimless-docker-deep", "or nested deeper than other parsers go", dockerType("application/json", `{"x":`+nested(70)+`}`, layer1), Reject, verify.Mismatch, found("image: not_portable", "image: diff_id_count")},
		{"claimless-docker-keys", "or with two spellings of a key", dockerType("application/json", `{"os":"linux","OS":"linux"}`, layer1), Reject, verify.Mismatch, found("image: not_portable", "image: diff_id_count")},
		{"claimless-docker-utf8", "or with a string that is not UTF-8", dockerType("application/json", "{\"x\":\"\xff\"}", layer1), Reject, verify.Mismatch, found("image: not_portable", "image: diff_id_count")},
		{"claimless-docker-none", "a Docker manifest with a tar is one of an image, whatever its config is", dockerType("application/vnd.example.config", "a: b", layer1), Reject, verify.Mismatch, count},
		{"claimless-artifact", "an artifact under its own type may hold a tar", artifact("application/vnd.example.config", emptyJSON, layer1), Accept, verify.NotAnImage, nil},
		{"claimless-empty-list", "an empty list of diff_ids under a type of its own claims nothing", artifact("application/vnd.example.config", `{"rootfs":{"type":"layers","diff_ids":[]}}`, layer1), Accept, verify.NotAnImage, nil},
	}
}

// keptCases returns what people push today and must be able to push tomorrow.
func keptCases() []Case {
	gguf := []byte("GGUF\x03\x00\x00\x00")
	model := raw("application/vnd.ollama.image.model", gguf)
	ollama := NewImage(model, raw("application/vnd.ollama.image.template", []byte("{{ .Prompt }}")), raw("application/vnd.ollama.image.params", []byte(`{"stop":[]}`))).Docker()
	bottle := annotated(layer1, "sh.brew.bottle.digest", "org.opencontainers.image.title")
	cache := artifact(buildKitCache, cacheConfig(layer1, layer2), layer1, layer2)
	return []Case{
		{"kept-ollama", "ollama gives each part of a model its digest for a diff_id", ollama, Accept, verify.NotAnImage, nil},
		{"kept-docker-model", "Docker's models say the digest of the file for a diff_id", edited(configured(NewImage(raw("application/vnd.docker.ai.gguf.v3", gguf)), "application/vnd.docker.ai.model.config.v0.1+json"), `"layers"`, `"rootfs"`), Accept, verify.NotAnImage, nil},
		{"kept-modelpack", "ModelPack says diffIds of its own", artifact("application/vnd.cncf.model.config.v1+json", `{"modelfs":{"type":"layers","diffIds":["`+layer1.DiffID()+`"]}}`, typed("application/vnd.cncf.model.weight.v1.tar", motd, motd)), Accept, verify.NotAnImage, nil},
		{"kept-homebrew", "a Homebrew bottle is an ordinary image", NewImage(bottle), Accept, verify.Match, nil},
		{"kept-cache", "a BuildKit cache as an image manifest", cache, Accept, verify.NotAnImage, nil},
		{"kept-chart-docker", "a chart with provenance", artifact(helmConfig, `{"name":"app","version":"1"}`, typed("application/vnd.cncf.helm.chart.content.v1.tar+gzip", Gzip(motd), motd), raw("application/vnd.cncf.helm.chart.provenance.v1.prov", []byte("-----BEGIN PGP SIGNED MESSAGE-----\n"))), Accept, verify.NotAnImage, nil},
		{"kept-cosign", "a cosign signature has an image config without history", edited(NewImage(raw("application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`))), `"amd64"`, `""`), Accept, verify.NotAnImage, nil},
		{"kept-provenance", "an in-toto attestation of BuildKit has an image config with its digest", NewImage(attestation()), Accept, verify.NotAnImage, nil},
	}
}
