package verify_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strconv"
	"strings"
)

// DEFLATE data at the edge of RFC 1951. The bits are in the order of the
// stream.
var gzipDeflate = []golden{
	{"G90", "reserved block type", deflated("", "1 11"), "gzip corrupt", "E"},
	{"G91", "content in stored blocks, then a reserved block type", member{Content: p1, Deflate: cat(short(stored(p1), 5), []byte{7})}.Bytes(), "gzip corrupt", "E:P1 E:P1 E E E E"},
	{"G92", "length of a stored block that its complement does not confirm", member{Content: []byte("a"), Deflate: []byte("\x01\x01\x00\x00\x00a")}.Bytes(), "gzip corrupt", "E"},
	{"G93", "distance that reaches before the start", deflated("a", fixed+literal('a')+"0000001 00001"+fixedEnd), "gzip corrupt", "E:'a' E:'a' E E E E"},
	{"G94", "distance that reaches into the member before", cat(gz([]byte("abc")), deflated("abc", fixed+"0000001 00010"+fixedEnd)), "gzip corrupt", "E:'abc' E:'abc' E:'abc' E E E"},
	{"G95", "length symbol 286 of the fixed code", deflated("a", fixed+literal('a')+"11000110"+fixedEnd), "gzip corrupt", "E:'a' E:'a' E E E E"},
	{"G96", "distance symbol 30 of the fixed code", deflated("a", fixed+literal('a')+"0000001 11110"+fixedEnd), "gzip corrupt", "E:'a' E:'a' E E E E"},
	{"G97", "padding that is not zero after the final block", deflated("abc", fixed+literal('a')+literal('b')+literal('c')+fixedEnd+"111111"), "gzip 'abc' NotTar", "'abc'"},
	{"G98", "codes for a and the end, none for distances", deflated("aa", dynamic("97*0 1 158*0 1", "0")+"0 0 1"), "gzip 'aa' NotTar", "'aa'"},
	{"G99", "one code for distances, of one bit", deflated("aa", dynamic("97*0 1 158*0 1", "1")+"0 0 1"), "gzip 'aa' NotTar", "'aa'"},
	{"G100", "a code for the end alone, of one bit", deflated("", dynamic("256*0 1", "0")+"0"), "gzip empty", "empty"},
	{"G101", "no code for the end", deflated("a", dynamic("97*0 1 1 158*0", "0")+"0"), "gzip corrupt", "E:0ed761 E:0ed761 E:0ed761 E E E"},
	{"G102", "three codes of one bit", deflated("a", dynamic("97*0 1 1 157*0 1", "0")+"0 1"), "gzip corrupt", "E"},
	{"G103", "288 lengths of literal codes, which libdeflate takes", deflated("a", dynamic("97*0 1 158*0 1 31*0", "0")+"0 1"), "gzip corrupt", "E"},
	{"G104", "32 lengths of distance codes, which libdeflate takes", deflated("a", dynamic("97*0 1 158*0 1", "32*0")+"0 1"), "gzip corrupt", "E"},
	{"G105", "two distance codes of two bits, which igzip takes", deflated("a", dynamic("97*0 1 158*0 1", "2 2")+"0 1"), "gzip corrupt", "E E E E 'a' E"},
}

// deflated returns a member with right checksums around a DEFLATE stream.
func deflated(content, stream string) []byte {
	return member{Content: []byte(content), Deflate: pack(stream)}.Bytes()
}

const (
	fixed    = "1 10 "    // final block, fixed codes
	fixedEnd = " 0000000" // end of a block with fixed codes
)

// literal returns the fixed code of an ASCII character.
func literal(c byte) string { return fmt.Sprintf("%08b ", 0x30+c) }

// dynamic returns the header of a final block whose codes have the lengths
// given, such as "97*0 1": 97 codes of no bits, then one of one bit.
func dynamic(literals, distances string) string {
	lits, dists := expand(literals), expand(distances)
	s := "1 01" + number(len(lits)-257, 5) + number(len(dists)-1, 5) + number(18-4, 4)
	// The lengths 0, 1 and 2 and the repetition 18 have codes of two bits: 00,
	// 01, 10 and 11. They are listed in the order 16 17 18 0 8 7 ... 2 14 1.
	for _, length := range []int{0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2} {
		s += number(length, 3)
	}
	lengths := append(lits, dists...)
	for len(lengths) > 0 {
		zeros := 0
		for zeros < min(len(lengths), 138) && lengths[zeros] == 0 {
			zeros++
		}
		if zeros >= 11 {
			s += "11" + number(zeros-11, 7)
			lengths = lengths[zeros:]
			continue
		}
		s += []string{"00", "01", "10"}[lengths[0]]
		lengths = lengths[1:]
	}
	return s
}

func expand(runs string) []int {
	var out []int
	for run := range strings.FieldsSeq(runs) {
		n := 1
		if count, value, ok := strings.Cut(run, "*"); ok {
			n, _ = strconv.Atoi(count)
			run = value
		}
		v, _ := strconv.Atoi(run)
		for range n {
			out = append(out, v)
		}
	}
	return out
}

// number returns the bits of n, the least first.
func number(n, width int) string {
	var s strings.Builder
	for i := range width {
		s.WriteByte('0' + byte(n>>i&1))
	}
	return s.String()
}

// pack puts bits into bytes, from the least up. Blanks do not count.
func pack(stream string) []byte {
	var out []byte
	for i, bit := range []byte(strings.ReplaceAll(stream, " ", "")) {
		if i%8 == 0 {
			out = append(out, 0)
		}
		out[i/8] |= (bit - '0') << (i % 8)
	}
	return out
}

// stored returns content as a DEFLATE stream of stored blocks. The last five
// bytes are the final block.
func stored(content []byte) []byte {
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, flate.NoCompression)
	w.Write(content)
	w.Close()
	return buf.Bytes()
}

// flushed returns content as a DEFLATE stream that is flushed after each byte.
// The last five bytes are the final block.
func flushed(content []byte) []byte {
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, flate.DefaultCompression)
	for i := range content {
		w.Write(content[i : i+1])
		w.Flush()
	}
	w.Close()
	return buf.Bytes()
}
