//go:build !klauspost

package inflate

import (
	"math/bits"
	"sync"
)

// The alphabets of RFC 1951, sections 3.2.5 and 3.2.7.
const (
	maxLitLens   = 286 // codes of literals and lengths that a block may list
	maxDistances = 30  // codes of distances that a block may list
	numLitLens   = 288 // with the two that the fixed code has and never uses
	numFixedDist = 32  // as above
	numCodeLens  = 19
	endOfBlock   = 256
	maxCodeLen   = 15
)

// How many bits of the input each root table is indexed by. Longer codes have a
// table of their own behind it.
const (
	litLenBits   = 11
	distBits     = 8
	codeLensBits = 7
)

// The largest tables that any complete code of these alphabets makes are 2342
// and 402 entries. They are powers of two so that a masked index needs no check.
const (
	litLenSize   = 4096
	distSize     = 512
	codeLensSize = 1 << codeLensBits
)

// tables are those of a block.
type tables struct {
	litLens [litLenSize]entry
	dists   [distSize]entry
}

// fixedTables returns the tables of the code of RFC 1951, section 3.2.6. They
// must not be changed.
var fixedTables = sync.OnceValue(func() *tables {
	var lens [numLitLens]uint8
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	var (
		c code
		t tables
	)
	c.build(t.litLens[:], litLenBits, lens[:], litLenSymbols[:])
	for i := range numFixedDist {
		lens[i] = 5
	}
	c.build(t.dists[:], distBits, lens[:numFixedDist], distSymbols[:])
	return &t
})

// An entry of a table says what the bits at its index mean:
//
//	literal   bit 31 set; the byte from bit 8 on
//	length    base from bit 16 on
//	distance  base from bit 16 on
//	special   bit 15 set: a subtable (bit 14) that begins at the index from bit
//	          16 on and has as many index bits as bits 8 to 11 say; the end of the
//	          block (bit 13); or no code at all
//
// Bits 0 to 5 are how many bits of the input it takes, extra bits included. Of
// these, the code of a length or distance has as many as bits 8 to 11 say.
type entry = uint32

const (
	isLiteral  entry = 1 << 31
	isSpecial  entry = 1 << 15
	isSubtable entry = 1 << 14
	isEnd      entry = 1 << 13
	noCode           = isSpecial
)

// lengthBase and lengthExtra are of the codes 257 to 285 (RFC 1951, section
// 3.2.5); distBase and distExtra of the distances.
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}

	// What each symbol means, as an entry that lacks the length of its code.
	litLenSymbols  = makeLitLenSymbols()
	distSymbols    = makeDistSymbols()
	codeLenSymbols = makeCodeLenSymbols()
)

func makeLitLenSymbols() (s [numLitLens]entry) {
	for i := range s {
		switch {
		case i < endOfBlock:
			s[i] = isLiteral | entry(i)<<8
		case i == endOfBlock:
			s[i] = isSpecial | isEnd
		case i < maxLitLens:
			s[i] = entry(lengthBase[i-257])<<16 | entry(lengthExtra[i-257])
		default:
			s[i] = noCode
		}
	}
	return s
}

func makeDistSymbols() (s [numFixedDist]entry) {
	for i := range s {
		s[i] = noCode
		if i < maxDistances {
			s[i] = entry(distBase[i])<<16 | entry(distExtra[i])
		}
	}
	return s
}

// The symbols of the code for code lengths stand for themselves.
func makeCodeLenSymbols() (s [numCodeLens]entry) {
	for i := range s {
		s[i] = entry(i) << 16
	}
	return s
}

// withCode returns the entry of a symbol whose code has n bits, or that many
// behind a root table.
func withCode(symbol entry, n int) entry { return symbol + entry(n)<<8*(1-symbol>>31) + entry(n) }

// A code is a Huffman code that is being made into a table.
type code struct {
	counts [maxCodeLen + 1]uint16 // how many symbols have a code of each length
	sorted [numLitLens]uint16     // the symbols by length of code, then by number
}

