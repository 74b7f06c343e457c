package verify_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"

	"github.com/klauspost/compress/zstd"

	"diffgate/verify/verifytest"
)

// zstdRuntimes are zstdColumns without the windows that we do not decode, and
// with the second way to read.
var zstdRuntimes = append(zstdColumns[1:len(zstdColumns):len(zstdColumns)],
	column{name: "klauspost WriteTo", decode: func(w io.Writer, r io.Reader) error {
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		_, err = z.WriteTo(w)
		return err
	}},
)

// mutateZstd returns some zstd frames and other things in a row, of which some
// are damaged.
func mutateZstd(r *rand.Rand) []byte {
	var (
		blob   []byte
		places []int
	)
	for n := 1 + r.IntN(4); n > 0; n-- {
		part := randomFrame(r)
		switch r.IntN(5) {
		case 0:
			part = verifytest.ZstdSkippable(someBytes(r, 40))
			part[0] |= byte(r.IntN(16))
		case 1:
			if len(blob) > 0 {
				part = notFrame(r)
			}
		}
		places = append(places, len(blob), len(blob)+4, len(blob)+len(part)-4)
		blob = append(blob, part...)
	}
	for n := pick(r, 0, 0, 0, 0, 1, 1, 2, 3); n > 0; n-- {
		blob = damage(r, blob, places)
	}
	if len(blob) < 4 || oneIn(r, 20) {
		return blob
	}
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd}, blob[4:]...) // else no runtime takes it for zstd
}

// randomFrame returns a frame of an encoder, or one put together by hand of
// which the fields may be wrong.
func randomFrame(r *rand.Rand) []byte {
	content := someBytes(r, pick(r, 0, 3, 300, 3000, 200_000))
	if oneIn(r, 2) {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true),
			zstd.WithEncoderCRC(oneIn(r, 4)), zstd.WithSingleSegment(oneIn(r, 4)),
			zstd.WithEncoderLevel(zstd.EncoderLevel(1+r.IntN(4))))
		if err != nil {
			panic(err) // the options are constant
		}
		defer enc.Close()
		return enc.EncodeAll(content, nil)
	}
	content = content[:min(len(content), 2000)]
	size := uint64(len(content))
	if oneIn(r, 6) {
		size += uint64(r.IntN(5)) - 2
	}
	descriptor := pick[byte](r, 0x80, 0xa0, 0xc0, 0xe0) // sizes of four and eight bytes fit all
	switch {
	case oneIn(r, 3):
		descriptor = 0
	case size < 256 && oneIn(r, 2):
		descriptor = 0x20
	case size >= 256 && oneIn(r, 2):
		descriptor = pick[byte](r, 0x40, 0x60)
	}
	if oneIn(r, 10) {
		descriptor |= 1 << r.IntN(5)
	}
	var header []byte
	if descriptor&0x20 == 0 {
		log := 1 + r.UintN(8) // of the window, less ten
		if oneIn(r, 20) {
			log = 1 + r.UintN(19)
		}
		header = append(header, byte(log<<3|r.UintN(8)))
	}
	header = append(header, make([]byte, [...]int{0, 1, 2, 4}[descriptor&3])...)
	switch descriptor >> 6 {
	case 0:
		if descriptor&0x20 != 0 {
			header = append(header, byte(size))
		}
	case 1:
		header = binary.LittleEndian.AppendUint16(header, uint16(size-256))
	case 2:
		header = binary.LittleEndian.AppendUint32(header, uint32(size))
	case 3:
		header = binary.LittleEndian.AppendUint64(header, size)
	}
	return frame(descriptor, header, randomBlocks(r, content)...)
}

// randomBlocks returns content in stored and repeating blocks, of which the
// last may be wrong.
func randomBlocks(r *rand.Rand, content []byte) [][]byte {
	var blocks [][]byte
	for len(content) > 0 && !oneIn(r, 3) {
		n := 1 + r.IntN(len(content))
		if oneIn(r, 8) {
			blocks = append(blocks, block(false, 1, r.IntN(3000), content[:1]))
		}
		blocks = append(blocks, block(false, 0, n, content[:n]))
		content = content[n:]
	}
	if oneIn(r, 20) {
		return append(blocks, block(!oneIn(r, 3), r.IntN(4), r.IntN(20), content))
	}
	return append(blocks, raw(content))
}

// notFrame returns what some decoder might take for the continuation of a zstd
// stream.
func notFrame(r *rand.Rand) []byte {
	content := someBytes(r, 100)
	switch r.IntN(6) {
	case 0:
		return make([]byte, 1+r.IntN(20))
	case 1:
		return gz(content)
	case 2:
		return lz4(content)
	case 3:
		f := randomFrame(r)
		return f[:min(len(f), r.IntN(20))]
	case 4:
		return binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, r.Uint32()>>r.IntN(32))
	}
	return someBytes(r, 40)
}
