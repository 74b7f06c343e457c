package verify_test

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"

	"diffgate/verify/verifytest"
)

// xzColumns are what podman and skopeo read xz with, and what moby runs.
var xzColumns = []column{
	{name: "ulikunitz/xz", decode: unxz},
	{name: "xz", program: []string{"xz", "-d", "-c", "-q"}},
}

func unxz(w io.Writer, r io.Reader) error {
	z, err := xz.NewReader(r)
	if err != nil {
		return err
	}
	return copyReads(w, z)
}

// The rows of xz blobs: what is in the blob, what we say, and what xzColumns
// read.
var xzFraming = []golden{
	{"W01", "one stream of the library", verifytest.XZ(p1), "xz P1", "P1"},
	{"W02", "one stream of xz(1)", madeByXZ, "xz 'abc' NotTar", "'abc'"},
	{"W03", "two streams, one tar cut in half", cat(xzd(p1a), xzd(p1b)), "xz P1 parts=2", "P1"},
	{"W04", "two streams, each a whole tar", cat(xzd(p1), xzd(p2)), "xz P1+P2 parts=2", "P1+P2"},
	{"W05", "two blocks, one tar cut in half", xzStream(checkCRC64, xzBlock{content: p1a}, xzBlock{content: p1b}), "xz P1", "P1"},
	{"W06", "stream of no blocks last", cat(xzd(p1), xzStream(checkCRC64)), "xz P1 parts=2", "P1"},
	{"W07", "stream of no blocks first", cat(xzStream(checkCRC64), xzd(p1)), "xz P1 parts=2", "P1"},
	{"W08", "only a stream of no blocks", xzStream(checkCRC64), "xz empty", "empty"},
	{"W09", "a block of no content between two", xzStream(checkCRC64, xzBlock{content: p1a}, xzBlock{}, xzBlock{content: p1b}), "xz P1", "P1"},
	{"W10", "no check", xzStream(checkNone, xzBlock{content: p1}), "xz P1", "P1"},
	{"W11", "CRC-32", xzStream(checkCRC32, xzBlock{content: p1}), "xz P1", "P1"},
	{"W12", "SHA-256", xzStream(checkSHA256, xzBlock{content: p1}), "xz P1", "P1"},
	{"W13", "check 2, which nobody knows: xz(1) decodes it and exits with 2", xzStream(2, xzBlock{content: p1}), "xz corrupt", "E"},
	{"W14", "a reserved stream flag", cat([]byte("\xfd7zXZ\x00"), summed([]byte{1, checkCRC64}), xzd(p1)[12:]), "xz corrupt", "E"},
	{"W15", "200 KB that do not compress", xzd(big), "xz big NotTar", "big"},
	{"W16", "stored chunks", xzStream(checkCRC64, xzBlock{content: p1, data: cat(storedChunk(1, p1a), storedChunk(2, p1b), []byte{0})}), "xz P1", "P1"},
	{"W17", "right sizes in the block header", xzStream(checkCRC64, sized(p1, 0, 0)), "xz P1", "P1"},
	{"W18", "two chunks that reset the dictionary", xzStream(checkCRC64, xzBlock{content: p1, data: cat(short(lzma2Of(p1a), 1), lzma2Of(p1b))}), "xz P1", "P1"},
	{"W19", "eight bytes more of padding in the block header than it needs", xzStream(checkCRC64, xzBlock{content: p1, padding: 2}), "xz P1", "P1"},
}

