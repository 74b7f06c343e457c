package verify

import (
	"archive/tar"
	"bytes"
	"errors"
)

// headSize is how many bytes of a blob, and of its content, sniffing reads: one
// tar header.
const headSize = 512

// sniff tells the encoding from the first bytes of a blob.
//
// Two bytes make a gzip: some runtimes look at two, some at three, and what
// differs in the third no decoder accepts.
func sniff(head []byte) Encoding {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(head):
		return Zstd
	case bytes.HasPrefix(head, []byte("BZh")):
		return Bzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return XZ
	}
	return Identity
}

// isSkippable reports whether head starts with a zstd skippable frame
// (RFC 8878, section 3.1.2).
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// beginsTar reports whether content that begins with head is a tar archive, as
// archive/tar reads it. Every runtime written in Go unpacks layers with that
// package, so a second reading of the format would only differ from theirs. head
// holds the first 512 bytes of the content, or all of it.
//
// Content of no bytes is a tar archive of no files: docker accepts it as a layer.
// A header that needs more than the head, such as a PAX one, counts as a header.
func beginsTar(head []byte) bool {
	if len(head) == 0 {
		return true
	}
	if len(head) < headSize {
		return false
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return !errors.Is(err, tar.ErrHeader)
}

// hasTarHeader reports whether content that begins with head is a tar archive
// with a file in it.
func hasTarHeader(head []byte) bool {
	return beginsTar(head) && len(bytes.TrimLeft(head, "\x00")) > 0
}
