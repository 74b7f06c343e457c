package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The Docker media types (distribution, manifest v2 schema 2) and schema 1.
const (
	mediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	mediaTypeSchema1            = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed      = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// A Kind is what a manifest is by its media type.
type Kind uint8

// The kinds of manifest.
const (
	UnknownKind Kind = iota // nothing that this package can judge
	ImageKind               // an OCI image manifest or Docker schema 2
	IndexKind               // an OCI image index or Docker manifest list
	Schema1Kind             // Docker schema 1, which carries no DiffIDs
)

// MediaTypeOf returns the media type of a manifest: the one that it is served with,
// or that in its body where that is of no known kind. Some registries serve all as
// JSON.
func MediaTypeOf(served string, body []byte) string {
	var says struct{ MediaType string }
	if KindOf(served) == UnknownKind && json.Unmarshal(body, &says) == nil && says.MediaType != "" {
		return says.MediaType
	}
	return served
}

// KindOf returns the kind of a manifest with the given Content-Type.
// Parameters and case do not count.
func KindOf(contentType string) Kind {
	switch baseType(contentType) {
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest:
		return ImageKind
	case ocispec.MediaTypeImageIndex, mediaTypeDockerManifestList:
		return IndexKind
	case mediaTypeSchema1, mediaTypeSchema1Signed:
		return Schema1Kind
	}
	return UnknownKind
}

func baseType(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	return t
}

// A Manifest is what an image manifest or image index claims.
type Manifest struct {
	Kind      Kind
	MediaType string
	Config    ocispec.Descriptor   // of an ImageKind
	Layers    []ocispec.Descriptor // of an ImageKind
	Manifests []ocispec.Descriptor // of an IndexKind
}

var (
	descriptorKeys = []string{"mediaType", "digest", "size", "urls", "data", "artifactType", "platform", "annotations"}
	platformKeys   = []string{"architecture", "os", "os.version", "os.features", "variant"}
)

func manifestShape() shape {
	return shape{
		"":                       {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers"},
		".config":                descriptorKeys,
		".config.platform":       platformKeys,
		".layers.[]":             descriptorKeys,
		".layers.[].platform":    platformKeys,
		".manifests.[]":          descriptorKeys,
		".manifests.[].platform": platformKeys,
	}
}

// ParseManifest reads a manifest that was sent as contentType.
//
// A manifest of UnknownKind or Schema1Kind is returned unread. The error is a
// *ClaimError when the manifest is not valid or when two parsers could read it
// differently: as another kind (CVE-2021-41190), with other layers, or with
// inline data that is not the blob.
func ParseManifest(contentType string, body []byte) (Manifest, error) {
	m := Manifest{Kind: KindOf(contentType), MediaType: baseType(contentType)}
	if m.Kind != ImageKind && m.Kind != IndexKind {
		return m, nil
	}
	if err := manifestShape().check(body); err != nil {
		return m, manifestError(err)
	}
	var raw struct {
		MediaType string               `json:"mediaType"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
		FSLayers  json.RawMessage      `json:"fsLayers"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return m, manifestError(err)
	}
	if raw.MediaType != "" && raw.MediaType != m.MediaType {
		return m, ambiguousManifest("its mediaType is %+q and it was sent as %q", clip(raw.MediaType), m.MediaType)
	}
	if raw.FSLayers != nil {
		return m, ambiguousManifest("it has fsLayers, as schema 1 has, and was sent as %q", m.MediaType)
	}
	if m.Kind == IndexKind {
		if raw.Config != nil || raw.Layers != nil {
			return m, ambiguousManifest("it is an image index with config or layers")
		}
		m.Manifests = raw.Manifests
		return m, checkDescriptors("manifest", m.Manifests)
	}
	if raw.Manifests != nil {
		return m, ambiguousManifest("it is an image manifest with manifests")
	}
	if raw.Config == nil {
		return m, &ClaimError{Reason: ReasonConfigInvalid, Message: "the manifest names no config"}
	}
	m.Config, m.Layers = *raw.Config, raw.Layers
	if err := checkDescriptors("config", []ocispec.Descriptor{m.Config}); err != nil {
		return m, err
	}
	return m, checkDescriptors("layer", m.Layers)
}

func manifestError(err error) error {
	if errors.Is(err, errAmbiguousJSON) {
		return ambiguousManifest("%s", strings.TrimPrefix(err.Error(), errAmbiguousJSON.Error()+": "))
	}
	return &ClaimError{Reason: ReasonManifestInvalid, Message: "the manifest is not valid: " + clipError(err)}
}

func ambiguousManifest(format string, args ...any) error {
	return &ClaimError{Reason: ReasonManifestAmbiguous, Message: "the manifest is ambiguous: " + fmt.Sprintf(format, args...)}
}

func checkDescriptors(what string, descs []ocispec.Descriptor) error {
	for i, d := range descs {
		if err := d.Digest.Validate(); err != nil {
			return &ClaimError{Reason: ReasonManifestInvalid, Message: fmt.Sprintf("%s %d of %d has the invalid digest %+q", what, i+1, len(descs), clip(d.Digest.String()))}
		}
		if d.Size < 0 {
			return &ClaimError{Reason: ReasonManifestInvalid, Message: fmt.Sprintf("%s %d of %d has a negative size", what, i+1, len(descs))}
		}
		// Who uses the data reads other bytes than who fetches the blob.
		if d.Data != nil && (d.Digest.Algorithm().FromBytes(d.Data) != d.Digest || d.Size != int64(len(d.Data))) {
			return ambiguousManifest("%s %d of %d has data that is not what its digest and size say", what, i+1, len(descs))
		}
	}
	return nil
}

// clipError keeps library text, which may quote input, on one short line.
func clipError(err error) string {
	const most = 120
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, err.Error())
	return s[:min(len(s), most)]
}

// configTypes are the config media types that docker takes for an image's.
var configTypes = []string{ocispec.MediaTypeImageConfig, mediaTypeDockerConfig}

// legacyConfigTypes are types that docker also takes for an image's, because
// old registries and proxies put them on blobs.
var legacyConfigTypes = []string{"", "application/octet-stream", "application/json", "text/html"}

// MayBeImage reports whether a runtime may run the manifest: its config has a
// type that docker or containerd takes for an image config, and it has either
// no layers or at least one that unpacks. All else (charts, signatures,
// attestations, build caches) is not an image.
func (m Manifest) MayBeImage() bool {
	return m.Kind == ImageKind && m.configOfImage() && (len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, mayBeLayer))
}