var xzPadding = []golden{
	{"W20", "four zero bytes last", cat(xzd(p1), make([]byte, 4)), "xz P1", "P1"},
	{"W21", "512 zero bytes last", cat(xzd(p1), make([]byte, 512)), "xz P1", "P1"},
	{"W22", "eight zero bytes between streams", cat(xzd(p1), make([]byte, 8), xzd(p2)), "xz P1+P2 parts=2", "P1+P2"},
	{"W23", "three zero bytes last", cat(xzd(p1), make([]byte, 3)), "xz corrupt", "E:P1 E"},
	{"W24", "six zero bytes between streams", cat(xzd(p1), make([]byte, 6), xzd(p2)), "xz corrupt", "E:P1 E"},
	{"W25", "one byte of junk", cat(xzd(p1), []byte("x")), "xz corrupt", "E:P1 E"},
	{"W26", "32 bytes of junk", cat(xzd(p1), garbage), "xz corrupt", "E:P1 E"},
	{"W27", "four zero bytes, then junk", cat(xzd(p1), make([]byte, 4), garbage), "xz corrupt", "E:P1 E"},
	{"W28", "junk, then a stream", cat(xzd(p1), garbage, xzd(p2)), "xz corrupt", "E:P1 E"},
	{"W29", "a gzip member", cat(xzd(p1), gz(p2)), "xz corrupt", "E:P1 E"},
	{"W2a", "an lzma stream, which xz(1) decodes alone", cat(xzd(p1), unhex("5d00008000ffffffffffffffff00341949ee8def8c6bed37ac31d7fffffd987000")), "xz corrupt", "E:P1 E"}, // printf 'hello, xz\n' | xz --format=lzma, 5.4.1
	{"W2b", "the magic", cat(xzd(p1), xzd(p1)[:6]), "xz corrupt", "E:P1 E"},
	{"W2c", "the first three bytes of the magic", cat(xzd(p1), xzd(p1)[:3]), "xz corrupt", "E:P1 E"},
}

var xzDamage = []golden{
	{"W30", "cut in the data", short(xzd(big), 100_000), "xz corrupt", "E:e3dde7 E"},
	{"W31", "cut before the check of the block", cat(xzHead(checkCRC64), short(xzBlock{content: p1}.bytes(checkCRC64), 8)), "xz corrupt", "E:P1 E"},
	{"W32", "cut before the list, which the library takes for the end", cat(xzHead(checkCRC64), xzBlock{content: p1}.bytes(checkCRC64)), "xz corrupt", "P1 E"},
	{"W33", "cut in the list", short(xzd(p1), 18), "xz corrupt", "E:P1 E"},
	{"W34", "cut before the footer", short(xzd(p1), 12), "xz corrupt", "E:P1 E"},
	{"W35", "the last byte is missing", short(xzd(p1), 1), "xz corrupt", "E:P1 E"},
	{"W36", "the header of a stream alone, which the library takes for an empty one", xzHead(checkCRC64), "xz corrupt", "empty E"},
	{"W37", "the magic alone", xzHead(checkCRC64)[:6], "xz corrupt", "E"},
	{"W38", "second stream is a header alone", cat(xzd(p1), xzHead(checkCRC64)), "xz corrupt", "P1 E"},
	{"W39", "cut in the header of the second block", cat(xzHead(checkCRC64), xzBlock{content: p1}.bytes(checkCRC64), xzBlock{content: p2}.header()[:5]), "xz corrupt", "P1 E"},
	{"W40", "wrong check of the block", cat(xzHead(checkCRC64), flipped(xzBlock{content: p1}.bytes(checkCRC64)), xzEnd(checkCRC64, xzBlock{content: p1})), "xz corrupt", "E:P1 E"},
	{"W41", "wrong checksum of the stream header", cat(flipped(xzHead(checkCRC64)), xzd(p1)[12:]), "xz corrupt", "E"},
	{"W42", "wrong checksum of the block header", cat(xzHead(checkCRC64), flipped(xzBlock{}.header()), xzd(p1)[24:]), "xz corrupt", "E"},
	{"W43", "wrong checksum of the list", xzListed(flipped(xzList([]byte{1}, xzBlock{content: p1}.record(checkCRC64)))), "xz corrupt", "E:P1 E"},
	{"W44", "wrong magic of the footer", flipped(xzd(p1)), "xz corrupt", "E:P1 E"},
	{"W45", "wrong size of the list in the footer", cat(short(xzd(p1), 12), xzFoot(checkCRC64, 1000)), "xz corrupt", "E:P1 E"},
	{"W46", "another check in the footer", cat(short(xzd(p1), 12), xzFoot(checkCRC32, 12)), "xz corrupt", "E:P1 E"},
	{"W47", "a list of two blocks where there is one", xzListed(xzList([]byte{2}, xzBlock{content: p1}.record(checkCRC64), xzBlock{content: p1}.record(checkCRC64))), "xz corrupt", "E:P1 E"},
	{"W48", "a wrong size in the list", xzListed(xzList([]byte{1}, xzBlock{content: p2}.record(checkCRC64))), "xz corrupt", "E:P1 E"},
	{"W49", "stream padding in the list", xzListed(append(xzList([]byte{1}, xzBlock{content: p1}.record(checkCRC64)), 0, 0, 0, 0)), "xz corrupt", "E:P1 E"},
	{"W4a", "content one byte longer than the block header says", xzStream(checkCRC64, sized(p1, 0, -1)), "xz corrupt", "E:P1 E"},
	{"W4b", "content one byte shorter", xzStream(checkCRC64, sized(p1, 0, 1)), "xz corrupt", "E:P1 E"},
	{"W4c", "data four bytes longer than the block header says", xzStream(checkCRC64, sized(p1, -4, 0)), "xz corrupt", "E:P1 E"},
	{"W4d", "data four bytes shorter", xzStream(checkCRC64, sized(p1, 4, 0)), "xz corrupt", "E:P1 E"},
	{"W4e", "wrong checks in both of two streams of equal length", cat(short(xzd(p1), 1), xzd(p1)), "xz corrupt", "E:P1 E"},
}