// build makes the table of the code in which symbol i has a code of lens[i]
// bits, or none if that is 0. The root has 1<<rootBits entries. It returns false
// for lengths that are no code: those that ask for more codes than there are,
// or for fewer, unless that is a single code of one bit or none at all. That is
// compress/flate's rule; zlib does not let the code for code lengths be so, and no
// block has use for one that is.
func (c *code) build(table []entry, rootBits int, lens []uint8, symbols []entry) bool {
	used, left := c.sort(lens)
	if left < 0 {
		return false
	}
	if left > 0 {
		return c.buildIncomplete(table[:1<<rootBits], used, symbols)
	}
	sorted := c.sorted[:used]
	n := 1
	for c.counts[n] == 0 {
		n++
	}
	word, end := 0, 1<<n // the next code, its bits reversed; the entries so far
	for ; n <= rootBits; n++ {
		for range c.counts[n] {
			table[word] = withCode(symbols[sorted[0]], n)
			sorted = sorted[1:]
			if word == end-1 { // all ones: the last
				double(table[:1<<rootBits], end)
				return true
			}
			word = next(word, end-1)
		}
		if n < rootBits {
			copy(table[end:2*end], table[:end])
			end *= 2
		}
	}
	c.subtables(table, rootBits, n, word, sorted, symbols)
	return true
}

// subtables makes the tables of codes that are longer than rootBits. The next
// code is word, of n bits.
func (c *code) subtables(table []entry, rootBits, n, word int, sorted []uint16, symbols []entry) {
	end, start, prefix := 1<<rootBits, 0, -1
	for left := c.counts[n]; ; left-- {
		for left == 0 {
			n++
			left = c.counts[n]
		}
		if p := word & (1<<rootBits - 1); p != prefix {
			// As large as the codes need that begin like this one.
			prefix, start = p, end
			size := n - rootBits
			for room := int(left); room < 1<<size; {
				size++
				room = room<<1 + int(c.counts[rootBits+size])
			}
			end = start + 1<<size
			table[prefix] = entry(start)<<16 | isSpecial | isSubtable | entry(size)<<8 | entry(rootBits)
		}
		e := withCode(symbols[sorted[0]], n-rootBits)
		sorted = sorted[1:]
		for i := start + word>>rootBits; i < end; i += 1 << (n - rootBits) {
			table[i] = e
		}
		if word == 1<<n-1 {
			return
		}
		word = next(word, 1<<n-1)
	}
}

// next returns the code behind word, bits reversed, in a code whose last is ones.
func next(word, ones int) int {
	bit := 1 << (bits.Len(uint(word^ones)) - 1)
	return word&(bit-1) | bit
}

// double repeats the first n entries over the table.
func double(table []entry, n int) {
	for ; n < len(table); n *= 2 {
		copy(table[n:2*n], table[:n])
	}
}

// sort sorts the symbols. It returns how many have a code, and how many codes
// of the longest kind are left over; fewer than none when there are too many.
func (c *code) sort(lens []uint8) (used, left int) {
	c.counts = [maxCodeLen + 1]uint16{}
	for _, n := range lens {
		c.counts[n&maxCodeLen]++
	}
	c.counts[0] = 0
	var offsets [maxCodeLen + 2]uint16
	left = 1
	for n := 1; n <= maxCodeLen; n++ {
		offsets[n+1] = offsets[n] + c.counts[n]
		left = left<<1 - int(c.counts[n])
		if left < 0 {
			return 0, left
		}
	}
	for i, n := range lens {
		if n != 0 {
			c.sorted[offsets[n&maxCodeLen]] = uint16(i)
			offsets[n&maxCodeLen]++
		}
	}
	return int(offsets[maxCodeLen]), left
}

// buildIncomplete makes the table of a code that has one symbol, or none.
func (c *code) buildIncomplete(root []entry, used int, symbols []entry) bool {
	if used > 1 || used == 1 && c.counts[1] == 0 {
		return false
	}
	for i := range root {
		root[i] = noCode
	}
	for i := 0; i < len(root) && used == 1; i += 2 {
		root[i] = withCode(symbols[c.sorted[0]], 1)
	}
	return true
}
