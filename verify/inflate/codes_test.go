package inflate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// header writes the header of a final block whose codes have these lengths.
func (w *bitWriter) header(litLens, distLens []int) {
	w.write(1, 1)
	w.write(2, 2)
	w.write(uint32(len(litLens)-257), 5)
	w.write(uint32(len(distLens)-1), 5)
	w.write(19-4, 4)
	// Lengths have codes of 4 bits, but for six symbols of 5: a complete code.
	codeLens := []int{4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5}
	for _, s := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		w.write(uint32(codeLens[s]), 3)
	}
	code := newHuffman(codeLens)
	for _, n := range slices.Concat(litLens, distLens) {
		w.symbol(code, n)
	}
}

// with returns n lengths, all 0 but those given as symbols and lengths in turn.
func with(n int, lens ...int) []int {
	all := make([]int, n)
	for i := 0; i < len(lens); i += 2 {
		all[lens[i]] = lens[i+1]
	}
	return all
}

// Codes at the edge of what is one. Of too few, a single code of one bit is
// allowed, and none at all.
func TestCodes(t *testing.T) {
	t.Parallel()
	literals := with(257, 'a', 1, 256, 1)
	matches := with(286, 'a', 2, 256, 2, 257, 2, 285, 2)
	for _, tt := range []struct {
		is              string
		literals, dists []int
		use             string // bits behind the codes
		takes           bool
	}{
		{"a literal and the end", literals, with(1), "0 0 1", true},
		{"no code for distances, and one is used", with(258, 'a', 1, 256, 2, 257, 2), with(1), "0 11 0", false},
		{"one code for distances, of one bit", with(258, 'a', 1, 256, 2, 257, 2), with(1, 0, 1), "0 11 0 10", true},
		{"one code for distances, of one bit, and the other is used", with(258, 'a', 1, 256, 2, 257, 2), with(1, 0, 1), "0 11 1 10", false},
		{"one code for distances, of two bits", literals, with(1, 0, 2), "0 1", false},
		{"one code for distances, of fifteen bits", literals, with(1, 0, 15), "0 1", false},
		{"two codes for distances, of two bits", literals, with(2, 0, 2, 1, 2), "0 1", false},
		{"three codes for distances, of one bit", literals, with(3, 0, 1, 1, 1, 2, 1), "0 1", false},
		{"a code for the end alone, of one bit", with(257, 256, 1), with(1), "0", true},
		{"a code for the end alone, of one bit, and the other is used", with(257, 256, 1), with(1), "1", false},
		{"a code for the end alone, of two bits", with(257, 256, 2), with(1), "00", false},
		{"no code for the end", with(257, 'a', 1, 'b', 1), with(1), "0 1", false},
		{"no code at all", with(257), with(1), "0", false},
		{"one code too many", with(257, 'a', 1, 'b', 2, 'c', 2, 256, 2), with(1), "0", false},
		{"one code too few", with(257, 'a', 1, 256, 2), with(1), "0 10", false},
		{"codes of fifteen bits that lack the last", with(257, 'a', 1, 256, 15), with(1), "0", false},
		{"286 lengths of literals and 30 of distances, all there may be", with(286, 'a', 1, 256, 1), with(30), "0 1", true},
		{"287 lengths of literals", with(287, 'a', 1, 256, 1), with(1), "0 1", false},
		{"31 lengths of distances", literals, with(31), "0 1", false},
		{"length 258", matches, with(1, 0, 1), "00 11 0 01", true},
		{"length 3", matches, with(1, 0, 1), "00 10 0 01", true},
		{"a distance before the begin", matches, with(2, 0, 1, 1, 1), "00 10 1 01", false},
	} {
		w := new(bitWriter)
		w.header(tt.literals, tt.dists)
		for _, bit := range tt.use {
			if bit != ' ' {
				w.write(uint32(bit-'0'), 1)
			}
		}
		stream := append(w.bytes(), make([]byte, 40)...) // or a wrong code would be one that is cut
		if got := agree(t, tt.is, stream, 1, 24); (got.Fails == "") != tt.takes {
			t.Errorf("%s: compress/flate says %q", tt.is, got.Fails)
		}
	}
}