// What the library and xz(1) do not agree on, or do not decode.
var xzFilters = []golden{
	{"W50", "a filter for x86 code, as of xz --x86", xzStream(checkCRC64, xzBlock{content: p1, count: 1, filters: []byte{4, 0, 0x21, 1, 8}}), "xz unsupported", "E P1"},
	{"W51", "a filter for ARM64 code", xzStream(checkCRC64, xzBlock{content: p1, count: 1, filters: []byte{10, 0, 0x21, 1, 8}}), "xz unsupported", "E P1"},
	{"W52", "the delta filter", xzStream(checkCRC64, xzBlock{content: p1, data: lzma2Of(deltas(p1)), count: 1, filters: []byte{3, 1, 0, 0x21, 1, 8}}), "xz unsupported", "E P1"},
	{"W53", "filter 0x7f, which nobody knows", xzStream(checkCRC64, xzBlock{content: p1, filters: []byte{0x7f, 1, 0}}), "xz unsupported", "E"},
	{"W54", "LZMA2 twice", xzStream(checkCRC64, xzBlock{content: p1, count: 1, filters: []byte{0x21, 1, 0, 0x21, 1, 8}}), "xz unsupported", "E"},
	{"W55", "a filter for x86 code in a header that is damaged", cat(xzHead(checkCRC64), flipped(xzBlock{count: 1, filters: []byte{4, 0, 0x21, 1, 8}}.header()), lzma2Of(p1)), "xz corrupt", "E"},
	{"W60", "dictionary of 128 MiB", xzStream(checkCRC64, xzBlock{content: p1, dictionary: 30}), "xz P1", "P1"},
	{"W61", "dictionary of 192 MiB", xzStream(checkCRC64, xzBlock{content: p1, dictionary: 31}), "xz P1", "P1"},
	{"W62", "dictionary of 192 MiB in the second block", xzStream(checkCRC64, xzBlock{content: p1a}, xzBlock{content: p1b, dictionary: 31}), "xz P1", "P1"},
	{"W63", "dictionary of 192 MiB in the second stream", cat(xzd(p1a), xzStream(checkCRC64, xzBlock{content: p1b, dictionary: 31})), "xz P1 parts=2", "P1"},
	{"W64", "dictionary code 41, which is none", xzStream(checkCRC64, xzBlock{content: p1, dictionary: 41}), "xz corrupt", "E"},
	{"W65", "a distance beyond the dictionary", xzStream(checkCRC64, xzBlock{content: cat(big[:70_000], big[:70_000]), data: far(big[:70_000])}), "xz corrupt", "E:85732b E"},
	{"W70", "a number of blocks that takes more bytes than it needs", xzListed(xzList([]byte{0x81, 0}, xzBlock{content: p1}.record(checkCRC64))), "xz corrupt", "P1 E"},
	{"W71", "a chunk that is not used up", xzStream(checkCRC64, xzBlock{content: cat(p1, p2), data: looseChunk(p1, p2)}), "xz corrupt", "P1+P2 E"},
	{"W72", "first chunk does not reset the dictionary", xzStream(checkCRC64, xzBlock{content: p1, data: cat(storedChunk(2, p1), []byte{0})}), "xz corrupt", "E"},
	{"W73", "a chunk that keeps the state after a stored one", xzStream(checkNone, xzBlock{content: cat(p1, p2, p1), data: keptState(p1, p2)}), "xz fbf711", "fbf711"},
	{"W74", "no end of the chunks", cat(xzHead(checkCRC64), xzBlock{content: p1, data: short(lzma2Of(p1), 1)}.bytes(checkCRC64)), "xz corrupt", "P1 E"},
	{"W75", "chunk type 3, which is none", xzStream(checkCRC64, xzBlock{content: p1, data: []byte{3, 0, 0, 0, 0}}), "xz corrupt", "E"},
	{"W76", "a compressed size of 0 in the block header", xzStream(checkCRC64, xzBlock{content: p1, sizeFlags: 0x40, sizes: []byte{0}}), "xz corrupt", "E:P1 E"},
	{"W77", "a reserved flag in the block header", xzStream(checkCRC64, xzBlock{content: p1, sizeFlags: 4}), "xz corrupt", "E"},
}

