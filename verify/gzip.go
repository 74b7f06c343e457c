package verify

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/klauspost/compress/flate"
)

// RFC 1952, section 2.3.1.
const (
	flagCRC      = 1 << 1
	flagExtra    = 1 << 2
	flagName     = 1 << 3
	flagComment  = 1 << 4
	flagReserved = 0xe0
	flagOptional = flagCRC | flagExtra | flagName | flagComment
)

// maxName is the longest name or comment that compress/gzip accepts.
const maxName = 511

// A gzipReader decodes a gzip stream and judges its framing.
//
// It frames the members itself over a DEFLATE decoder because no stock reader
// is strict enough: they differ in reserved flags, header checksums, cut
// headers and in what may follow the last member, so that one blob unpacks to
// different trees on different machines. What this reader accepts, every
// mainstream reader decodes to the same bytes or refuses.
type gzipReader struct {
	in     *bufio.Reader
	inflat io.ReadCloser
	buf    []byte
	read   func() int64 // stored bytes consumed so far

	members  int64
	trailing int64
	quirks   Quirks
}

func newGzipReader(in *bufio.Reader, read func() int64) *gzipReader {
	return &gzipReader{in: in, inflat: flate.NewReader(in), buf: make([]byte, 32<<10), read: read}
}

// decode writes the content of all members to sink. It returns a decodeError,
// or the error of sink as it is.
func (g *gzipReader) decode(sink io.Writer) error {
	for {
		if err := g.header(); err != nil {
			return err
		}
		if err := g.body(sink); err != nil {
			return err
		}
		g.members++
		// An honest member of an eStargz layer takes over 64 bytes; a flood
		// of empty ones (20 bytes each) costs pigz 80 microseconds apiece.
		if g.members > 1024+g.read()/64 {
			return overLimit(fmt.Sprintf("more than %d gzip members", g.members-1))
		}
		more, err := g.next()
		if !more || err != nil {
			return err
		}
	}
}

// damaged is how a broken header is reported: in the first member everybody
// refuses it; in a later one some readers stop there and call it success.
func (g *gzipReader) damaged(what string) error {
	if g.members == 0 {
		return corrupt("gzip header: " + what)
	}
	return ambiguous(fmt.Sprintf("gzip member %d: %s; some decoders end before it, others refuse it", g.members+1, what))
}

// lost is what igzip is behind a header of several fields that its buffer cuts:
// it forgets the flags of a member that is not the first, and takes the fields
// behind the cut for data, with success. Where its buffer ends is not ours to
// know. (ISA-L 2.30, isal_inflate: the header is a local variable of each call.)
func (g *gzipReader) lost() error {
	return ambiguous(fmt.Sprintf("gzip member %d: more than one optional field in its header, which igzip may take for data", g.members+1))
}

func (g *gzipReader) truncated() error {
	return corrupt(fmt.Sprintf("the gzip stream is cut in member %d", g.members+1))
}

// eof makes the end of the input inside a member an error of ours and passes
// other errors on.
func (g *gzipReader) eof(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return g.truncated()
	}
	return err
}

func (g *gzipReader) header() error {
	crc := crc32.NewIEEE()
	h := g.buf[:10]
	if _, err := io.ReadFull(g.in, h); err != nil {
		return g.eof(err)
	}
	crc.Write(h)
	flags := h[3]
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return g.damaged("not the magic 1f 8b 08")
	}
	if flags&flagReserved != 0 {
		if g.members > 0 {
			return g.damaged("reserved flag set")
		}
		g.quirks |= ReservedFlag
	}
	if g.members > 0 && bits.OnesCount8(flags&flagOptional) > 1 {
		return g.lost()
	}
	if flags&flagExtra != 0 {
		if _, err := io.ReadFull(g.in, h[:2]); err != nil {
			return g.eof(err)
		}
		crc.Write(h[:2])
		if _, err := io.CopyN(crc, g.in, int64(binary.LittleEndian.Uint16(h))); err != nil {
			return g.eof(err)
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if err := g.skipString(crc); err != nil {
				return err
			}
		}
	}
	if g.members == 0 && g.quirks&LongName != 0 && bits.OnesCount8(flags&flagOptional) > 1 {
		return g.lost()
	}
	if flags&flagCRC == 0 {
		return nil
	}
	g.quirks |= HeaderCRC
	want := uint16(crc.Sum32())
	if _, err := io.ReadFull(g.in, h[:2]); err != nil {
		return g.eof(err)
	}
	if binary.LittleEndian.Uint16(h) != want {
		return g.damaged("wrong header checksum")
	}
	return nil
}

// skipString reads a zero-terminated name or comment into crc.
func (g *gzipReader) skipString(crc io.Writer) error {
	for n := 0; ; {
		part, err := g.in.ReadSlice(0)
		if _, werr := crc.Write(part); werr != nil {
			return werr
		}
		n += len(part)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return g.eof(err)
		}
		if n-1 > maxName {
			g.quirks |= LongName
		}
		return nil
	}
}

func (g *gzipReader) body(sink io.Writer) error {
	if err := g.inflat.(flate.Resetter).Reset(g.in, nil); err != nil {
		return err
	}
	var (
		crc  uint32
		size uint32 // modulo 2^32, as ISIZE is
	)
	for {
		n, err := g.inflat.Read(g.buf)
		crc = crc32.Update(crc, crc32.IEEETable, g.buf[:n])
		size += uint32(n)
		if _, werr := sink.Write(g.buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return g.inflateError(err)
		}
	}
	t := g.buf[:8]
	if _, err := io.ReadFull(g.in, t); err != nil {
		return g.eof(err)
	}
	if binary.LittleEndian.Uint32(t) != crc {
		return corrupt(fmt.Sprintf("wrong CRC-32 in gzip member %d", g.members+1))
	}
	if binary.LittleEndian.Uint32(t[4:]) != size {
		return corrupt(fmt.Sprintf("wrong length in the trailer of gzip member %d", g.members+1))
	}
	return nil
}

func (g *gzipReader) inflateError(err error) error {
	var bad flate.CorruptInputError
	if errors.As(err, &bad) {
		return corrupt(fmt.Sprintf("bad DEFLATE data in gzip member %d", g.members+1))
	}
	return g.eof(err)
}

// next looks at what follows a member: nothing, another member, or bytes that
// decoders treat differently.
func (g *gzipReader) next() (more bool, err error) {
	head, err := g.in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch {
	case len(head) == 0:
		return false, nil
	case len(head) == 3 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8:
		return true, nil
	case head[0] == 0:
		return false, g.zeros()
	}
	return false, ambiguous(fmt.Sprintf("bytes after gzip member %d that some decoders ignore, some decode and some refuse", g.members))
}

// zeros reads to the end and insists on zero bytes.
func (g *gzipReader) zeros() error {
	for {
		n, err := g.in.Read(g.buf)
		for _, b := range g.buf[:n] {
			if b != 0 {
				return ambiguous("data behind zero bytes after the gzip stream; some decoders ignore it, some decode it")
			}
		}
		g.trailing += int64(n)
		if err == io.EOF {
			g.quirks |= TrailingZeros
			return nil
		}
		if err != nil {
			return err
		}
	}
}
