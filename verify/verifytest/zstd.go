package verifytest

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Zstd returns content as one zstd frame with a checksum.
func Zstd(content []byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	must(err)
	defer enc.Close()
	return enc.EncodeAll(content, nil)
}

// ZstdFrames returns each of contents as a zstd frame of its own, as pzstd and
// zstd:chunked do.
func ZstdFrames(contents ...[]byte) []byte {
	var frames [][]byte
	for _, c := range contents {
		frames = append(frames, Zstd(c))
	}
	return slices.Concat(frames...)
}

// ZstdSkippable returns content in a skippable frame, which decodes to nothing.
func ZstdSkippable(content []byte) []byte {
	head := []byte{0x50, 0x2a, 0x4d, 0x18}
	return append(binary.LittleEndian.AppendUint32(head, uint32(len(content))), content...)
}

// ZstdZeros returns a zstd frame of n zero bytes that takes four bytes for each
// 128 KiB: a bomb.
func ZstdZeros(n int64) []byte {
	const (
		most   = 128 << 10 // in a block
		rle    = 1 << 1
		last   = 1
		window = 7 << 3 // 128 KiB
	)
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}
	for ; n > most; n -= most {
		h := uint32(most<<3 | rle)
		frame = append(frame, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	h := uint32(n<<3 | rle | last)
	return append(frame, byte(h), byte(h>>8), byte(h>>16), 0)
}

// TarOrZstd returns a blob that is a tar archive with one file and a zstd
// stream of content at once.
func TarOrZstd(content []byte) []byte {
	const size = 512 + 1024 // header of an empty file, and end marker
	name := string(ZstdSkippable(make([]byte, size-8))[:6])
	return slices.Concat(tarHeader(name, 0), make([]byte, 1024), Zstd(content))
}

// BlankTarOrZstd is TarOrZstd with a tar header that has blanks for a checksum.
func BlankTarOrZstd(content []byte) []byte {
	const size = 512 + 1024 // header of an empty file, and end marker
	name := string(ZstdSkippable(make([]byte, size-8))[:6])
	return slices.Concat(blankHeader(name), make([]byte, 1024), Zstd(content))
}
