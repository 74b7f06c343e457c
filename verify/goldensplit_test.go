package verify_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"diffgate/verify/verifytest"
)

// igzip forgets the flags of a header that the end of its input buffer cuts,
// if it is not the first: fields behind the cut are not skipped but decoded.
// Its buffer is of 1 MiB.
const igzipBuffer = 1 << 20

// What two fields in the header of a later member do to igzip.
var gzipFields = []golden{
	{"G106", "a header cut at 1 MiB, whose name igzip decodes: it reads A+B", igzipSplit(), "gzip ambiguous", "A+end A+end A+end A+end ea90bd A+end"},
	{"G107", "a header with two fields cut at 1 MiB, which igzip refuses", cat(upTo(igzipBuffer-20), member{Content: p1, Extra: make([]byte, 20), Name: "n"}.Bytes()), "gzip ambiguous", "P1 P1 P1 P1 E P1"},
	{"G108", "a header with a name alone cut at 1 MiB", cat(upTo(igzipBuffer-12), member{Content: p1, Name: "name"}.Bytes()), "gzip P1 parts=19", "P1"},
	{"G109", "a header with an extra field alone cut at 1 MiB", cat(upTo(igzipBuffer-20), member{Content: p1, Extra: make([]byte, 20)}.Bytes()), "gzip P1 parts=19", "P1"},
	{"G110", "a header without fields cut at 1 MiB", cat(upTo(igzipBuffer-5), gz(p1)), "gzip P1 parts=19", "P1"},
	{"G111", "a header with a checksum alone cut at 1 MiB", cat(upTo(igzipBuffer-11), member{Content: p1, HeaderCRC: true}.Bytes()), "gzip P1 parts=19 HeaderCRC", "P1 P1 P1 P1 E P1"},
	{"G112", "extra field and name in the second member, and no MiB near", cat(gz(nil), member{Content: p1, Extra: []byte("x"), Name: "n"}.Bytes()), "gzip ambiguous", "P1"},
	{"G113", "name and comment in the second member", cat(gz(nil), member{Content: p1, Name: "n", Comment: "c"}.Bytes()), "gzip ambiguous", "P1"},
	{"G114", "extra field and header checksum in the second member", cat(gz(nil), member{Content: p1, Extra: []byte("x"), HeaderCRC: true}.Bytes()), "gzip ambiguous", "P1 P1 E P1 P1 P1"},
	{"G115", "a name in each of three members, as gzip writes it", cat(member{Content: p1a, Name: "a"}.Bytes(), member{Content: p1b, Name: "b"}.Bytes(), member{Name: "c"}.Bytes()), "gzip P1 parts=3", "P1"},
	{"G116", "name of 512 bytes and a comment in the first member", member{Content: p1, Name: strings.Repeat("n", 512), Comment: "c"}.Bytes(), "gzip ambiguous", "E E E P1 P1 P1"},
}

// upTo returns size bytes of members without content.
func upTo(size int) []byte {
	var out []byte
	empty := member{Extra: []byte{}}.Bytes()
	for left := size; left > 0; left = size - len(out) {
		n := min(left, 60_000)
		if rest := left - n; rest > 0 && rest < len(empty) {
			n -= len(empty)
		}
		out = append(out, member{Extra: make([]byte, n-len(empty))}.Bytes()...)
	}
	return out
}

// igzipSplit returns a blob that igzip reads as A+B, where B has an odd header,
// and all others as A and 1024 zero bytes. No field of it is damaged.
//
// Behind A and up to 1 MiB there are empty members. Then:
//
//	a header with an extra field, cut at 1 MiB, and a name
//	  of which igzip makes a stored block: B, which starts with a file name, at whose end the name of the member ends too
//	    where the name of the file has ended for tar: for the others the DEFLATE data and the trailer of the member, and
//	    the header of another, whose extra field is all the rest
//	  and another stored block, the last two bytes of B, and for igzip the trailer
//	and for the others the DEFLATE data and the trailer of an empty member, which for igzip is junk.
func igzipSplit() []byte {
	end := make([]byte, 1024)
	evil := verifytest.Tar("evil.txt", "evil\n")
	hidden := cat(verifytest.Deflate(end), gzipTrailer(end), member{Extra: []byte{}}.Header()[:10])
	const lastBlock = 5 + 2 + 8 // header, content, trailer
	from := len("evil.txt\x00")
	rest := len(evil) - 2 + lastBlock - from - len(hidden) - 2
	copy(evil[from:100], binary.LittleEndian.AppendUint16(hidden, uint16(rest)))
	sumTarHeader(evil)

	blob := gz(a)
	blob = append(blob, upTo(igzipBuffer-50-len(blob))...)
	header := member{Extra: make([]byte, 100), Name: "n"}.Header()
	return cat(blob, header[:len(header)-2],
		// The padding of a stored block's first byte keeps the name from ending.
		[]byte{0xf8}, storedSize(len(evil)-2), evil[:len(evil)-2],
		[]byte{1}, storedSize(2), evil[len(evil)-2:], gzipTrailer(evil),
		verifytest.Deflate(nil), gzipTrailer(nil))
}

// storedSize returns the length of a stored block and its complement.
func storedSize(n int) []byte {
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(n)), ^uint16(n))
}

func gzipTrailer(content []byte) []byte {
	sum := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content))
	return binary.LittleEndian.AppendUint32(sum, uint32(len(content)))
}

// sumTarHeader puts the right checksum into the first header of a tar archive.
func sumTarHeader(archive []byte) {
	field := archive[148:156]
	copy(field, bytes.Repeat([]byte(" "), len(field)))
	sum := 0
	for _, c := range archive[:512] {
		sum += int(c)
	}
	copy(field, fmt.Sprintf("%06o\x00 ", sum))
}
