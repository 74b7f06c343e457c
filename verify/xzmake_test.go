package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"

	"github.com/ulikunitz/xz/lzma"
)

// The checks of an xz stream that readers know (The .xz File Format, section
// 2.1.1.2).
const (
	checkNone   = 0
	checkCRC32  = 1
	checkCRC64  = 4
	checkSHA256 = 10
)

// An xzBlock is a block of an xz stream with every field in the hands of the
// test. The zero value is a right block of no content.
type xzBlock struct {
	content    []byte
	data       []byte // LZMA2 data in place of that made from content
	dictionary byte   // code of its size, when not 0; else 64 KiB
	filters    []byte // flags of filters in place of LZMA2 with the dictionary
	count      byte   // of filters, less one
	sizes      []byte // compressed and uncompressed size in the header
	sizeFlags  byte   // which of them there are: 0x40 and 0x80
	padding    int    // more padding in the header than it needs, in fours
}

// xzHead returns the header of a stream.
func xzHead(check byte) []byte {
	return cat([]byte("\xfd7zXZ\x00"), summed([]byte{0, check}))
}

// summed returns b with its CRC-32 behind it.
func summed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.ChecksumIEEE(b))
}

// filled returns b with zeros up to a multiple of four bytes.
func filled(b []byte) []byte { return append(bytes.Clone(b), make([]byte, (4-len(b)%4)%4)...) }

func (b xzBlock) header() []byte {
	filters := b.filters
	if filters == nil {
		filters = []byte{0x21, 1, max(b.dictionary, 8)}
	}
	h := filled(cat([]byte{0, b.sizeFlags | b.count}, b.sizes, filters))
	h = append(h, make([]byte, 4*b.padding)...)
	h[0] = byte(len(h) / 4)
	return summed(h)
}

// lzma2 returns the data of a block.
func (b xzBlock) lzma2() []byte {
	if b.data != nil {
		return b.data
	}
	return lzma2Of(b.content)
}

// bytes returns the block in a stream with a check.
func (b xzBlock) bytes(check byte) []byte {
	return cat(b.header(), filled(b.lzma2()), checkOf(check, b.content))
}

// record returns the entry of the block in the list of its stream.
func (b xzBlock) record(check byte) []byte {
	size := len(b.header()) + len(b.lzma2()) + len(checkOf(check, nil))
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(size)), uint64(len(b.content)))
}

func checkOf(check byte, content []byte) []byte {
	switch check {
	case checkNone:
		return nil
	case checkCRC32:
		return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content))
	case checkCRC64:
		return binary.LittleEndian.AppendUint64(nil, crc64.Checksum(content, crc64.MakeTable(crc64.ECMA)))
	case checkSHA256:
		sum := sha256.Sum256(content)
		return sum[:]
	}
	// Unknown ones have a size all the same.
	return make([]byte, [...]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[check&15])
}

// xzList returns the list of blocks that ends a stream: a number in 7 bits a
// byte, and the records.
func xzList(number []byte, records ...[]byte) []byte {
	return summed(filled(cat([]byte{0}, number, cat(records...))))
}

// xzFoot returns the footer behind a list of so many bytes.
func xzFoot(check byte, list int) []byte {
	f := binary.LittleEndian.AppendUint32(nil, uint32(list/4-1))
	f = append(f, 0, check)
	return cat(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(f)), f, []byte("YZ"))
}

// xzEnd returns list and footer of a stream of blocks.
func xzEnd(check byte, blocks ...xzBlock) []byte {
	var records [][]byte
	for _, b := range blocks {
		records = append(records, b.record(check))
	}
	list := xzList(binary.AppendUvarint(nil, uint64(len(blocks))), records...)
	return cat(list, xzFoot(check, len(list)))
}

// xzStream returns a stream of blocks.
func xzStream(check byte, blocks ...xzBlock) []byte {
	out := xzHead(check)
	for _, b := range blocks {
		out = append(out, b.bytes(check)...)
	}
	return append(out, xzEnd(check, blocks...)...)
}

// xzd returns content as a stream of one block.
func xzd(content []byte) []byte { return xzStream(checkCRC64, xzBlock{content: content}) }

// lzma2Of returns content as LZMA2 data: chunks, and a zero.
func lzma2Of(content []byte) []byte { return chunks(64<<10, content) }

// chunks returns LZMA2 data with a chunk for each of contents.
func chunks(dictionary int, contents ...[]byte) []byte {
	var buf bytes.Buffer
	w, err := lzma.Writer2Config{DictCap: dictionary}.NewWriter2(&buf)
	if err != nil {
		panic(err) // the configurations are constant
	}
	for _, c := range contents {
		if _, err := w.Write(c); err != nil {
			panic(err)
		}
		w.Flush()
	}
	w.Close()
	return buf.Bytes()
}

// storedChunk returns content, up to 64 KiB, as a chunk that resets the
// dictionary (1) or does not (2).
func storedChunk(control byte, content []byte) []byte {
	return cat(binary.BigEndian.AppendUint16([]byte{control}, uint16(len(content)-1)), content)
}
