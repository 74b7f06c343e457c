package verify

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// portability warns about a true layer that some mainstream runtime will not
// pull. All who do pull it read the same bytes.
func (j *judge) portability(i int) {
	f, d := j.r.Layers[i].Fact, j.r.Layers[i].Descriptor
	at := j.at(i)
	if f.Size != d.Size {
		j.warn(i, []Runtime{Containerd, Podman}, "%s has %d bytes and its descriptor says %d: containerd and podman refuse it", at, f.Size, d.Size)
	}
	if f.Size == 0 {
		j.warn(i, []Runtime{Containerd, Crane}, "%s is a blob of no bytes: containerd refuses it", at)
		return
	}
	if !f.IsTar() && isTarLayer(d) {
		j.warn(i, []Runtime{Docker, Containerd, Podman, Umoci}, "%s %s: no runtime unpacks it", at, notTar(f))
		return
	}
	if isErofs(d) {
		j.erofs(i)
		return
	}
	if !f.IsTar() {
		return // it is not unpacked
	}
	for _, q := range quirks {
		if f.Quirks&q.quirk != 0 {
			j.warn(i, q.who, "%s %s", at, q.what)
		}
	}
	if len(tocs(d)) > 1 {
		j.warn(i, []Runtime{Podman}, "%s has two kinds of table of contents: podman refuses it", at)
	}
	says := typeEncoding(d.MediaType)
	switch {
	case !isTarLayer(d):
		who, names := []Runtime{Containerd}, "containerd does"
		if !mayBeLayer(d) {
			who, names = []Runtime{Docker, Containerd}, "docker and containerd do"
		}
		j.warn(i, who, "%s is a tar archive and its media type is %+q: %s not unpack it", at, clip(d.MediaType), names)
	case f.Encoding == Bzip2, f.Encoding == XZ:
		j.warn(i, []Runtime{Containerd, Crane, Umoci}, "%s is %s: containerd does not unpack it", at, f.Encoding)
	case says == f.Encoding, isDockerTar(d.MediaType) && f.Encoding == Gzip:
	case says == Identity && !isDockerTar(d.MediaType):
		j.mistyped(i, says, Containerd, Umoci)
	case f.Encoding == Identity:
		j.mistyped(i, says, Crane)
	case f.Encoding == Zstd:
		j.mistyped(i, says, Umoci, Crane)
	default:
		j.mistyped(i, says, Umoci)
	}
}

// notTar says that content is no tar archive.
func notTar(f *Fact) string {
	if f.Encoding == Identity {
		return "is not a tar, gzip or zstd stream"
	}
	return "does not unpack to a tar archive"
}

// erofs warns about an EROFS layer.
func (j *judge) erofs(i int) {
	base, _, _ := strings.Cut(normalType(j.r.Layers[i].Descriptor.MediaType), "+")
	what := "is EROFS: docker and containerd before 2.3 do not mount it"
	if base == erofsDraftType {
		what = "is EROFS under a media type that was only proposed: docker and containerd do not mount it"
	}
	j.warn(i, []Runtime{Docker, Podman, Containerd}, "%s %s, and podman unpacks it as an empty archive", j.at(i), what)
}

// mistyped warns about a layer whose bytes are not what its media type says.
func (j *judge) mistyped(i int, says Encoding, who ...Runtime) {
	j.warn(i, who, "%s is %s and its media type says %s: %s refuses it", j.at(i), inWords(j.r.Layers[i].Fact.Encoding), inWords(says), who[0])
}

// quirks says who refuses which quirk.
var quirks = []struct {
	quirk Quirks
	who   []Runtime
	what  string
}{
	{HeaderCRC, []Runtime{Podman}, "has a gzip header checksum, which podman refuses beside other fields"},
	{LongName, []Runtime{WithoutPigz, Podman, Crane, Umoci}, "has a gzip name over 511 bytes, which runtimes without unpigz or igzip refuse"},
	{ReservedFlag, []Runtime{WithPigz, Containerd}, "has a reserved gzip flag, which unpigz and newer containerd refuse"},
	{TrailingZeros, []Runtime{WithoutPigz, Podman, Crane, Umoci}, "has zero bytes after the gzip stream, which runtimes without unpigz or igzip refuse"},
	{LargeWindow, []Runtime{}, "has a zstd window over 128 MiB, which zstd(1) refuses unless it is told to accept it"},
	{SkippableFirst, []Runtime{Podman, Crane}, "starts with a zstd skippable frame, which podman, skopeo and crane take for uncompressed"},
}

func inWords(e Encoding) string {
	if e == Identity {
		return "uncompressed"
	}
	return e.String()
}

// isDockerTar reports whether a type is Docker's for tar archives, which has
// always been used for all encodings: every runtime looks at the bytes.
func isDockerTar(mediaType string) bool { return strings.HasSuffix(normalType(mediaType), ".diff.tar") }

// tocAnnotations hold the digest of a table of contents, by its kind: of eStargz
// and of zstd:chunked, which has two names for it.
var tocAnnotations = [][]string{
	{"containerd.io/snapshot/stargz/toc.digest"},
	{"io.github.containers.zstd-chunked.manifest-checksum", "io.containers.zstd-chunked.manifest-checksum"},
}

// tocs returns the claimed digest of a table of contents of each kind.
func tocs(d ocispec.Descriptor) []string {
	var found []string
	for _, keys := range tocAnnotations {
		for _, key := range keys {
			if v := d.Annotations[key]; v != "" {
				found = append(found, v)
				break
			}
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
	mediaType = normalType(mediaType)
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return Gzip
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return Zstd
	}
	return Identity
}
