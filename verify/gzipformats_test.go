package verify_test

import (
	"archive/zip"
	"bytes"
	"compress/zlib"

	"diffgate/verify/verifytest"
)

var garbage = []byte("GARBAGE GARBAGE GARBAGE GARBAGE ")

// What may stand after the last member.
var gzipTrailing = []golden{
	{"G70", "one zero byte", cat(gz(p1), make([]byte, 1)), "gzip P1 trailing=1 TrailingZeros", [2]string{"E:P1", "E:P1"}},
	{"G71", "512 zero bytes", cat(gz(p1), make([]byte, 512)), "gzip P1 trailing=512 TrailingZeros", [2]string{"E:P1", "E:P1"}},
	{"G72", "100 000 zero bytes", cat(gz(p1), make([]byte, 100_000)), "gzip P1 trailing=100000 TrailingZeros", [2]string{"E:P1", "E:P1"}},
	{"G73", "one byte of junk", cat(gz(p1), []byte("x")), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G74", "32 bytes of junk", cat(gz(p1), garbage), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G75", "100 000 bytes of junk", cat(gz(p1), noise(100_000)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G76", "1f", cat(gz(p1), []byte{0x1f}), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G77", "1f 8b", cat(gz(p1), []byte{0x1f, 0x8b}), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G78", "1f 8b 08: a header, cut", cat(gz(p1), []byte{0x1f, 0x8b, 8}), "gzip corrupt", [2]string{"E:P1", "E:P1"}},
	{"G79", "512 zero bytes, then a member", cat(gz(p1), make([]byte, 512), gz(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G80", "one zero byte, then a member", cat(gz(p1), make([]byte, 1), gz(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G81", "junk, then a member", cat(gz(p1), garbage, gz(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G82", "512 zero bytes, then junk", cat(gz(p1), make([]byte, 512), garbage), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G83", "a zlib stream, which unpigz decodes", cat(gz(p1), zlibbed(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G84", "an LZW stream, which gzip(1) decodes", cat(gz(p1), compressed("P2")), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G85", "a raw DEFLATE stream", cat(gz(p1), verifytest.Deflate(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G86", "a zstd frame", cat(gz(p1), verifytest.Zstd(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
	{"G87", "a zip entry, which unpigz decodes", cat(gz(p1), zipped(p2)), "gzip ambiguous", [2]string{"E:P1", "E:P1"}},
}

// What is not gzip at all, and what is two things at once.
var otherFormats = []golden{
	{"N01", "a tar", p1, "identity", [2]string{"E", "E"}},
	{"N02", "a zlib stream", zlibbed(p2), "identity", [2]string{"E", "E"}},
	{"N03", "an LZW stream", compressed("P2"), "identity", [2]string{"E", "E"}},
	{"N04", "a raw DEFLATE stream", verifytest.Deflate(p2), "identity", [2]string{"E", "E"}},
	{"N05", "1f 8b 08, then text", cat([]byte{0x1f, 0x8b, 8}, garbage), "gzip corrupt", [2]string{"E", "E"}},
	{"N06", "a zip entry", zipped(p2), "identity", [2]string{"E", "E"}},
	{"N07", "the magic of pack, then text", cat([]byte{0x1f, 0x1e}, garbage), "identity", [2]string{"E", "E"}},
	{"N08", "the magic of bzip2, then text", cat([]byte("BZh9"), garbage), "bzip2 unsupported", [2]string{"E", "E"}},
	{"N09", "the magic of xz, then text", cat([]byte("\xfd7zXZ\x00"), garbage), "xz unsupported", [2]string{"E", "E"}},
	{"N10", "a tar and a gzip stream at once", verifytest.TarOrGzip(p2), "gzip ambiguous", [2]string{"P2", "P2"}},
	{"N11", "a tar and a zstd stream at once", verifytest.TarOrZstd(p2), "zstd ambiguous", [2]string{"E", "E"}},
	{"N12", "a tar and a gzip stream, with a tar checksum that only some readers take", lenientChecksum(verifytest.TarOrGzip(p2)), "gzip ambiguous", [2]string{"P2", "P2"}},
	{"X01", "A, then B with a reserved flag: unpigz reads A", verifytest.TwoContents(a, b), "gzip ambiguous", [2]string{"A+B", "E:A"}},
	{"X02", "A, then B with a wrong header checksum", cat(gz(a), member{Content: b, WrongHeaderCRC: true}.Bytes()), "gzip ambiguous", [2]string{"E:A", "E:A"}},
	{"X03", "A, then a zlib stream of B: unpigz reads A+B", cat(gz(a), zlibbed(b)), "gzip ambiguous", [2]string{"E:A", "E:A"}},
	{"X04", "A, 512 zero bytes, B: python reads A+B", cat(gz(a), make([]byte, 512), gz(b)), "gzip ambiguous", [2]string{"E:A", "E:A"}},
	{"X05", "A, then an LZW stream: gzip(1) reads both", cat(gz(a), compressed("B")), "gzip ambiguous", [2]string{"E:A", "E:A"}},
}

func zlibbed(content []byte) []byte {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	w.Write(content)
	w.Close()
	return buf.Bytes()
}

func zipped(content []byte) []byte {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	if f, err := w.Create("P2"); err == nil {
		f.Write(content)
	}
	w.Flush() // a local entry is what decoders look at; no directory
	return buf.Bytes()
}

// compressed returns a text of less than 255 bytes as compress(1) stores it:
// codes of nine bits, all literal.
func compressed(text string) []byte {
	var codes string
	for _, c := range []byte(text) {
		codes += number(int(c), 9)
	}
	return cat([]byte{0x1f, 0x9d, 0x90}, pack(codes))
}

// lenientChecksum gives a tar header a checksum field as archive/tar takes it:
// digits, a zero byte, and then anything.
func lenientChecksum(blob []byte) []byte {
	blob = bytes.Clone(blob)
	blob[155] = 'x'
	return blob
}
