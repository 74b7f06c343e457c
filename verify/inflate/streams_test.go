package inflate

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// packBits puts bits into bytes, from the least up. Blanks do not count.
func packBits(bits string) []byte {
	var w bitWriter
	for _, bit := range strings.ReplaceAll(bits, " ", "") {
		w.write(uint32(bit-'0'), 1)
	}
	return w.bytes()
}

// A bitWriter writes bits, from the least of each byte up.
type bitWriter struct {
	out  []byte
	bits uint64
	n    int
}

func (w *bitWriter) write(v uint32, n int) {
	w.bits |= uint64(v) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
}

func (w *bitWriter) bytes() []byte {
	if w.n > 0 {
		w.write(0, 8-w.n)
	}
	return w.out
}

// A huffman is a code for writing.
type huffman struct {
	lens  []int
	codes []uint32 // bits reversed
}

func newHuffman(lens []int) huffman {
	h := huffman{lens, make([]uint32, len(lens))}
	code := uint32(0)
	for n := 1; n <= 15; n++ {
		code <<= 1
		for i, l := range lens {
			if l == n {
				for bit := range n {
					h.codes[i] |= code >> bit & 1 << (n - 1 - bit)
				}
				code++
			}
		}
	}
	return h
}

func (w *bitWriter) symbol(h huffman, i int) { w.write(h.codes[i], h.lens[i]) }

// randomLens returns lengths of a complete code for the symbols given, of a
// shape that random makes, and none for others.
func randomLens(random *rand.Rand, alphabet int, symbols []int, most int) []int {
	leaves := []int{0}
	deep := random.IntN(2) == 0
	for len(leaves) < len(symbols) {
		i := random.IntN(len(leaves))
		if deep { // long codes
			i = len(leaves) - 1 - random.IntN(min(len(leaves), 3))
		}
		if leaves[i] == most {
			i = slices.Index(leaves, slices.Min(leaves))
		}
		leaves[i]++
		leaves = append(leaves, leaves[i])
	}
	random.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
	lens := make([]int, alphabet)
	for i, s := range symbols {
		lens[s] = max(leaves[i], 1)
	}
	return lens
}

// randomStream returns a DEFLATE stream of several blocks that has about so many
// symbols, of any kind that there is.
func randomStream(random *rand.Rand, symbols int) []byte {
	w, written := &bitWriter{}, 0
	for {
		n := 1 + random.IntN(symbols)
		symbols -= n
		final := uint32(0)
		if symbols <= 0 {
			final = 1
		}
		w.write(final, 1)
		switch kind := random.IntN(10); {
		case kind == 0:
			written += w.storedBlock(random, min(n, 65535))
		case kind == 1:
			w.write(1, 2)
			written = w.symbols(random, fixedHuffman(288), fixedHuffman(30), n, written)
		default:
			w.write(2, 2)
			written = w.dynamicBlock(random, n, written)
		}
		if final == 1 {
			return w.bytes()
		}
	}
}

func (w *bitWriter) storedBlock(random *rand.Rand, n int) int {
	w.write(0, 2)
	w.out, w.n = w.bytes(), 0
	w.out = append(w.out, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
	for range n {
		w.out = append(w.out, byte(random.Uint32()))
	}
	return n
}

func fixedHuffman(n int) huffman {
	lens := make([]int, n)
	for i := range lens {
		switch {
		case n == 30:
			lens[i] = 5
		case i < 144, i >= 280:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		default:
			lens[i] = 7
		}
	}
	return newHuffman(lens)
}

// dynamicBlock writes a block with codes of its own.
func (w *bitWriter) dynamicBlock(random *rand.Rand, n, written int) int {
	lits := random.Perm(256)[:1+random.IntN(256)]
	lits = append(lits, 256)
	for _, l := range random.Perm(29)[:random.IntN(30)] {
		lits = append(lits, 257+l)
	}
	dists := random.Perm(30)[:random.IntN(31)]
	litLens := randomLens(random, 286, lits, 15)
	distLens := randomLens(random, 30, dists, 15)
	w.write(286-257, 5)
	w.write(30-1, 5)
	w.write(19-4, 4)
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	codeLens := randomLens(random, 19, order, 7)
	for _, s := range order {
		w.write(uint32(codeLens[s]), 3)
	}
	w.lens(random, newHuffman(codeLens), slices.Concat(litLens, distLens))
	return w.symbols(random, newHuffman(litLens), newHuffman(distLens), n, written)
}

// lens writes lengths, now and then as repetitions.
func (w *bitWriter) lens(random *rand.Rand, code huffman, lens []int) {
	for i := 0; i < len(lens); {
		run := 1
		for i+run < len(lens) && lens[i+run] == lens[i] {
			run++
		}
		switch {
		case lens[i] == 0 && run >= 11 && random.IntN(4) > 0:
			run = min(run, 138)
			w.symbol(code, 18)
			w.write(uint32(run-11), 7)
		case lens[i] == 0 && run >= 3 && random.IntN(4) > 0:
			run = min(run, 10)
			w.symbol(code, 17)
			w.write(uint32(run-3), 3)
		case i > 0 && lens[i] == lens[i-1] && run >= 3 && random.IntN(4) > 0:
			run = min(run, 6)
			w.symbol(code, 16)
			w.write(uint32(run-3), 2)
		default:
			run = 1
			w.symbol(code, lens[i])
		}
		i += run
	}
}

// symbols writes n symbols and the end of the block. Before it, so many bytes
// were written, which it returns with its own.
func (w *bitWriter) symbols(random *rand.Rand, lits, dists huffman, n, written int) int {
	matches := 256 + random.IntN(30)
	for range n {
		s := random.IntN(matches)
		if lits.lens[s] == 0 || s == 256 {
			continue
		}
		if s < 256 {
			w.symbol(lits, s)
			written++
			continue
		}
		d := random.IntN(len(dists.lens))
		if dists.lens[d] == 0 || int(distBases[d]) > written {
			continue
		}
		w.symbol(lits, s)
		extra := random.IntN(1 << lengthExtras[s-257])
		w.write(uint32(extra), lengthExtras[s-257])
		w.symbol(dists, d)
		far := random.IntN(1 << distExtras[d])
		if distBases[d]+far > written {
			far = 0
		}
		w.write(uint32(far), distExtras[d])
		written += lengthBases[s-257] + extra
	}
	w.symbol(lits, 256)
	return written
}

// The tables of RFC 1951, section 3.2.5, made anew by their rule.
var (
	lengthBases, lengthExtras = bases(3, 29, 8, 4)
	distBases, distExtras     = bases(1, 30, 4, 2)
)

// bases returns n bases from first on, of which the first plain have no extra
// bits, and then each group has one more.
func bases(first, n, plain, group int) (base, extra []int) {
	for i := range n {
		e := max(0, (i-plain)/group+1)
		if i < plain {
			e = 0
		}
		if n == 29 && i == 28 { // length 258 has a symbol without extra bits
			first, e = 258, 0
		}
		base, extra = append(base, first), append(extra, e)
		first += 1 << e
	}
	return base, extra
}