// madeByXZ is what xz 5.4.1 makes of "abc".
var madeByXZ = unhex("fd377a585a000004e6d6b4460200210116000000742fe5a301000261626300002776271a4a09d82c00011b030b2fb9101fb6f37d010000000004595a")

func unhex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// xzListed returns a stream of p1 that ends with a list and its right footer.
func xzListed(list []byte) []byte {
	return cat(xzHead(checkCRC64), xzBlock{content: p1}.bytes(checkCRC64), list, xzFoot(checkCRC64, len(list)))
}

// sized returns a block with sizes in its header that are off by some bytes.
func sized(content []byte, data, unpacked int) xzBlock {
	sizes := binary.AppendUvarint(nil, uint64(len(lzma2Of(content))+data))
	sizes = binary.AppendUvarint(sizes, uint64(len(content)+unpacked))
	return xzBlock{content: content, sizeFlags: 0xc0, sizes: sizes}
}

// deltas returns the differences of the bytes from those before them.
func deltas(content []byte) []byte {
	out := slices.Clone(content)
	for i := len(out) - 1; i > 0; i-- {
		out[i] -= out[i-1]
	}
	return out
}

// looseChunk returns a chunk of first whose size counts a stored chunk of
// second, which a decoder comes to that does not use all of the first.
func looseChunk(first, second []byte) []byte {
	chunk, inner := short(lzma2Of(first), 1), storedChunk(2, second)
	binary.BigEndian.PutUint16(chunk[3:], uint16(len(chunk)-6+len(inner)-1))
	return cat(chunk, inner, []byte{0})
}

// far returns LZMA2 data of content twice, in which the second refers to the
// first.
func far(content []byte) []byte {
	return chunks(1<<20, content, content)
}

// keptState returns a chunk of first, a stored one of second, and one that was
// made to follow the first.
func keptState(first, second []byte) []byte {
	data := chunks(64<<10, first, first)
	size := 6 + int(binary.BigEndian.Uint16(data[3:])) + 1
	return cat(data[:size], storedChunk(2, second), data[size:])
}
