package verify_test

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"hash/crc32"
	"strings"

	"diffgate/verify/verifytest"
)

var garbage = []byte("GARBAGE GARBAGE GARBAGE GARBAGE ")

// What may stand after the last member.
var gzipTrailing = []golden{
	{"G70", "one zero byte", cat(gz(p1), make([]byte, 1)), "gzip P1 trailing=1 TrailingZeros", "E:P1 E:P1 E:P1 P1 P1 P1"},
	{"G71", "512 zero bytes", cat(gz(p1), make([]byte, 512)), "gzip P1 trailing=512 TrailingZeros", "E:P1 E:P1 E:P1 P1 P1 P1"},
	{"G72", "100 000 zero bytes", cat(gz(p1), make([]byte, 100_000)), "gzip P1 trailing=100000 TrailingZeros", "E:P1 E:P1 E:P1 P1 P1 P1"},
	{"G73", "one byte of junk", cat(gz(p1), []byte("x")), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G74", "32 bytes of junk", cat(gz(p1), garbage), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G75", "100 000 bytes of junk", cat(gz(p1), noise(100_000)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G76", "1f", cat(gz(p1), []byte{0x1f}), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 E E"},
	{"G77", "1f 8b", cat(gz(p1), []byte{0x1f, 0x8b}), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 E E"},
	{"G78", "1f 8b 08: a header, cut", cat(gz(p1), []byte{0x1f, 0x8b, 8}), "gzip corrupt", "E:P1 E:P1 E:P1 P1 E E"},
	{"G79", "512 zero bytes, then a member", cat(gz(p1), make([]byte, 512), gz(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G80", "one zero byte, then a member", cat(gz(p1), make([]byte, 1), gz(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G81", "junk, then a member", cat(gz(p1), garbage, gz(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G82", "512 zero bytes, then junk", cat(gz(p1), make([]byte, 512), garbage), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G83", "a zlib stream, which unpigz decodes", cat(gz(p1), zlibbed(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1+P2 P1 E"},
	{"G84", "an LZW stream, which gzip(1) decodes", cat(gz(p1), compressed(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 P1+P2"},
	{"G85", "a raw DEFLATE stream", cat(gz(p1), verifytest.Deflate(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G86", "a zstd frame", cat(gz(p1), verifytest.Zstd(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 P1 E"},
	{"G87", "a zip entry, which unpigz decodes", cat(gz(p1), zipped(p2)), "gzip ambiguous", "E:P1 E:P1 E:P1 P1+P2 P1 E"},
}

// What is not gzip at all, and what is two things at once.
var otherFormats = []golden{
	{"N01", "a tar", p1, "identity", "E"},
	{"N02", "a zlib stream", zlibbed(p2), "identity NotTar", "E E E P2 E E"},
	{"N03", "an LZW stream", compressed(p2), "identity NotTar", "E E E P2 E P2"},
	{"N04", "a raw DEFLATE stream", verifytest.Deflate(p2), "identity NotTar", "E"},
	{"N05", "1f 8b 08, then text", cat([]byte{0x1f, 0x8b, 8}, garbage), "gzip corrupt", "E"},
	{"N06", "a zip entry", zipped(p2), "identity NotTar", "E E E P2 E P2"},
	{"N07", "the magic of pack, then text", cat([]byte{0x1f, 0x1e}, garbage), "identity NotTar", "E"},
	{"N08", "the magic of bzip2, then text", cat([]byte("BZh9"), garbage), "bzip2 corrupt", "E"},
	{"N09", "the magic of xz, then text", cat([]byte("\xfd7zXZ\x00"), garbage), "xz corrupt", "E"},
	{"N10", "a tar and a gzip stream at once", verifytest.TarOrGzip(p2), "gzip ambiguous", "P2"},
	{"N11", "a tar and a zstd stream at once", verifytest.TarOrZstd(p2), "zstd ambiguous", "E"},
	{"N12", "a tar and a gzip stream, with a tar checksum that only some readers take", lenientChecksum(verifytest.TarOrGzip(p2)), "gzip ambiguous", "P2"},
	{"X01", "A, then B with a reserved flag: unpigz reads A", verifytest.TwoContents(a, b), "gzip ambiguous", "A+B E:A A+B A A+B E"},
	{"X02", "A, then B with a wrong header checksum", cat(gz(a), member{Content: b, WrongHeaderCRC: true}.Bytes()), "gzip ambiguous", "E:A E:A E:A A E E"},
	{"X03", "A, then a zlib stream of B: unpigz reads A+B", cat(gz(a), zlibbed(b)), "gzip ambiguous", "E:A E:A E:A A+B A E"},
	{"X04", "A, 512 zero bytes, B: python reads A+B", cat(gz(a), make([]byte, 512), gz(b)), "gzip ambiguous", "E:A E:A E:A A A E"},
	{"X05", "A, then an LZW stream: gzip(1) reads both", cat(gz(a), compressed(b)), "gzip ambiguous", "E:A E:A E:A A A A+B"},
}

func zlibbed(content []byte) []byte {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	w.Write(content)
	w.Close()
	return buf.Bytes()
}

// zipped returns the local entry of a zip archive, which is what decoders look
// at; there is no directory.
func zipped(content []byte) []byte {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	data := verifytest.Deflate(content)
	f, err := w.CreateRaw(&zip.FileHeader{
		Name:               "P2",
		Method:             zip.Deflate,
		CRC32:              crc32.ChecksumIEEE(content),
		CompressedSize64:   uint64(len(data)),
		UncompressedSize64: uint64(len(content)),
	})
	if err == nil {
		f.Write(data)
	}
	w.Flush()
	return buf.Bytes()
}

// compressed returns content as compress(1) stores it: codes of nine bits, all
// literal, and now and then the one that clears the table before it grows to
// codes of ten.
func compressed(content []byte) []byte {
	var codes strings.Builder
	for i, c := range content {
		codes.WriteString(number(int(c), 9))
		if i%247 == 246 { // with the code for it, a whole number of bytes
			codes.WriteString(number(256, 9))
		}
	}
	return cat([]byte{0x1f, 0x9d, 0x90}, pack(codes.String()))
}

// lenientChecksum gives a tar header a checksum field as archive/tar takes it:
// digits, a zero byte, and then anything.
func lenientChecksum(blob []byte) []byte {
	blob = bytes.Clone(blob)
	blob[155] = 'x'
	return blob
}
