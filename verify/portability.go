package verify

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// portability warns about a true layer that some mainstream runtime will not
// pull. All who do pull it read the same bytes.
func (j *judge) portability(i int) {
	f, t := j.r.Layers[i].Fact, j.r.Layers[i].Descriptor.MediaType
	at := j.at(i)
	if f.Size == 0 {
		j.warn(i, "%s is a blob of no bytes: containerd refuses it", at)
		return
	}
	for _, q := range []struct {
		quirk Quirks
		what  string
	}{
		{HeaderCRC, "has a gzip header checksum, which pgzip (podman, skopeo) refuses beside other fields"},
		{LongName, "has a gzip name over 511 bytes, which runtimes without unpigz or igzip refuse"},
		{ReservedFlag, "has a reserved gzip flag, which unpigz and newer containerd refuse"},
		{TrailingZeros, "has zero bytes after the gzip stream, which runtimes without unpigz or igzip refuse"},
		{SkippableFirst, "starts with a zstd skippable frame, which podman, skopeo and crane take for uncompressed"},
	} {
		if f.Quirks&q.quirk != 0 {
			j.warn(i, "%s %s", at, q.what)
		}
	}
	if len(tocs(j.r.Layers[i].Descriptor)) > 1 {
		j.warn(i, "%s has two kinds of table of contents: podman refuses it", at)
	}
	says := typeEncoding(t)
	if says == f.Encoding || isDockerTar(t) && f.Encoding == Gzip {
		return
	}
	who := "umoci"
	switch {
	case says == Identity && !isDockerTar(t):
		who = "containerd"
	case f.Encoding == Identity:
		who = "crane"
	}
	j.warn(i, "%s is %s and its media type says %s: %s refuses it", at, inWords(f.Encoding), inWords(says), who)
}

func inWords(e Encoding) string {
	if e == Identity {
		return "uncompressed"
	}
	return e.String()
}

// isDockerTar reports whether a type is Docker's for tar archives, which has
// always been used for all encodings: every runtime looks at the bytes.
func isDockerTar(mediaType string) bool { return strings.HasSuffix(mediaType, ".diff.tar") }

// tocAnnotations hold the digest of a table of contents: of eStargz and of
// zstd:chunked.
var tocAnnotations = []string{
	"containerd.io/snapshot/stargz/toc.digest",
	"io.github.containers.zstd-chunked.manifest-checksum",
}

func tocs(d ocispec.Descriptor) []string {
	var found []string
	for _, key := range tocAnnotations {
		if v := d.Annotations[key]; v != "" {
			found = append(found, v)
		}
	}
	return found
}

// toc returns the claimed digest of the first table of contents.
func toc(d ocispec.Descriptor) string {
	if found := tocs(d); len(found) > 0 {
		return found[0]
	}
	return ""
}

// typeEncoding returns the encoding that a layer's media type names.
func typeEncoding(mediaType string) Encoding {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return Gzip
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return Zstd
	}
	return Identity
}
