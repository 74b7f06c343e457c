package verify_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"diffgate/verify/verifytest"
)

// gzipRuntimes are gzipColumns without gzip(1), which no runtime uses, and with
// the second way to read from those that have one. pgzip has smaller buffers
// here, for many small blobs.
var gzipRuntimes = []column{
	gzipColumns[0], gzipColumns[1], gzipColumns[3], gzipColumns[4],
	{name: "klauspost WriteTo", decode: func(w io.Writer, r io.Reader) error {
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		_, err = z.WriteTo(w)
		return err
	}},
	{name: "pgzip", decode: func(w io.Writer, r io.Reader) error {
		z, err := pgzip.NewReaderN(r, 64<<10, 4)
		if err != nil {
			return err
		}
		defer z.Close()
		return copyReads(w, z)
	}},
	{name: "pgzip WriteTo", decode: func(w io.Writer, r io.Reader) error {
		z, err := pgzip.NewReaderN(r, 1000, 4)
		if err != nil {
			return err
		}
		defer z.Close()
		_, err = z.WriteTo(w)
		return err
	}},
}

// mutateGzip returns some gzip members and other things in a row, of which
// some are damaged.
func mutateGzip(r *rand.Rand) []byte {
	var (
		blob   []byte
		places []int // where a part begins or ends
	)
	for n := 1 + r.IntN(4); n > 0; n-- {
		part := randomMember(r)
		if len(blob) > 0 && oneIn(r, 5) {
			part = notMember(r)
		}
		if len(blob) == 0 && n > 1 && oneIn(r, 20) {
			part = filler(r)
		}
		places = append(places, len(blob), len(blob)+len(part)-8)
		blob = append(blob, part...)
	}
	for n := pick(r, 0, 0, 0, 0, 1, 1, 2, 3); n > 0; n-- {
		blob = damage(r, blob, places)
	}
	if len(blob) < 2 || oneIn(r, 20) {
		return blob
	}
	return append([]byte{0x1f, 0x8b}, blob[2:]...) // else no runtime takes it for gzip
}

// randomMember returns a member with any fields, which are mostly right.
func randomMember(r *rand.Rand) []byte {
	content := someBytes(r, pick(r, 0, 3, 300, 3000))
	data := randomDeflate(r, content)
	if oneIn(r, 4) {
		content, data = damagedDeflate(r, content, data)
	}
	sum, size := crc32.ChecksumIEEE(content), uint32(len(content))
	if oneIn(r, 30) {
		sum ^= 1 << r.IntN(32)
	}
	if oneIn(r, 30) {
		size += uint32(r.IntN(3))
	}
	m := cat(randomHeader(r), data)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(m, sum), size)
}

func randomHeader(r *rand.Rand) []byte {
	h := []byte{0x1f, 0x8b, 8, 0, byte(r.Uint32()), byte(r.Uint32()), 0, 0, pick[byte](r, 0, 2, 4, 0xff), pick[byte](r, 0, 3, 0xff)}
	if oneIn(r, 30) {
		h[2] = pick[byte](r, 0, 7, 9, 0xff)
	}
	if oneIn(r, 2) {
		h[3] = 1 << r.IntN(5)
	}
	if oneIn(r, 4) {
		h[3] |= byte(r.UintN(32))
	}
	if oneIn(r, 15) {
		h[3] |= byte(0x20 << r.IntN(3))
	}
	if h[3]&4 != 0 {
		extra := someBytes(r, pick(r, 0, 30, 3000))
		h = append(binary.LittleEndian.AppendUint16(h, uint16(len(extra))), extra...)
	}
	for _, flag := range []byte{8, 16} {
		if h[3]&flag != 0 {
			length := r.IntN(20)
			if oneIn(r, 3) {
				length = pick(r, 255, 256, 510, 511, 512, 513, 1023, 5000)
			}
			h = append(append(h, strings.Repeat("\xe9", length)...), 0)
		}
	}
	if h[3]&2 != 0 {
		sum := uint16(crc32.ChecksumIEEE(h))
		if oneIn(r, 5) {
			sum++
		}
		h = binary.LittleEndian.AppendUint16(h, sum)
	}
	return h
}

// randomDeflate returns content as a DEFLATE stream of one of many shapes.
func randomDeflate(r *rand.Rand, content []byte) []byte {
	switch r.IntN(8) {
	case 0:
		return stored(content)
	case 1:
		if len(content) < 100 {
			return flushed(content)
		}
	case 2:
		var s strings.Builder
		s.WriteString(fixed)
		for _, c := range content {
			if c >= 0x80 {
				return verifytest.Deflate(content)
			}
			s.WriteString(literal(c))
		}
		return pack(s.String() + fixedEnd)
	}
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, pick(r, flate.HuffmanOnly, 1, 6, 9))
	w.Write(content)
	w.Close()
	return buf.Bytes()
}

// damagedDeflate returns a DEFLATE stream with an error that compress/flate
// does not see, and the content that it reads there.
func damagedDeflate(r *rand.Rand, content, data []byte) (_, _ []byte) {
	for range 20 {
		bad := bytes.Clone(data)
		if oneIn(r, 3) {
			bad = randomCodes(r)
		}
		for n := r.IntN(3); n > 0; n-- {
			bad[r.IntN(min(len(bad), 100))] ^= 1 << r.IntN(8)
		}
		in := bytes.NewReader(bad)
		got, err := io.ReadAll(io.LimitReader(flate.NewReader(in), 1<<20))
		if err == nil && len(got) < 1<<20 {
			return got, bad[:len(bad)-in.Len()]
		}
	}
	return content, data
}

// randomCodes returns a block with dynamic codes of random lengths, up to two
// bits, and then random bits.
func randomCodes(r *rand.Rand) []byte {
	lengths := make([]string, 257+r.IntN(31))
	for i := range lengths {
		lengths[i] = "0"
	}
	for range 1 + r.IntN(4) {
		lengths[pick(r, 97, 98, 256, r.IntN(len(lengths)), 257+r.IntN(len(lengths)-256)-1)] = pick(r, "1", "2")
	}
	distances := make([]string, 1+r.IntN(32))
	for i := range distances {
		distances[i] = pick(r, "0", "0", "0", "1", "2")
	}
	s := dynamic(strings.Join(lengths, " "), strings.Join(distances, " "))
	for range r.IntN(200) {
		s += pick(r, "0", "1")
	}
	return pack(s)
}

// notMember returns what some decoder might take for the continuation of a
// gzip stream.
func notMember(r *rand.Rand) []byte {
	content := someBytes(r, 100)
	switch r.IntN(10) {
	case 0, 1, 2:
		return make([]byte, pick(r, 1, 2, 7, 8, 512, 4096, 1+r.IntN(70_000)))
	case 3:
		return someBytes(r, 40)
	case 4:
		return zlibbed(content)
	case 5:
		return compressed(content)
	case 6:
		return zipped(content)
	case 7:
		return verifytest.Zstd(content)
	case 8:
		return verifytest.Deflate(content)
	}
	m := randomMember(r)
	return m[:min(len(m), r.IntN(20))]
}

// filler returns a member after which the next begins near the end of a
// decoder's buffer.
func filler(r *rand.Rand) []byte {
	size := pick(r, 4<<10, 8<<10, 16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20) + r.IntN(28) - 24
	content := noise(size)
	m := member{Content: content, Deflate: stored(content)}.Bytes()
	return member{Content: content[:2*size-len(m)], Deflate: stored(content[:2*size-len(m)])}.Bytes()
}
