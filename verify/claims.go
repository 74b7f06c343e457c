package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The Docker media types (distribution, manifest v2 schema 2), those of schema 1,
// and those of artifact manifests.
const (
	mediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	mediaTypeSchema1            = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed      = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	mediaTypeOCIArtifact        = "application/vnd.oci.artifact.manifest.v1+json"
	mediaTypeORASArtifact       = "application/vnd.cncf.oras.artifact.manifest.v1+json"
)

// A Kind is what a manifest is by its media type.
type Kind uint8

// The kinds of manifest.
const (
	UnknownKind  Kind = iota // nothing that this package can judge
	ImageKind                // an OCI image manifest or Docker schema 2
	IndexKind                // an OCI image index or Docker manifest list
	Schema1Kind              // Docker schema 1, which carries no DiffIDs
	ArtifactKind             // an artifact manifest of OCI 1.1's drafts or of ORAS, which has neither config nor layers
)

// MediaTypeOf returns the media type of a manifest: the one that it is served with,
// or else the one in its body, or else the one that its keys show. Some registries
// serve every manifest as JSON. It returns served if nothing shows that the body is a
// manifest.
func MediaTypeOf(served string, body []byte) string { return manifestType(served, "", body) }

// manifestType is MediaTypeOf for a manifest that an image index names with a media
// type, which counts more than its keys.
func manifestType(served, named string, body []byte) string {
	if KindOf(served) != UnknownKind {
		return served
	}
	var says struct {
		MediaType                 string
		Config, Layers, Manifests json.RawMessage
	}
	switch err := json.Unmarshal(body, &says); {
	case err == nil && says.MediaType != "":
		return says.MediaType
	case KindOf(named) != UnknownKind:
		return named
	case err == nil && says.Config != nil && says.Layers != nil:
		return ocispec.MediaTypeImageManifest
	case err == nil && says.Manifests != nil:
		return ocispec.MediaTypeImageIndex
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
	case mediaTypeOCIArtifact, mediaTypeORASArtifact:
		return ArtifactKind
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
	return shape{keys: map[string][]string{
		"":                       {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers", "blobs"},
		".config":                descriptorKeys,
		".config.platform":       platformKeys,
		".layers.[]":             descriptorKeys,
		".layers.[].platform":    platformKeys,
		".manifests.[]":          descriptorKeys,
		".manifests.[].platform": platformKeys,
	}}
}

// ParseManifest reads a manifest that was sent as contentType.
//
// A manifest of UnknownKind or Schema1Kind is returned unread. The error is a
// *ClaimError when the manifest is not valid or when two parsers could read it
// differently: as another kind (CVE-2021-41190), with other layers, or with
// inline data that is not the blob. An optional field that is null or empty is
// read as if it were absent.
func ParseManifest(contentType string, body []byte) (Manifest, error) {
	m := Manifest{Kind: KindOf(contentType), MediaType: baseType(contentType)}
	if m.Kind == UnknownKind || m.Kind == Schema1Kind {
		return m, nil
	}
	if _, err := manifestShape().check(body); err != nil {
		return m, manifestError(err)
	}
	var raw rawManifest
	if err := json.Unmarshal(body, &raw); err != nil {
		return m, manifestError(err)
	}
	if err := raw.kind(m); err != nil {
		return m, err
	}
	switch m.Kind {
	case ArtifactKind:
		return m, nil
	case IndexKind:
		m.Manifests = raw.Manifests
		return m, checkDescriptors("manifest", m.Manifests)
	}
	if raw.Config == nil {
		return m, &ClaimError{Reason: ReasonConfigInvalid, Message: "the manifest names no config"}
	}
	config := []ocispec.Descriptor{*raw.Config}
	err := checkDescriptors("config", config)
	m.Config, m.Layers = config[0], raw.Layers
	if err != nil {
		return m, err
	}
	return m, checkDescriptors("layer", m.Layers)
}

// A rawManifest is a manifest of any kind.
type rawManifest struct {
	MediaType string               `json:"mediaType"`
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	FSLayers  json.RawMessage      `json:"fsLayers"`
}

// kind returns an error when the document can be read as another kind than m's.
func (r rawManifest) kind(m Manifest) error {
	switch old := string(r.FSLayers); {
	case r.MediaType != "" && r.MediaType != m.MediaType:
		return ambiguousManifest("its mediaType is %+q and it was sent as %q", clip(r.MediaType), m.MediaType)
	case old != "" && old != "null" && old != `""`:
		return ambiguousManifest("it has fsLayers, as schema 1 has, and was sent as %q", m.MediaType)
	case m.Kind == IndexKind && (r.Config != nil || r.Layers != nil):
		return ambiguousManifest("it is an image index with config or layers")
	case m.Kind == ArtifactKind && (r.Config != nil || r.Layers != nil || r.Manifests != nil):
		return ambiguousManifest("it is an artifact manifest with config, layers or manifests")
	case m.Kind == ImageKind && r.Manifests != nil:
		return ambiguousManifest("it is an image manifest with manifests")
	}
	return nil
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

// checkDescriptors returns what is wrong with the first bad descriptor. It removes
// inline data of no bytes.
func checkDescriptors(what string, descs []ocispec.Descriptor) error {
	for i, d := range descs {
		if err := d.Digest.Validate(); err != nil {
			return &ClaimError{Reason: ReasonManifestInvalid, Message: fmt.Sprintf("%s %d of %d has the invalid digest %+q", what, i+1, len(descs), clip(d.Digest.String()))}
		}
		if d.Size < 0 {
			return &ClaimError{Reason: ReasonManifestInvalid, Message: fmt.Sprintf("%s %d of %d has a negative size", what, i+1, len(descs))}
		}
		if len(d.Data) == 0 {
			descs[i].Data = nil
			continue
		}
		// A client that uses the data must read what a client that fetches the
		// blob reads.
		if d.Digest.Algorithm().FromBytes(d.Data) != d.Digest || d.Size != int64(len(d.Data)) {
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
