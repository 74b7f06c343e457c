package verify_test

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"

	"diffgate/verify/verifytest"
)

func zs(content []byte) []byte { return verifytest.Zstd(content) }

// flipped returns a copy of blob whose last byte is wrong.
func flipped(blob []byte) []byte {
	blob = bytes.Clone(blob)
	blob[len(blob)-1] ^= 1
	return blob
}

var skippable = verifytest.ZstdSkippable([]byte("skip me"))

// The rows of zstd blobs: what is in the blob, what we say, and what
// zstdColumns read.
var zstdFraming = []golden{
	{"Z01", "one frame", zs(p1), "zstd P1", "P1"},
	{"Z02", "no content size and no checksum", frame(0, window(17), raw(p1)), "zstd P1", "P1"},
	{"Z03", "two frames, one tar cut in half", verifytest.ZstdFrames(p1a, p1b), "zstd P1 parts=2", "P1"},
	{"Z04", "two frames, each a whole tar", verifytest.ZstdFrames(p1, p2), "zstd P1+P2 parts=2", "P1+P2"},
	{"Z05", "skippable frame first, which podman and crane take for raw bytes", cat(skippable, zs(p1)), "zstd P1 SkippableFirst", "P1"},
	{"Z06", "skippable frame between", cat(zs(p1a), skippable, zs(p1b)), "zstd P1 parts=2", "P1"},
	{"Z07", "skippable frame last, as in zstd:chunked", cat(zs(p1), skippable), "zstd P1", "P1"},
	{"Z08", "skippable frame of no bytes last", cat(zs(p1), verifytest.ZstdSkippable(nil)), "zstd P1", "P1"},
	{"Z09", "only a skippable frame", skippable, "zstd empty parts=0 SkippableFirst", "empty"},
	{"Z10", "frame of no content", zs(nil), "zstd empty", "empty"},
	{"Z11", "frame of no content, then one", verifytest.ZstdFrames(nil, p1), "zstd P1 parts=2", "P1"},
	{"Z12", "100 000 empty skippable frames, then a frame: zstd(1) takes three seconds", cat(bytes.Repeat(verifytest.ZstdSkippable(nil), 100_000), zs(p1)), "zstd P1 SkippableFirst", "P1"},
	{"Z13", "100 000 frames of no content, then one", cat(bytes.Repeat(zs(nil), 100_000), zs(p1)), "zstd P1 parts=100001", "P1"},
	{"Z14", "the unused bit of the descriptor", frame(0x10, window(17), raw(p1)), "zstd P1", "P1"},
	{"Z15", "the reserved bit of the descriptor", frame(0x08, window(17), raw(p1)), "zstd corrupt", "E"},
	{"Z16", "a single segment with a content size of 1, 2, 4 and 8 bytes", cat(
		frame(0x20, []byte{200}, raw(p1[:200])),
		frame(0x60, binary.LittleEndian.AppendUint16(nil, 300-256), raw(p1[200:500])),
		frame(0xa0, binary.LittleEndian.AppendUint32(nil, 500), raw(p1[500:1000])),
		frame(0xe0, binary.LittleEndian.AppendUint64(nil, uint64(len(p1)-1000)), raw(p1[1000:]))), "zstd P1 parts=4", "P1"},
}

var zstdWindows = []golden{
	{"Z20", "window of 8 MiB", frame(0, window(23), raw(p1)), "zstd P1", "P1"},
	{"Z21", "window of 64 MiB", frame(0, window(26), raw(p1)), "zstd P1", "P1"},
	{"Z22", "window of 128 MiB", frame(0, window(27), raw(p1)), "zstd P1", "P1"},
	{"Z22b", "window of 144 MiB", frame(0, []byte{17<<3 | 1}, raw(p1)), "zstd P1 LargeWindow", "P1 E E"},
	{"Z23", "window of 256 MiB", frame(0, window(28), raw(p1)), "zstd P1 LargeWindow", "P1 E E"},
	{"Z24", "window of 512 MiB", frame(0, window(29), raw(p1)), "zstd P1 LargeWindow", "P1 E E"},
	{"Z25", "window of 1 GiB", frame(0, window(30), raw(p1)), "zstd limit", "E"},
	{"Z26", "window of 2 GiB", frame(0, window(31), raw(p1)), "zstd limit", "E"},
	{"Z27", "window of 4 GiB", frame(0, window(32), raw(p1)), "zstd limit", "E"},
	{"Z28", "window of 64 GiB", frame(0, window(36), raw(p1)), "zstd limit", "E"},
	{"Z29", "window of 128 GiB", frame(0, window(37), raw(p1)), "zstd limit", "E"},
	{"Z30", "window of 3.75 TiB", frame(0, []byte{0xff}, raw(p1)), "zstd limit", "E"},
	{"Z31", "single segment that says 1 TiB", frame(0xe0, binary.LittleEndian.AppendUint64(nil, 1<<40), raw(p1)), "zstd limit", "E"},
	{"Z32", "single segment that says 512 MiB", frame(0xa0, binary.LittleEndian.AppendUint32(nil, 512<<20), raw(p1)), "zstd corrupt", "E:P1 E E"},
	{"Z33", "window of 256 MiB in the second frame", cat(zs(p1), frame(0, window(28), raw(p2))), "zstd P1+P2 parts=2 LargeWindow", "P1+P2 E:P1 E"},
}

