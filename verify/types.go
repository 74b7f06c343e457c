package verify

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// normalType returns a media type as runtimes compare it: in lower case and
// without parameters.
func normalType(mediaType string) string {
	t, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// configTypes are the media types of an image config.
var configTypes = []string{ocispec.MediaTypeImageConfig, mediaTypeDockerConfig}

// untyped are media types that say nothing about a blob. Old registries and proxies
// put them on blobs, so docker accepts them for configs and layers.
var untyped = []string{"", "application/octet-stream", "application/json", "text/html"}

// MayBeImage reports whether the manifest is one of an image, judging by its media
// types alone. It serves to list images without reading their configs. Check
// decides by the config itself.
func (m Manifest) MayBeImage() bool {
	t := normalType(m.Config.MediaType)
	return m.Kind == ImageKind && (slices.Contains(configTypes, t) || slices.Contains(untyped, t)) &&
		(len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, mayBeLayer))
}

// hasImageConfig reports whether the config is an image config by its media type.
func (m Manifest) hasImageConfig() bool {
	return slices.Contains(configTypes, normalType(m.Config.MediaType))
}

// mayBeLayer reports whether docker tries to unpack a blob of the descriptor's
// media type.
func mayBeLayer(d ocispec.Descriptor) bool {
	t := normalType(d.MediaType)
	return isLayer(d) || slices.Contains(untyped, t) || isDockers(t)
}

// isLayer reports whether containerd counts a descriptor as a layer, by its media
// type: one diff_id is about it.
func isLayer(d ocispec.Descriptor) bool {
	return isTarLayer(d) || isErofs(d) || strings.HasPrefix(normalType(d.MediaType), "application/vnd.oci.image.layer.")
}

// isTarLayer reports whether the media type is one of the Docker and OCI
// specifications for a tar archive. Runtimes ignore a suffix after a plus sign that
// they do not know.
func isTarLayer(d ocispec.Descriptor) bool {
	base, _, _ := strings.Cut(normalType(d.MediaType), "+")
	switch base {
	case "application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar":
		return true
	}
	return false
}

const (
	erofsType      = "application/vnd.erofs.layer.v1"
	erofsDraftType = "application/vnd.erofs"
)

// isErofs reports whether the media type is that of an EROFS layer, which
// containerd 2.3 and later mounts. The draft type was in use before.
func isErofs(d ocispec.Descriptor) bool {
	base, _, _ := strings.Cut(normalType(d.MediaType), "+")
	return base == erofsType || base == erofsDraftType
}

// erofsEncoding returns the encoding that the media type of an EROFS layer names.
// ok is false for a suffix that no runtime knows.
func erofsEncoding(d ocispec.Descriptor) (e Encoding, ok bool) {
	_, suffix, _ := strings.Cut(normalType(d.MediaType), "+")
	switch suffix {
	case "":
		return Identity, true
	case "zstd":
		return Zstd, true
	}
	return Identity, false
}

// isNydus reports whether the media type is that of a nydus blob, which is for the
// snapshotter of nydus alone.
func isNydus(d ocispec.Descriptor) bool {
	return strings.HasPrefix(normalType(d.MediaType), "application/vnd.oci.image.layer.nydus")
}

// dockerRunsConfig reports whether docker takes the config for an image's although its
// media type is not exactly that of one.
func (m Manifest) dockerRunsConfig() bool {
	t := normalType(m.Config.MediaType)
	if slices.Contains(configTypes, m.Config.MediaType) || t == dockerPluginType {
		return false
	}
	return slices.Contains(untyped, t) || isDockers(t)
}

// dockerPluginType is the media type of the config of a Docker plugin, which docker
// does not run as an image.
const dockerPluginType = "application/vnd.docker.plugin.v1+json"

// isDockers reports whether docker takes a media type for its own or OCI's.
func isDockers(t string) bool {
	return strings.HasPrefix(t, "application/vnd.docker.") || strings.HasPrefix(t, "application/vnd.oci.image.")
}

// IsForeign reports whether the media type is one of layers that a registry need
// not hold.
func IsForeign(d ocispec.Descriptor) bool {
	t := normalType(d.MediaType)
	return strings.Contains(t, ".foreign.") || strings.Contains(t, ".nondistributable.")
}

// mayBeElsewhere reports whether the layer may be fetched from another place than
// the registry: it is foreign and says from where.
func mayBeElsewhere(d ocispec.Descriptor) bool { return IsForeign(d) && len(d.URLs) > 0 }

// saysEncrypted reports whether the descriptor is that of an encrypted layer: by its
// media type, and by the annotations without which no key opens it (ocicrypt).
func saysEncrypted(d ocispec.Descriptor) bool {
	if !strings.Contains(normalType(d.MediaType), "+encrypted") {
		return false
	}
	for key := range d.Annotations {
		if strings.HasPrefix(key, "org.opencontainers.image.enc.") {
			return true
		}
	}
	return false
}
