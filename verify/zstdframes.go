package verify

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The fields of a zstd stream that zstdFrames reads (RFC 8878, section 3.1).
const (
	zstdMagic      = iota // of the next frame; where a stream may end
	zstdSkippable         // size of a skippable frame
	zstdDescriptor        // first byte of a frame header
	zstdHeader            // the rest of it: window, dictionary, content size
	zstdBlock             // block header
	zstdLost              // not a field: the framing is broken
)

// zstdFrames passes a zstd stream on to its decoder and walks the frames and
// blocks in it, which the decoder does not tell about.
//
// It counts frames, and stops at a window over the limit before the decoder
// allocates it. It does not judge the stream: where the framing breaks it stops
// walking, and the decoder reports the error.
type zstdFrames struct {
	in      io.Reader
	window  uint64 // the largest that passes
	frames  int64  // Zstandard frames begun
	largest uint64 // window of a frame
	held    *holding
	err     error // what Read ended with, if not the end of the input

	single   bool // the frame has a content size in place of a window
	sizeLen  int  // length of its content size
	checksum bool // four bytes follow its last block

	field int      // being read
	buf   [13]byte // its bytes; the longest is a header
	have  int      // bytes of it so far
	want  int      // bytes in it
	skip  uint64   // bytes to pass before it
}

func newZstdFrames(in io.Reader, window int64) *zstdFrames {
	return &zstdFrames{in: in, window: uint64(window), field: zstdMagic, want: 4}
}

// Read implements io.Reader.
func (z *zstdFrames) Read(p []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	n, err := z.in.Read(p)
	z.walk(p[:n])
	if err != nil && err != io.EOF {
		z.err = err
	}
	return n, err
}

// whole reports whether the stream may end here.
func (z *zstdFrames) whole() bool { return z.field == zstdMagic && z.have == 0 && z.skip == 0 }

func (z *zstdFrames) walk(p []byte) {
	for len(p) > 0 && z.field != zstdLost && z.err == nil {
		if z.skip > 0 {
			n := min(z.skip, uint64(len(p)))
			z.skip -= n
			p = p[n:]
			continue
		}
		n := copy(z.buf[z.have:z.want], p)
		z.have += n
		p = p[n:]
		if z.have == z.want {
			z.have = 0
			z.take(z.buf[:z.want])
		}
	}
}

// take looks at a field and says which one is next.
func (z *zstdFrames) take(f []byte) {
	switch z.field {
	case zstdMagic:
		z.magic(f)
	case zstdSkippable:
		z.skip = uint64(binary.LittleEndian.Uint32(f))
		z.field, z.want = zstdMagic, 4
	case zstdDescriptor:
		z.descriptor(f[0])
	case zstdHeader:
		z.err = z.allow(z.size(f))
		z.field, z.want = zstdBlock, 3
	case zstdBlock:
		z.block(uint32(f[0]) | uint32(f[1])<<8 | uint32(f[2])<<16)
	}
}

// allow takes memory for a window, or returns why there is none.
func (z *zstdFrames) allow(window uint64) error {
	z.largest = max(z.largest, window)
	if window > z.window {
		return overLimit(fmt.Sprintf("its zstd window is larger than limits.window (%d bytes)", z.window))
	}
	if window > commonWindow {
		if err := z.held.slow(); err != nil {
			return err
		}
	}
	return z.held.grow(int64(window))
}

func (z *zstdFrames) magic(f []byte) {
	switch {
	case isSkippable(f):
		z.field, z.want = zstdSkippable, 4
	case sniff(f) == Zstd:
		z.frames++
		z.field, z.want = zstdDescriptor, 1
	default:
		z.field = zstdLost
	}
}

func (z *zstdFrames) descriptor(d byte) {
	z.single = d&0x20 != 0
	z.checksum = d&0x04 != 0
	z.sizeLen = [...]int{0, 2, 4, 8}[d>>6]
	window := 1
	if z.single {
		window = 0
		z.sizeLen = max(z.sizeLen, 1)
	}
	dictionary := [...]int{0, 1, 2, 4}[d&3]
	z.field, z.want = zstdHeader, window+dictionary+z.sizeLen
}

// size returns the window size of a frame.
func (z *zstdFrames) size(header []byte) uint64 {
	if z.single {
		var size [8]byte
		copy(size[:], header[len(header)-z.sizeLen:])
		return binary.LittleEndian.Uint64(size[:])
	}
	base := uint64(1) << (10 + header[0]>>3)
	return base + base/8*uint64(header[0]&7)
}

func (z *zstdFrames) block(h uint32) {
	last, kind, size := h&1 != 0, h>>1&3, h>>3
	switch kind {
	case 1: // one byte, repeated
		size = 1
	case 3: // reserved
		z.field = zstdLost
		return
	}
	z.skip = uint64(size)
	z.field, z.want = zstdBlock, 3
	if last {
		z.field, z.want = zstdMagic, 4
		if z.checksum {
			z.skip += 4
		}
	}
}
