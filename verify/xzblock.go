package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// newXZCheck returns the hash of the checks that xz(1) and the library know, or
// nil (The .xz File Format, version 1.2.1, section 2.1.1.2).
func newXZCheck(flags [2]byte) hash.Hash {
	if flags[0] != 0 {
		return nil
	}
	switch flags[1] {
	case 0:
		return noCheck{}
	case 1:
		return littleEndian{crc32.NewIEEE()}
	case 4:
		return littleEndian{crc64.New(crc64.MakeTable(crc64.ECMA))}
	case 10:
		return sha256.New()
	}
	return nil
}

// noCheck is the check of a stream that has none.
type noCheck struct{}

func (noCheck) Write(p []byte) (int, error) { return len(p), nil }
func (noCheck) Sum(b []byte) []byte         { return b }
func (noCheck) Reset()                      {}
func (noCheck) Size() int                   { return 0 }
func (noCheck) BlockSize() int              { return 1 }

// littleEndian is a CRC as xz stores it.
type littleEndian struct{ hash.Hash }

func (h littleEndian) Sum(b []byte) []byte {
	sum := h.Hash.Sum(nil)
	for i := range sum {
		b = append(b, sum[len(sum)-1-i])
	}
	return b
}

// An xzHeader is what a block says of itself.
type xzHeader struct {
	packed, content uint64 // sizes; unknownSize when it does not say
	dictionary      uint64 // bytes
}

const unknownSize = 1<<64 - 1

// block reads a block whose header has that many more bytes.
func (x *xzReader) block(header int, check hash.Hash, sink io.Writer) error {
	h, err := x.blockHeader(header)
	if err != nil {
		return err
	}
	h.dictionary = x.needed(h)
	if err := x.charge(h.dictionary); err != nil {
		return err
	}
	headerSize := uint64(x.fields)
	chunks := &lzma2Chunks{in: x.in}
	content, err := x.unpack(chunks, h.dictionary, check, sink)
	if err != nil {
		return err
	}
	if h.packed != unknownSize && h.packed != chunks.read || h.content != unknownSize && h.content != content {
		return corrupt("wrong size in the header of an xz block")
	}
	if err := x.zeros(int64(-chunks.read & 3)); err != nil {
		return err
	}
	sum, err := x.field(check.Size())
	if err != nil {
		return err
	}
	if !bytes.Equal(sum, check.Sum(nil)) {
		return corrupt("wrong check of an xz block")
	}
	x.record(x.list, headerSize+chunks.read+uint64(check.Size()), content)
	return nil
}

// blockHeader reads the rest of a block's header and its checksum.
func (x *xzReader) blockHeader(rest int) (h xzHeader, err error) {
	const checksum = 4
	f, err := x.field(rest - checksum)
	if err != nil {
		return h, err
	}
	f = bytes.Clone(f)
	if err := x.checksum(); err != nil {
		return h, err
	}
	const filters, packed, content, reserved = 0x03, 0x40, 0x80, 0x3c
	flags := f[0]
	if flags&reserved != 0 {
		return h, corrupt("a reserved flag in the header of an xz block")
	}
	r := xzFields{f[1:]}
	h.packed, h.content = unknownSize, unknownSize
	if flags&packed != 0 {
		h.packed = r.varint()
	}
	if flags&content != 0 {
		h.content = r.varint()
	}
	const lzma2, propertySize = 0x21, 1
	if flags&filters != 0 || r.varint() != lzma2 {
		return h, &decodeError{Unsupported, "its xz filters are not decoded"}
	}
	size, property := r.varint(), r.varint()
	if size != propertySize || property > 40 || len(bytes.Trim(r.rest, "\x00")) > 0 || h.packed == 0 {
		return h, errXZ
	}
	h.dictionary = (2 | property&1) << (property/2 + 11)
	if property == 40 {
		h.dictionary = 1<<32 - 1
	}
	return h, nil
}

// xzFields takes a block header apart.
type xzFields struct{ rest []byte }

// varint returns a number, or one that nothing allows.
func (f *xzFields) varint() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 || n > 9 || n > 1 && f.rest[n-1] == 0 {
		f.rest = []byte{0xff} // which is no padding
		return unknownSize - 1
	}
	f.rest = f.rest[n:]
	return v
}

// needed returns how large a dictionary the block needs. No block refers to bytes
// before its own content, so a small one needs little, whatever it declares: xz(1)
// declares 8 MiB for an empty file. What is declared must be allowed all the same.
func (x *xzReader) needed(h xzHeader) uint64 {
	if h.dictionary > x.window {
		return h.dictionary
	}
	content := h.content
	if content == unknownSize {
		// The lengths of a small block's chunks are in the buffer already.
		ahead, _ := x.in.Peek(x.in.Size())
		content = lzma2Size(ahead)
	}
	return min(h.dictionary, max(content, lzma.MinDictCap))
}

