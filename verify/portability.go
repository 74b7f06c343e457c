package verify

import "strings"

// portability warns about a true layer that some mainstream runtime will not
// pull. All who do pull it read the same bytes.
func (j *judge) portability(i int) {
	f, t := j.r.Layers[i].Fact, j.r.Layers[i].Descriptor.MediaType
	at := j.at(i)
	if f.Size == 0 {
		j.warn(i, "%s is a blob of no bytes: containerd refuses it", at)
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
	if says := typeEncoding(t); says != f.Encoding && !sniffedAlways(t, f.Encoding) {
		who := "umoci"
		if says == Identity {
			who = "containerd"
		}
		j.warn(i, "%s is %s and its media type says %s: %s refuses it", at, f.Encoding, says, who)
	}
}

// sniffedAlways reports whether every runtime looks at the bytes of the type:
// docker's own tar type has always been used for all encodings.
func sniffedAlways(mediaType string, e Encoding) bool {
	return mediaType == "application/vnd.docker.image.rootfs.diff.tar" && e == Gzip
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