// configOfImage reports whether runtimes take the config for an image's by its
// type.
func (m Manifest) configOfImage() bool {
	return slices.Contains(configTypes, m.Config.MediaType) || m.configOfAny()
}

// configOfAny reports whether the config has a type that says nothing.
func (m Manifest) configOfAny() bool { return slices.Contains(legacyConfigTypes, m.Config.MediaType) }

// unpacks reports whether the manifest has a layer that runtimes unpack.
func (m Manifest) unpacks() bool { return slices.ContainsFunc(m.Layers, isLayer) }

// isLayer reports whether runtimes unpack a blob of the descriptor's type.
func isLayer(d ocispec.Descriptor) bool {
	return isTarLayer(d) || strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.")
}

// mayBeLayer reports whether docker tries to unpack a blob of the descriptor's
// type: it does with all that are Docker's or the image specification's, and
// with those that say nothing.
func mayBeLayer(d ocispec.Descriptor) bool {
	t := strings.ToLower(d.MediaType)
	return isLayer(d) || slices.Contains(legacyConfigTypes, t) ||
		strings.HasPrefix(t, "application/vnd.docker.") || strings.HasPrefix(t, "application/vnd.oci.image.")
}

// isTarLayer reports whether a type is one of the specifications', under which
// a blob is a tar archive. Runtimes do not look behind a plus sign that they do
// not know.
func isTarLayer(d ocispec.Descriptor) bool {
	base, _, _ := strings.Cut(d.MediaType, "+")
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

// isNydus reports whether a layer's blob is not meant to be unpacked: its
// diff_id is its digest.
func isNydus(d ocispec.Descriptor) bool {
	return strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nydus")
}

// IsForeign reports whether a registry need not hold the layer, by its type.
func IsForeign(d ocispec.Descriptor) bool {
	return strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable.")
}

func isEncrypted(d ocispec.Descriptor) bool { return strings.Contains(d.MediaType, "+encrypted") }

// A Config is what an image config claims.
type Config struct {
	HasRootFS  bool
	RootFSType string
	DiffIDs    []string // as written; not yet known to be digests
	Platform   ocispec.Platform
}

func configShape() shape {
	return shape{
		"":        append([]string{"rootfs"}, platformKeys...),
		".rootfs": {"type", "diff_ids"},
	}
}

// ParseConfig reads an image config. The error is a *ClaimError when it is not
// valid or when two parsers could read it differently. HasRootFS is right even
// then, as far as the bytes are JSON.
func ParseConfig(body []byte) (Config, error) {
	if err := configShape().check(body); err != nil {
		return Config{}, configError(err)
	}
	var raw struct {
		ocispec.Platform
		RootFS *struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return Config{HasRootFS: raw.RootFS != nil}, configError(err)
	}
	c := Config{Platform: raw.Platform}
	if raw.RootFS != nil {
		c.HasRootFS, c.RootFSType, c.DiffIDs = true, raw.RootFS.Type, raw.RootFS.DiffIDs
	}
	return c, nil
}

func configError(err error) error {
	if errors.Is(err, errAmbiguousJSON) {
		return &ClaimError{Reason: ReasonConfigAmbiguous, Message: "the config is ambiguous: " + strings.TrimPrefix(err.Error(), errAmbiguousJSON.Error()+": ")}
	}
	return &ClaimError{Reason: ReasonConfigInvalid, Message: "the config is not valid: " + clipError(err)}
}

// parseDiffID reads one entry of rootfs.diff_ids.
func parseDiffID(s string) (DiffID, bool) {
	d, err := digest.Parse(s)
	return DiffID(d), err == nil
}