var zstdDamage = []golden{
	{"Z40", "content size one too large", frame(0x80, binary.LittleEndian.AppendUint32(window(17), uint32(len(p1)+1)), raw(p1)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z41", "content size one too small", frame(0x80, binary.LittleEndian.AppendUint32(window(17), uint32(len(p1)-1)), raw(p1)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z42", "dictionary 1234, which nobody has", frame(2, append(window(17), 0xd2, 4), raw(p1)), "zstd corrupt", "E"},
	{"Z43", "dictionary 0, which is none", frame(1, append(window(17), 0), raw(p1)), "zstd P1", "P1"},
	{"Z44", "wrong checksum", flipped(zs(p1)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z45", "wrong checksum in the first of two frames", cat(flipped(zs(p1a)), zs(p1b)), "zstd corrupt", "E:P1a E:P1a E"},
	{"Z46", "reserved block type", frame(0, window(17), block(false, 0, len(p1), p1), block(true, 3, 0, nil)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z47", "no last block", frame(0, window(17), block(false, 0, len(p1), p1)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z48", "block over 128 KiB", frame(0, window(23), raw(big)), "zstd corrupt", "E"},
	{"Z49", "block over the window of 1 KiB", frame(0, window(10), raw(p1)), "zstd corrupt", "E"},
	{"Z50", "cut in a block", short(zs(big), 150_000), "zstd corrupt", "E"},
	{"Z51", "no checksum where one is announced", frame(4, window(17), raw(p1)), "zstd corrupt", "E"},
	{"Z52", "the magic alone", zs(p1)[:4], "zstd corrupt", "E"},
	{"Z53", "second frame cut", cat(zs(p1), short(zs(big), 150_000)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z54", "skippable frame cut", cat(zs(p1), short(skippable, 3)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z55", "skippable frame that says 4 GiB - 1", cat(zs(p1), []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z56", "skippable frame cut before its size", cat(zs(p1), skippable[:4]), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z57", "magic cut after three bytes", cat(zs(p1), zs(p2)[:3]), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z60", "one zero byte after the last frame", cat(zs(p1), make([]byte, 1)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z61", "512 zero bytes", cat(zs(p1), make([]byte, 512)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z62", "junk", cat(zs(p1), garbage), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z63", "three bytes of junk", cat(zs(p1), garbage[:3]), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z64", "a gzip member, which zstd(1) decodes", cat(zs(p1), gz(p2)), "zstd corrupt", "E:P1 E:P1 P1+P2"},
	{"Z65", "junk, then a frame", cat(zs(p1), garbage, zs(p2)), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z66", "the magic of zstd 0.7", cat(zs(p1), []byte{0x27, 0xb5, 0x2f, 0xfd}, garbage), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z67", "the magic of old lz4", cat(zs(p1), []byte{2, 0x21, 0x4c, 0x18}), "zstd corrupt", "E:P1 E:P1 E"},
	{"Z68", "an lz4 frame, which zstd(1) decodes", cat(zs(p1), lz4(p2)), "zstd corrupt", "E:P1 E:P1 P1+P2"},
}

var zstdOthers = []golden{
	{"G50", "no bytes at all", nil, "identity", "empty empty E"},
	{"N11", "a tar and a zstd stream at once", verifytest.TarOrZstd(p2), "zstd ambiguous", "P2"},
}

// lz4 returns content, up to 64 KiB, as an lz4 frame with one stored block.
func lz4(content []byte) []byte {
	size := binary.LittleEndian.AppendUint32(nil, 1<<31|uint32(len(content)))
	return cat([]byte{4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82}, size, content, make([]byte, 4))
}

// zstdColumns are the decoder that every runtime uses for zstd, also with the
// largest window that others decode, and zstd(1).
var zstdColumns = []column{
	{name: "klauspost", decode: unzstd(zstd.WithDecoderConcurrency(4))},
	{name: "klauspost up to 128 MiB", decode: unzstd(zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(128<<20))},
	{name: "zstd", program: []string{"zstd", "-d", "-c", "-q"}},
}

func unzstd(options ...zstd.DOption) decoder {
	return func(w io.Writer, r io.Reader) error {
		z, err := zstd.NewReader(r, options...)
		if err != nil {
			return err
		}
		defer z.Close()
		return copyReads(w, z)
	}
}

// frame returns a zstd frame by hand (RFC 8878, section 3.1.1): the descriptor,
// the fields of the header that it announces, and the blocks.
func frame(descriptor byte, header []byte, blocks ...[]byte) []byte {
	return cat([]byte{0x28, 0xb5, 0x2f, 0xfd, descriptor}, header, cat(blocks...))
}

// window returns the descriptor of a window of 2^log bytes.
func window(log byte) []byte { return []byte{(log - 10) << 3} }

// raw returns content as the last block of a frame.
func raw(content []byte) []byte { return block(true, 0, len(content), content) }

func block(last bool, kind, size int, content []byte) []byte {
	h := uint32(size<<3 | kind<<1)
	if last {
		h |= 1
	}
	return append([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, content...)
}
