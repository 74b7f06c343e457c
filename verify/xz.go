package verify

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// The ends of an xz stream (The .xz File Format, version 1.2.1, section 2.1).
var (
	xzMagic  = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	xzFooter = []byte{'Y', 'Z'}
)

// An xzReader decodes an xz file and judges its framing.
//
// Docker runs xz(1), podman and skopeo use a library in Go, and they differ in
// what they refuse. This reader frames streams and blocks itself over the
// library's LZMA2 decoder, so that what it accepts both read, to the same
// bytes, and so that no dictionary is made that was not looked at.
type xzReader struct {
	in      *bufio.Reader
	crc     hash.Hash32 // of the fields since begin
	fields  int64       // bytes of them
	buf     [1024]byte  // for the longest field, a block header
	copying []byte      // buffer
	window  uint64      // the largest dictionary that passes
	charged uint64      // bytes of dictionaries so far
	decoded uint64      // bytes of content so far

	held *holding

	flags   [2]byte   // of the stream
	blocks  uint64    // of the stream
	list    hash.Hash // of what the list at the stream's end must hold
	streams int64
}

// decodeXZ decodes all streams of in to sink and returns how many there were.
// Dictionaries are held in held. The error is a decodeError, or that of sink.
func decodeXZ(in *bufio.Reader, sink io.Writer, l Limits, held *holding) (int64, error) {
	x := &xzReader{in: in, held: held, crc: crc32.NewIEEE(), window: uint64(l.Window), copying: make([]byte, 32<<10)}
	for {
		if err := x.stream(sink); err != nil {
			return x.streams, x.eof(err)
		}
		if more, err := x.padding(); !more || err != nil {
			return x.streams, x.eof(err)
		}
	}
}

var errXZ = corrupt("bad xz data")

// eof makes the end of the input inside a stream an error of ours.
func (x *xzReader) eof(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(fmt.Sprintf("the xz file is cut in stream %d", x.streams+1))
	}
	return err
}

// begin starts a part of the file that has a checksum of its own.
func (x *xzReader) begin() {
	x.crc.Reset()
	x.fields = 0
}

// field reads n bytes.
func (x *xzReader) field(n int) ([]byte, error) {
	f := x.buf[:n]
	if _, err := io.ReadFull(x.in, f); err != nil {
		return nil, err
	}
	x.crc.Write(f)
	x.fields += int64(n)
	return f, nil
}

// checksum reads the CRC-32 of the fields since begin.
func (x *xzReader) checksum() error {
	want := x.crc.Sum32()
	f, err := x.field(4)
	if err == nil && binary.LittleEndian.Uint32(f) != want {
		return corrupt("wrong checksum of an xz header")
	}
	return err
}

func (x *xzReader) stream(sink io.Writer) error {
	f, err := x.field(6)
	if err != nil {
		return err
	}
	if !bytes.Equal(f, xzMagic) {
		return corrupt("bytes after the xz stream")
	}
	x.begin()
	if f, err = x.field(2); err != nil {
		return err
	}
	x.flags, x.blocks, x.list = [2]byte(f), 0, sha256.New()
	if err := x.checksum(); err != nil {
		return err
	}
	check := newXZCheck(x.flags)
	if check == nil {
		return corrupt("unknown check of an xz stream")
	}
	for {
		x.begin()
		size, err := x.field(1)
		switch {
		case err != nil:
			return err
		case size[0] == 0:
			if err := x.end(); err != nil {
				return err
			}
			x.streams++
			return nil
		}
		x.blocks++
		check.Reset()
		if err := x.block(int(size[0])*4+3, check, sink); err != nil {
			return err
		}
	}
}

// record adds the sizes of a block to what the list must hold.
func (x *xzReader) record(h hash.Hash, unpadded, content uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], unpadded)
	binary.LittleEndian.PutUint64(b[8:], content)
	h.Write(b[:])
}

// varint reads a number of 7 bits a byte, in no more bytes than it needs.
func (x *xzReader) varint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 63; shift += 7 {
		f, err := x.field(1)
		if err != nil {
			return 0, err
		}
		v |= uint64(f[0]&0x7f) << shift
		if f[0] < 0x80 {
			if f[0] == 0 && shift > 0 {
				return 0, errXZ
			}
			return v, nil
		}
	}
	return 0, errXZ
}

// zeros reads n bytes of padding.
func (x *xzReader) zeros(n int64) error {
	f, err := x.field(int(n))
	if err == nil && bytes.Count(f, []byte{0}) != len(f) {
		return errXZ
	}
	return err
}

// end reads the list of blocks and the footer. The list must hold the sizes
// of the blocks that were there.
func (x *xzReader) end() error {
	n, err := x.varint()
	if err != nil {
		return err
	}
	if n != x.blocks {
		return corrupt("the list of xz blocks is wrong")
	}
	list := sha256.New()
	for range n {
		unpadded, err := x.varint()
		if err != nil {
			return err
		}
		content, err := x.varint()
		if err != nil {
			return err
		}
		x.record(list, unpadded, content)
	}
	if !bytes.Equal(list.Sum(nil), x.list.Sum(nil)) {
		return corrupt("the list of xz blocks is wrong")
	}
	if err := x.zeros(-x.fields & 3); err != nil {
		return err
	}
	if err := x.checksum(); err != nil {
		return err
	}
	return x.footer(x.fields)
}

// footer reads the last 12 bytes of a stream.
func (x *xzReader) footer(list int64) error {
	f, err := x.field(4)
	if err != nil {
		return err
	}
	want := binary.LittleEndian.Uint32(f)
	x.begin()
	if f, err = x.field(6); err != nil {
		return err
	}
	sum := x.crc.Sum32()
	size := (int64(binary.LittleEndian.Uint32(f)) + 1) * 4
	if sum != want || size != list || [2]byte(f[4:]) != x.flags {
		return corrupt("wrong xz footer")
	}
	if f, err = x.field(2); err == nil && !bytes.Equal(f, xzFooter) {
		return corrupt("wrong xz footer")
	}
	return err
}

// padding reads zeros behind a stream, in fours, and reports whether another
// stream follows.
func (x *xzReader) padding() (more bool, err error) {
	for {
		head, err := x.in.Peek(4)
		switch {
		case len(head) == 0 && err == io.EOF:
			return false, nil
		case len(head) == 4 && binary.LittleEndian.Uint32(head) == 0:
			_, err = x.in.Discard(4)
		case len(head) == 4 || err == io.EOF:
			return true, nil // stream says what is wrong with it
		}
		if err != nil {
			return false, err
		}
	}
}