// The farthest distance works wherever in the window it is, and one byte more
// than there is does not: neither at the begin of a file nor in a later member
// that begins shortly before the window moves.
func TestDistances(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for before := 90_000; before < 290_000; before += 997 * int(200/many(200)) {
		first := gzipOf(storedOf(noise[:before], true))
		for _, tt := range []struct {
			n, dist int // the second member has n bytes, then a match
			takes   bool
		}{
			{20_000, 20_000, true}, {20_000, 20_001, false}, {32_768, 32_768, true}, {40_000, 32_768, true}, {32_767, 32_768, false},
		} {
			w := &bitWriter{out: storedOf(noise[:tt.n], false)}
			w.match(tt.dist)
			want := slices.Concat(noise[:before], noise[:tt.n])
			want = append(want, want[len(want)-tt.dist:][:3]...) // what a decoder gets that forgets where a member begins
			second := member(w.bytes(), want[before:])
			c := new(collector)
			_, err := Gunzip(&pieces{data: append(slices.Clone(first), second...), sizes: []int{1 << 20}}, c)
			if (err == nil) != tt.takes {
				t.Fatalf("%d bytes, then %d and a distance of %d: %v", before, tt.n, tt.dist, err)
			}
			if tt.takes && !bytes.Equal(want, c.got) {
				t.Fatalf("%d bytes, then %d and a distance of %d: other bytes", before, tt.n, tt.dist)
			}
		}
	}
}

// A segment may be one byte short of full when two literals and the longest match
// come, wherever in the window that is; what is written beyond stays in it.
func TestLongestRound(t *testing.T) {
	t.Parallel()
	for laps := range 9 {
		for short := range 4 {
			n := (laps+1)*segment - short
			content := bytes.Repeat([]byte("0123456789abcdef"), n/16+20)
			w := &bitWriter{out: storedOf(content[:n-2], false)}
			w.write(1, 1)
			w.write(1, 2)
			lits, dists := fixedHuffman(288), fixedHuffman(30)
			for range 3 { // each a round
				w.symbol(lits, 'x')
				w.symbol(lits, 'y')
				w.symbol(lits, 285) // 258 bytes
				w.symbol(dists, 6)  // 9 or
				w.write(1, 2)       // 10 back
			}
			for range 40 {
				w.symbol(lits, 'z')
			}
			w.symbol(lits, 256)
			if got := agree(t, fmt.Sprintf("%d bytes, then rounds", n), w.bytes()); got.Fails != "" {
				t.Fatalf("the test made a stream that is none: %s", got.Fails)
			}
		}
	}
}

// match writes a final block of one match of 3 bytes.
func (w *bitWriter) match(dist int) {
	w.write(1, 1)
	w.write(1, 2)
	lits, dists := fixedHuffman(288), fixedHuffman(30)
	w.symbol(lits, 257)
	s := len(distBases) - 1
	for distBases[s] > dist {
		s--
	}
	w.symbol(dists, s)
	w.write(uint32(dist-distBases[s]), distExtras[s])
	w.symbol(lits, 256)
}

// storedOf returns content in stored blocks, of which the last may be final.
func storedOf(content []byte, final bool) []byte {
	var out []byte
	for len(content) > 0 {
		n := min(len(content), 65535)
		last := byte(0)
		if final && n == len(content) {
			last = 1
		}
		out = append(out, last, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		out = append(out, content[:n]...)
		content = content[n:]
	}
	return out
}

// Large tables fit in: codes of all symbols, of every length of the longest.
func TestLargeTables(t *testing.T) {
	t.Parallel()
	for _, alphabet := range []int{257, 286} {
		for longest := 9; longest <= 15; longest++ {
			for seed := range many(200) {
				random := rand.New(rand.NewPCG(seed, uint64(longest)))
				all := random.Perm(alphabet)
				lens := randomLens(random, alphabet, all, longest)
				dists := randomLens(random, 30, random.Perm(30), longest)
				w := new(bitWriter)
				w.header(lens, dists)
				lits := newHuffman(lens)
				for range 50 {
					w.symbol(lits, random.IntN(256))
				}
				w.symbol(lits, 256)
				if got := agree(t, fmt.Sprintf("%d symbols, %d bits, seed %d", alphabet, longest, seed), w.bytes()); got.Fails != "" {
					t.Fatalf("the test made a stream that is none: %s", got.Fails)
				}
			}
		}
	}
}
