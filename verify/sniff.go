package verify

import (
	"bytes"
	"strconv"
)

// headSize is how much of a blob's start sniffing looks at: one tar header.
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

// isTarStart reports whether a blob with that head may be a tar archive: it is
// empty, as docker allows, or starts with a header or an end marker.
func isTarStart(head []byte) bool {
	return len(head) == 0 || isTarHeader(head) || bytes.Equal(head, make([]byte, headSize))
}

// isTarHeader reports whether head is a tar header by its checksum, the one
// thing that every tar reader looks at before it believes a header. Readers
// differ in what may follow the digits, so anything may.
func isTarHeader(head []byte) bool {
	if len(head) < headSize {
		return false
	}
	digits := bytes.TrimLeft(head[148:156], " \x00")
	if end := bytes.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '7' }); end >= 0 {
		digits = digits[:end]
	}
	want, err := strconv.ParseInt(string(digits), 8, 64)
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, b := range head[:headSize] {
		if i >= 148 && i < 156 {
			b = ' ' // the checksum counts its own field as blanks
		}
		unsigned += int64(b)
		signed += int64(int8(b))
	}
	return want == unsigned || want == signed
}
