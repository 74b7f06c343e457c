package verify_test

import (
	"compress/bzip2"
	"io"

	"diffgate/verify/verifytest"
)

// bzip2Columns are what moby, podman and skopeo read bzip2 with, and bzip2(1).
var bzip2Columns = []column{
	{name: "compress/bzip2", decode: func(w io.Writer, r io.Reader) error { return copyReads(w, bzip2.NewReader(r)) }},
	{name: "bzip2", program: []string{"bzip2", "-d", "-c"}, aside: true},
}

func bz(content []byte) []byte { return verifytest.Bzip2(content) }

// The rows of bzip2 blobs: what is in the blob, what we say, and what
// bzip2Columns read.
var bzip2Rows = []golden{
	{"V01", "one stream", bz(p1), "bzip2 P1", "P1"},
	{"V02", "one stream of bzip2(1)", unhex("425a6839314159265359648cbb73000000010038002000219819846177245385090648cbb730"), "bzip2 'abc' NotTar", "'abc'"}, // printf abc | bzip2, 1.0.8
	{"V03", "two streams, one tar cut in half", cat(bz(p1a), bz(p1b)), "bzip2 P1", "P1"},
	{"V04", "two streams, each a whole tar", cat(bz(p1), bz(p2)), "bzip2 P1+P2", "P1+P2"},
	{"V05", "stream of no blocks", bz(nil), "bzip2 empty", "empty"},
	{"V06", "stream of no blocks last", cat(bz(p1), bz(nil)), "bzip2 P1", "P1"},
	{"V07", "stream of no blocks first", cat(bz(nil), bz(p1)), "bzip2 P1", "P1"},
	{"V08", "200 KB that do not compress", bz(big), "bzip2 big NotTar", "big"},
	{"V09", "second stream of level 1", cat(bz(p1), level(1, bz(p2))), "bzip2 P1+P2", "P1+P2"},
	{"V10", "level 0, which is none", level(0, bz(p1)), "bzip2 corrupt", "E"},
	{"V11", "200 KB in a block of level 1, which holds 100", level(1, bz(big)), "bzip2 corrupt", "E"},
	{"V20", "one zero byte last", cat(bz(p1), make([]byte, 1)), "bzip2 corrupt", "E:P1 P1"},
	{"V21", "512 zero bytes last", cat(bz(p1), make([]byte, 512)), "bzip2 corrupt", "E:P1 P1"},
	{"V22", "one byte of junk, which bzip2(1) ignores", cat(bz(p1), []byte("x")), "bzip2 corrupt", "E:P1 P1"},
	{"V23", "32 bytes of junk", cat(bz(p1), garbage), "bzip2 corrupt", "E:P1 P1"},
	{"V24", "junk, then a stream", cat(bz(p1), garbage, bz(p2)), "bzip2 corrupt", "E:P1 P1"},
	{"V25", "a gzip member", cat(bz(p1), gz(p2)), "bzip2 corrupt", "E:P1 P1"},
	{"V26", "the magic, cut after one byte", cat(bz(p1), []byte("B")), "bzip2 corrupt", "E:P1 E"},
	{"V27", "the magic, cut after three bytes", cat(bz(p1), []byte("BZh")), "bzip2 corrupt", "E:P1 E"},
	{"V28", "the magic and a level", cat(bz(p1), []byte("BZh9")), "bzip2 corrupt", "E:P1 E"},
	{"V30", "the magic alone", []byte("BZh"), "bzip2 corrupt", "E"},
	{"V31", "the magic and a level alone", []byte("BZh9"), "bzip2 corrupt", "E"},
	{"V32", "the magic of version 1, of Huffman codes alone", []byte("BZ0\x31\x41\x59\x26\x53\x59"), "identity NotTar", "E"},
	{"V33", "cut in the block", bz(p1)[:len(bz(p1))/2], "bzip2 corrupt", "E"},
	{"V34", "no checksum of the stream", short(bz(p1), 4), "bzip2 corrupt", "E:P1 E"},
	{"V35", "the last byte is missing", short(bz(p1), 1), "bzip2 corrupt", "E:P1 E"},
	{"V36", "second stream cut", cat(bz(p1), short(bz(p2), 20)), "bzip2 corrupt", "E:P1 E"},
	{"V37", "wrong checksum of the block", changed(bz(p1), 10), "bzip2 corrupt", "E:P1 E"},
	{"V38", "wrong checksum of the stream", changed(bz(p1), len(bz(p1))-3), "bzip2 corrupt", "E:P1 E"},
	{"V39", "a wrong bit in the block", changed(bz(p1), len(bz(p1))/2), "bzip2 corrupt", "E:865491 E"},
	{"V40", "neither a block nor the end", changed(bz(p1), 5), "bzip2 corrupt", "E"},
	{"V41", "a block that says it is randomised, which bzip2 0.9 made", randomised(bz(p1)), "bzip2 corrupt", "E"},
	{"V42", "a wrong bit in a Huffman table, of which Go's library makes sense", unhex("425a6837314159265359489b82ff00000040004000200020a8283177245385090489b82ff0"), "bzip2 709e80 NotTar", "709e80 E"},
}

// level gives a stream another size of blocks, in 100 KB.
func level(n byte, stream []byte) []byte {
	return cat([]byte{'B', 'Z', 'h', '0' + n}, stream[4:])
}

// changed returns blob with another bit at a place.
func changed(blob []byte, at int) []byte {
	return cat(blob[:at], []byte{blob[at] ^ 1}, blob[at+1:])
}

// randomised sets a flag of the first block. Its checksum is wrong then.
func randomised(stream []byte) []byte {
	return cat(stream[:14], []byte{stream[14] | 0x80}, stream[15:])
}