// lzma2Size returns the size of what a block's chunks decode to, or unknownSize if
// the chunks do not end within p (The .xz File Format and xz-embedded's LZMA2).
func lzma2Size(p []byte) uint64 {
	var content uint64
	for len(p) > 0 {
		control := p[0]
		switch {
		case control == 0:
			return content
		case control >= 0x80 && len(p) >= 6: // LZMA
			content += uint64(control&0x1f)<<16 + uint64(binary.BigEndian.Uint16(p[1:])) + 1
			skip := 5 + int(binary.BigEndian.Uint16(p[3:])) + 1
			if control >= 0xc0 {
				skip++ // properties
			}
			p = p[min(skip, len(p)):]
		case control <= 2 && len(p) >= 3: // not compressed
			size := int(binary.BigEndian.Uint16(p[1:])) + 1
			content += uint64(size)
			p = p[min(3+size, len(p)):]
		default:
			return unknownSize
		}
	}
	return unknownSize
}

// charge counts a dictionary, which is made anew for each block. Blocks of
// xz(1) hold three times as much as their dictionary.
func (x *xzReader) charge(dictionary uint64) error {
	if dictionary > x.window {
		return overLimit(fmt.Sprintf("its xz dictionary is larger than limits.window (%d bytes)", x.window))
	}
	if err := x.held.grow(int64(dictionary)); err != nil {
		return err
	}
	if x.charged += dictionary; x.charged > 1<<30+8*x.decoded {
		return overLimit("the dictionaries of its xz blocks together take more than 1 GiB and 8 times its content")
	}
	return nil
}

// unpack decodes the chunks of a block and returns the size of their content.
func (x *xzReader) unpack(chunks *lzma2Chunks, dictionary uint64, check hash.Hash, sink io.Writer) (content uint64, err error) {
	dec, err := lzma.Reader2Config{DictCap: int(dictionary)}.NewReader2(chunks)
	if err != nil {
		return 0, corrupt("bad xz data: " + clipError(err))
	}
	for {
		n, err := dec.Read(x.copying)
		check.Write(x.copying[:n])
		content += uint64(n)
		x.decoded += uint64(n)
		if _, werr := sink.Write(x.copying[:n]); werr != nil {
			return content, werr
		}
		switch {
		case err == io.EOF && chunks.ended:
			return content, nil
		case chunks.err != nil:
			return content, chunks.err
		case err == io.EOF:
			return content, errXZ // a chunk was not used up
		case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
			return content, corrupt("bad xz data: " + clipError(err))
		case err != nil:
			return content, err
		}
	}
}

// lzma2Chunks gives a decoder the chunks of a block and follows their framing,
// so that it is known whether the decoder came to their end, and to no other.
type lzma2Chunks struct {
	in    io.Reader
	read  uint64
	head  []byte // of the chunk, as far as it was read
	left  uint64 // bytes of the chunk
	lzma  bool   // the chunk is compressed
	ended bool
	err   error // of in, or of the framing
}

// Read implements io.Reader.
func (c *lzma2Chunks) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.ended:
		return 0, io.EOF
	}
	most := uint64(1) // of a head
	if c.left > 0 {
		most = c.left
	}
	// The decoder takes what is compressed byte by byte. With more it begins a
	// chunk, which xz(1) does not where another is not used up.
	if c.left > 0 && c.lzma && len(p) > 1 {
		c.err = errXZ
		return 0, c.err
	}
	n, err := c.in.Read(p[:min(uint64(len(p)), most)])
	c.read += uint64(n)
	switch {
	case n > 0 && c.left > 0:
		c.left -= uint64(n)
	case n > 0:
		c.take(p[0])
	case err == io.EOF:
		c.err = io.ErrUnexpectedEOF
	case err != nil:
		c.err = err
	}
	return n, c.err
}

// take looks at a byte of a chunk's head.
func (c *lzma2Chunks) take(b byte) {
	c.head = append(c.head, b)
	size := 3 // control and size of a stored chunk
	switch control := c.head[0]; {
	case control == 0:
		c.ended = true
		return
	case control >= 0xc0:
		size = 6 // two sizes and properties
	case control >= 0x80:
		size = 5
	case control > 2:
		c.err = errXZ
		return
	}
	if len(c.head) < size {
		return
	}
	at := 1
	if c.lzma = size > 3; c.lzma {
		at = 3
	}
	c.left = uint64(binary.BigEndian.Uint16(c.head[at:])) + 1
	if size == 6 && !lzma2Properties(c.head[5]) {
		c.err = errXZ
	}
	c.head = c.head[:0]
}

// lzma2Properties reports whether a byte of properties is one that LZMA2 may
// have: of the bits of context, at most four together.
func lzma2Properties(b byte) bool {
	literalContext, literalPosition := b%9, b/9%5
	return b < 225 && literalContext+literalPosition <= 4
}
