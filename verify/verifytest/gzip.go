package verifytest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Gzip returns content as one gzip member, as an ordinary tool writes it.
func Gzip(content []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(content)
	must(err)
	must(w.Close())
	return buf.Bytes()
}

// GzipMembers returns each of contents as a gzip member of its own, as pgzip,
// bgzip and eStargz do.
func GzipMembers(contents ...[]byte) []byte {
	var members [][]byte
	for _, c := range contents {
		members = append(members, Gzip(c))
	}
	return slices.Concat(members...)
}

// The flags of a gzip header (RFC 1952, section 2.3.1) that a [Member] does
// not set by itself.
const (
	FlagText      = 1 << 0
	FlagReserved5 = 1 << 5
	FlagReserved6 = 1 << 6
	FlagReserved7 = 1 << 7
)

// A Member is a gzip member with every field of RFC 1952 in the hands of the
// test. The zero value is a right member of no content.
type Member struct {
	Content []byte
	Deflate []byte // DEFLATE data in place of that made from Content
	Extra   []byte // FEXTRA, when not nil
	Name    string // FNAME, when not empty; without its zero byte
	Comment string // FCOMMENT, when not empty; without its zero byte
	Flags   byte   // more flags
	Method  byte   // in place of 8, when not 0

	HeaderCRC      bool // FHCRC, with the right checksum
	WrongHeaderCRC bool // FHCRC, with a wrong checksum
	WrongCRC       bool // a wrong CRC-32 in the trailer
	WrongSize      bool // a wrong ISIZE in the trailer
}

// Bytes returns the member as stored.
func (m Member) Bytes() []byte {
	data := m.Deflate
	if data == nil {
		data = Deflate(m.Content)
	}
	return slices.Concat(m.Header(), data, m.trailer())
}

// Header returns the header of the member.
func (m Member) Header() []byte {
	const extra, name, comment, headerCRC = 1 << 2, 1 << 3, 1 << 4, 1 << 1
	method := m.Method
	if method == 0 {
		method = 8
	}
	h := []byte{0x1f, 0x8b, method, m.Flags, 0, 0, 0, 0, 0, 0xff}
	if m.Extra != nil {
		h[3] |= extra
		h = binary.LittleEndian.AppendUint16(h, uint16(len(m.Extra)))
		h = append(h, m.Extra...)
	}
	if m.Name != "" {
		h[3] |= name
		h = append(append(h, m.Name...), 0)
	}
	if m.Comment != "" {
		h[3] |= comment
		h = append(append(h, m.Comment...), 0)
	}
	if m.HeaderCRC || m.WrongHeaderCRC {
		h[3] |= headerCRC
		sum := uint16(crc32.ChecksumIEEE(h))
		if m.WrongHeaderCRC {
			sum++
		}
		h = binary.LittleEndian.AppendUint16(h, sum)
	}
	return h
}

func (m Member) trailer() []byte {
	sum, size := crc32.ChecksumIEEE(m.Content), uint32(len(m.Content))
	if m.WrongCRC {
		sum++
	}
	if m.WrongSize {
		size++
	}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum), size)
}

// Deflate returns content as a raw DEFLATE stream (RFC 1951).
func Deflate(content []byte) []byte {
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.DefaultCompression)
	must(err)
	_, err = w.Write(content)
	must(err)
	must(w.Close())
	return buf.Bytes()
}

// TwoContents returns a gzip blob that unpigz reads as first and that
// compress/gzip reads as first and second, both with success: the second
// member has a reserved flag set, which the one takes for junk after the end
// and the other ignores.
func TwoContents(first, second []byte) []byte {
	return slices.Concat(Gzip(first), Member{Content: second, Flags: FlagReserved5}.Bytes())
}

// TarOrGzip returns a blob that is a tar archive with one file and a gzip
// stream of content at once. Which one a runtime unpacks depends on whether it
// believes the media type or the first bytes.
func TarOrGzip(content []byte) []byte {
	// The name of the file is a gzip header with an extra field that swallows
	// the rest of the tar header.
	name := string(Member{Extra: make([]byte, 500)}.Header()[:12])
	// A second member swallows padding and end marker, and ends the stream
	// behind them.
	member := Member{Content: content}.Bytes()[10:]
	body := member
	padding := (512 - (len(body)+12)%512) % 512
	last := Member{Extra: make([]byte, padding+1024)}
	body = append(body, last.Header()[:12]...)
	blob := slices.Concat(tarHeader(name, len(body)), body, make([]byte, padding+1024))
	return append(blob, last.Bytes()[len(last.Header()):]...)
}

// blankHeader returns the header of an empty file whose checksum field holds blanks.
// archive/tar reads blanks as zero, and accepts the sum of the bytes as signed
// numbers, which is zero here. name may be any bytes.
func blankHeader(name string) []byte {
	h := tarHeader(name, 0)
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(int8(b))
	}
	link := h[157:257] // of which nothing is read for a file
	for i := range link {
		step := max(-128, min(127, -sum))
		link[i] = byte(int8(step))
		sum += step
	}
	if sum != 0 {
		panic("verifytest: no room for the checksum")
	}
	return h
}

// BlankTarOrGzip is TarOrGzip with a tar header that has blanks for a checksum.
func BlankTarOrGzip(content []byte) []byte {
	const size = 512 + 1024 // header of an empty file, and end marker
	head := Member{Extra: make([]byte, size-12)}.Header()[:12]
	return slices.Concat(blankHeader(string(head)), make([]byte, 1024), Member{Content: content}.Bytes()[10:])
}
