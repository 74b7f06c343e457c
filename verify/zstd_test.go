package verify_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

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

// The tables of zstd blobs: what is in the blob, what we say, what
// klauspost/compress reads by default (windows up to 512 MiB) and with windows
// up to 128 MiB, as zstd(1).
var zstdFraming = []golden{
	{"Z01", "one frame", zs(p1), "zstd P1", [2]string{"P1", "P1"}},
	{"Z02", "no content size and no checksum", frame(0, window(17), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z03", "two frames, one tar cut in half", verifytest.ZstdFrames(p1a, p1b), "zstd P1 parts=2", [2]string{"P1", "P1"}},
	{"Z04", "two frames, each a whole tar", verifytest.ZstdFrames(p1, p2), "zstd P1+P2 parts=2", [2]string{"P1+P2", "P1+P2"}},
	{"Z05", "skippable frame first, which podman and crane take for raw bytes", cat(skippable, zs(p1)), "zstd P1 SkippableFirst", [2]string{"P1", "P1"}},
	{"Z06", "skippable frame between", cat(zs(p1a), skippable, zs(p1b)), "zstd P1 parts=2", [2]string{"P1", "P1"}},
	{"Z07", "skippable frame last, as in zstd:chunked", cat(zs(p1), skippable), "zstd P1", [2]string{"P1", "P1"}},
	{"Z08", "skippable frame of no bytes last", cat(zs(p1), verifytest.ZstdSkippable(nil)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z09", "only a skippable frame", skippable, "zstd empty parts=0 SkippableFirst", [2]string{"empty", "empty"}},
	{"Z10", "frame of no content", zs(nil), "zstd empty", [2]string{"empty", "empty"}},
	{"Z11", "frame of no content, then one", verifytest.ZstdFrames(nil, p1), "zstd P1 parts=2", [2]string{"P1", "P1"}},
	{"Z12", "100 000 empty skippable frames, then a frame: zstd(1) takes three seconds", cat(bytes.Repeat(verifytest.ZstdSkippable(nil), 100_000), zs(p1)), "zstd limit", [2]string{"P1", "P1"}},
	{"Z13", "100 000 frames of no content, then one", cat(bytes.Repeat(zs(nil), 100_000), zs(p1)), "zstd limit", [2]string{"P1", "P1"}},
	{"Z14", "the unused bit of the descriptor", frame(0x10, window(17), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z15", "the reserved bit of the descriptor", frame(0x08, window(17), raw(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z16", "a single segment with a content size of 1, 2, 4 and 8 bytes", cat(
		frame(0x20, []byte{200}, raw(p1[:200])),
		frame(0x60, binary.LittleEndian.AppendUint16(nil, 300-256), raw(p1[200:500])),
		frame(0xa0, binary.LittleEndian.AppendUint32(nil, 500), raw(p1[500:1000])),
		frame(0xe0, binary.LittleEndian.AppendUint64(nil, uint64(len(p1)-1000)), raw(p1[1000:]))), "zstd P1 parts=4", [2]string{"P1", "P1"}},
}

var zstdWindows = []golden{
	{"Z20", "window of 8 MiB", frame(0, window(23), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z21", "window of 64 MiB", frame(0, window(26), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z22", "window of 128 MiB", frame(0, window(27), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z22b", "window of 144 MiB", frame(0, []byte{17<<3 | 1}, raw(p1)), "zstd limit", [2]string{"P1", "E"}},
	{"Z23", "window of 256 MiB", frame(0, window(28), raw(p1)), "zstd limit", [2]string{"P1", "E"}},
	{"Z25", "window of 1 GiB", frame(0, window(30), raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z27", "window of 4 GiB", frame(0, window(32), raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z29", "window of 128 GiB", frame(0, window(37), raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z30", "window of 3.75 TiB", frame(0, []byte{0xff}, raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z31", "single segment that says 1 TiB", frame(0xe0, binary.LittleEndian.AppendUint64(nil, 1<<40), raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z32", "single segment that says 512 MiB", frame(0xa0, binary.LittleEndian.AppendUint32(nil, 512<<20), raw(p1)), "zstd limit", [2]string{"E", "E"}},
	{"Z33", "window of 256 MiB in the second frame", cat(zs(p1), frame(0, window(28), raw(p2))), "zstd limit", [2]string{"P1+P2", "E:P1"}},
}

var zstdDamage = []golden{
	{"Z40", "content size one too large", frame(0xa0, binary.LittleEndian.AppendUint32(nil, uint32(len(p1)+1)), raw(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z41", "content size one too small", frame(0xa0, binary.LittleEndian.AppendUint32(nil, uint32(len(p1)-1)), raw(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z42", "dictionary 1234, which nobody has", frame(2, append(window(17), 0xd2, 4), raw(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z43", "dictionary 0, which is none", frame(1, append(window(17), 0), raw(p1)), "zstd P1", [2]string{"P1", "P1"}},
	{"Z44", "wrong checksum", flipped(zs(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z45", "wrong checksum in the first of two frames", cat(flipped(zs(p1a)), zs(p1b)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z46", "reserved block type", frame(0, window(17), block(false, 0, len(p1), p1), block(true, 3, 0, nil)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z47", "no last block", frame(0, window(17), block(false, 0, len(p1), p1)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z48", "block over 128 KiB", frame(0, window(23), raw(big)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z49", "block over the window of 1 KiB", frame(0, window(10), raw(p1)), "zstd corrupt", [2]string{"E", "E"}},
	{"Z50", "cut in a block", short(zs(big), 150_000), "zstd corrupt", [2]string{"E", "E"}},
	{"Z51", "no checksum where one is announced", short(zs(p1), 4), "zstd corrupt", [2]string{"E", "E"}},
	{"Z52", "the magic alone", zs(p1)[:4], "zstd corrupt", [2]string{"E", "E"}},
	{"Z53", "second frame cut", cat(zs(p1), short(zs(big), 150_000)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z54", "skippable frame cut", cat(zs(p1), short(skippable, 3)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z55", "skippable frame that says 4 GiB - 1", cat(zs(p1), []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z56", "skippable frame cut before its size", cat(zs(p1), skippable[:4]), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z57", "magic cut after three bytes", cat(zs(p1), zs(p2)[:3]), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z60", "one zero byte after the last frame", cat(zs(p1), make([]byte, 1)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z61", "512 zero bytes", cat(zs(p1), make([]byte, 512)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z62", "junk", cat(zs(p1), garbage), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z63", "three bytes of junk", cat(zs(p1), garbage[:3]), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z64", "a gzip member, which zstd(1) decodes", cat(zs(p1), gz(p2)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z65", "junk, then a frame", cat(zs(p1), garbage, zs(p2)), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z66", "the magic of zstd 0.7", cat(zs(p1), []byte{0x27, 0xb5, 0x2f, 0xfd}, garbage), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
	{"Z67", "the magic of lz4", cat(zs(p1), []byte{2, 0x21, 0x4c, 0x18}), "zstd corrupt", [2]string{"E:P1", "E:P1"}},
}

func TestZstd(t *testing.T) {
	t.Parallel()
	rows := slices.Concat(zstdFraming, zstdWindows, zstdDamage)
	testGolden(t, rows, [2]string{"klauspost", "klauspost up to 128 MiB"}, [2]decoder{unzstd(0), unzstd(128 << 20)})
}

// unzstd returns a decoder for windows up to a size; 0 means its default.
func unzstd(window uint64) decoder {
	return func(r io.Reader) ([]byte, error) {
		opts := []zstd.DOption{zstd.WithDecoderConcurrency(1)}
		if window > 0 {
			opts = append(opts, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(window))
		}
		z, err := zstd.NewReader(r, opts...)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
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
