package inflate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"sync"
)

var (
	// errCorrupt is what DEFLATE data ends with that is none.
	errCorrupt = errors.New("bad DEFLATE data")
	// errCut is what it ends with when there is too little of it.
	errCut = errors.New("the data is cut")
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

// A Gzip is what was seen of a gzip file beside its content.
type Gzip struct {
	Members  int64 // whole ones
	Trailing int64 // bytes behind the last member, all zero

	// What some readers refuse. Those who do not read the same.
	HeaderCRC    bool // a header has a (right) checksum
	LongName     bool // a name or comment is longer than 511 bytes
	ReservedFlag bool // the first header has a reserved flag set
}

// A Kind says what a file with an Error is.
type Kind uint8

const (
	Corrupt   Kind = iota + 1 // no mainstream reader takes it for whole
	Ambiguous                 // readers differ in what they read, and call it success
)

// An Error says why a file is not accepted.
type Error struct {
	Kind   Kind
	Offset int64  // of about where it was found, in bytes of the file
	What   string // one clause
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s, at byte %d", e.What, e.Offset) }

// decoders are lent by Gunzip; each takes 256 KiB.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Gunzip decodes a gzip file of any number of members. It returns what it saw,
// as far as it came, and an *Error, or the error of src or sink as it is. All
// that was decoded before an Error has been given to sink.
func Gunzip(src Source, sink Sink) (Gzip, error) {
	d := decoders.Get().(*decoder)
	d.in = input{src: src}
	d.out.reset(sink)
	g := gunzip{d: d}
	err := func() error {
		defer sink.Done() // however it ends
		return g.flushed(g.file())
	}()
	d.in, d.out.sink = input{}, nil // which others have
	decoders.Put(d)
	return g.seen, err
}

// A gunzip is one run of Gunzip.
type gunzip struct {
	d    *decoder
	seen Gzip
	read [8]byte // of a header or trailer
	crc  uint32  // of the header
}

func (g *gunzip) file() error {
	for {
		if err := g.header(); err != nil {
			return err
		}
		if err := g.body(); err != nil {
			return err
		}
		g.seen.Members++
		more, err := g.next()
		if !more || err != nil {
			return err
		}
	}
}

// flushed hands on the last bytes when err is about the file. If they cannot be,
// that is what it ends with.
func (g *gunzip) flushed(err error) error {
	var about *Error
	if err != nil && !errors.As(err, &about) {
		return err
	}
	if failed := g.d.out.flush(); failed != nil {
		return failed
	}
	return err
}

func (g *gunzip) error(kind Kind, what string) error {
	return &Error{Kind: kind, Offset: g.d.in.offset(), What: what}
}

// damaged is how a broken header is reported: in the first member everybody
// refuses it; in a later one some readers stop there and call it success.
func (g *gunzip) damaged(what string) error {
	if g.seen.Members == 0 {
		return g.error(Corrupt, "gzip header: "+what)
	}
	return g.error(Ambiguous, fmt.Sprintf("gzip member %d: %s; some decoders end before it, others refuse it", g.seen.Members+1, what))
}

// lost is what igzip is behind a header of several fields that its buffer cuts:
// it forgets the flags of a member that is not the first, and takes the fields
// behind the cut for data, with success. Where its buffer ends is not ours to
// know. (ISA-L 2.30, isal_inflate: the header is a local variable of each call.)
func (g *gunzip) lost() error {
	return g.error(Ambiguous, fmt.Sprintf("gzip member %d: more than one optional field in its header, which igzip may take for data", g.seen.Members+1))
}

// cut makes the end of the input inside a member an Error and passes other
// errors on.
func (g *gunzip) cut(err error) error {
	switch {
	case errors.Is(err, errCut):
		return g.error(Corrupt, fmt.Sprintf("the gzip stream is cut in member %d", g.seen.Members+1))
	case errors.Is(err, errCorrupt):
		return g.error(Corrupt, fmt.Sprintf("bad DEFLATE data in gzip member %d", g.seen.Members+1))
	}
	return err
}

// take takes n bytes, at most 8.
func (g *gunzip) take(n int) ([]byte, error) {
	p := g.read[:n]
	for i := range p {
		v, ok := g.d.in.byte()
		if !ok {
			return nil, g.cut(g.d.in.failed())
		}
		p[i] = v
	}
	return p, nil
}

// headerBytes takes n bytes of the header, at most 8.
func (g *gunzip) headerBytes(n int) ([]byte, error) {
	p, err := g.take(n)
	g.crc = crc32.Update(g.crc, crc32.IEEETable, p)
	return p, err
}

func (g *gunzip) header() error {
	g.crc = 0
	h, err := g.headerBytes(4)
	if err != nil {
		return err
	}
	magic, flags := [3]byte(h), h[3]
	if _, err := g.headerBytes(6); err != nil {
		return err
	}
	if magic != [3]byte{0x1f, 0x8b, 8} {
		return g.damaged("not the magic 1f 8b 08")
	}
	if flags&flagReserved != 0 {
		if g.seen.Members > 0 {
			return g.damaged("reserved flag set")
		}
		g.seen.ReservedFlag = true
	}
	if g.seen.Members > 0 && bits.OnesCount8(flags&flagOptional) > 1 {
		return g.lost()
	}
	return g.fields(flags)
}

// fields takes the optional fields of a header.
func (g *gunzip) fields(flags byte) error {
	if flags&flagExtra != 0 {
		size, err := g.headerBytes(2)
		if err != nil {
			return err
		}
		if err := g.skip(int(binary.LittleEndian.Uint16(size))); err != nil {
			return err
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if err := g.skipString(); err != nil {
				return err
			}
		}
	}
	if g.seen.Members == 0 && g.seen.LongName && bits.OnesCount8(flags&flagOptional) > 1 {
		return g.lost()
	}
	if flags&flagCRC == 0 {
		return nil
	}
	g.seen.HeaderCRC = true
	want := uint16(g.crc)
	got, err := g.take(2)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(got) != want {
		return g.damaged("wrong header checksum")
	}
	return nil
}

// skip takes n bytes of the header.
func (g *gunzip) skip(n int) error {
	for n > 0 {
		p := g.d.in.bytes(n, &g.read)
		if len(p) == 0 {
			return g.cut(g.d.in.failed())
		}
		g.crc = crc32.Update(g.crc, crc32.IEEETable, p)
		n -= len(p)
	}
	return nil
}

// skipString takes a name or comment that ends with a zero.
func (g *gunzip) skipString() error {
	for n := 0; ; {
		p := g.d.in.see(&g.read)
		if len(p) == 0 {
			return g.cut(g.d.in.failed())
		}
		end := bytes.IndexByte(p, 0)
		if end < 0 {
			n += len(p)
			if err := g.skip(len(p)); err != nil {
				return err
			}
			continue
		}
		g.seen.LongName = g.seen.LongName || n+end > maxName
		return g.skip(end + 1)
	}
}

func (g *gunzip) body() error {
	if err := g.d.stream(); err != nil {
		return g.cut(err)
	}
	out := &g.d.out
	out.sum()
	t, err := g.take(8)
	switch {
	case err != nil:
		return err
	case binary.LittleEndian.Uint32(t) != out.crc:
		return g.error(Corrupt, fmt.Sprintf("wrong CRC-32 in gzip member %d", g.seen.Members+1))
	case binary.LittleEndian.Uint32(t[4:]) != out.size:
		return g.error(Corrupt, fmt.Sprintf("wrong length in the trailer of gzip member %d", g.seen.Members+1))
	}
	return nil
}

// next looks at what follows a member: nothing, another member, or bytes that
// decoders treat differently.
func (g *gunzip) next() (more bool, err error) {
	head := g.d.in.peek(g.read[:3])
	if len(head) < 3 && g.d.in.err != io.EOF {
		return false, g.d.in.err
	}
	switch {
	case len(head) == 0:
		return false, nil
	case len(head) == 3 && [3]byte(head) == [3]byte{0x1f, 0x8b, 8}:
		return true, nil
	case head[0] == 0:
		return false, g.zeros()
	}
	return false, g.error(Ambiguous, fmt.Sprintf("bytes after gzip member %d that some decoders ignore, some decode and some refuse", g.seen.Members))
}

// zeros reads to the end and insists on zero bytes.
func (g *gunzip) zeros() error {
	for n := int64(0); ; {
		p := g.d.in.bytes(segment, &g.read)
		if len(p) == 0 {
			if err := g.d.in.err; err != io.EOF {
				return err
			}
			g.seen.Trailing = n
			return nil
		}
		for _, b := range p {
			if b != 0 {
				return g.error(Ambiguous, "data behind zero bytes after the gzip stream; some decoders ignore it, some decode it")
			}
		}
		n += int64(len(p))
	}
}
