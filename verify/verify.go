// Package verify decides whether an image's config tells the truth about its
// layers. It is the whole of the product's claim and knows nothing of HTTP,
// logs or databases.
//
// An image names each layer twice: the manifest by the digest of the stored,
// usually compressed blob; the config, in rootfs.diff_ids, by the digest of
// the uncompressed tar, the DiffID (OCI image specification, config.md). A
// registry checks neither against the other. This package does, in three
// steps that can be read apart:
//
//   - A [Hasher] turns bytes into a [Fact]: both digests, both sizes, the
//     encoding that the first bytes show, and what was odd about the stream.
//   - [ParseManifest] and [ParseConfig] turn JSON into claims, and refuse what
//     two JSON parsers could read differently.
//   - [Judge] compares claims with facts and returns a [Report].
//
// # What is true
//
// A layer that mainstream decoders read successfully as different bytes is
// ambiguous, whatever its DiffID says. A push is a mismatch when a claim is
// false under every reading that a mainstream runtime has. What cannot be
// decided (an encrypted layer, a layer over the limits) is unverifiable: it is
// never called a mismatch, and a [Policy] refuses it by default. The bytes decide
// what is judged, not their media types: a manifest whose config says diff_ids, and
// each of its layers. A manifest whose config says none (a chart, a build cache)
// claims nothing and passes.
//
// Only computed facts count. The DiffID index that keeps facts is trusted:
// whoever can write to it can make a lie pass.
package verify
