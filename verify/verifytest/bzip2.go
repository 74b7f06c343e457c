package verifytest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
)

// Bzip2 returns content as a bzip2 stream of one block, which holds 900 000
// bytes. Go's library reads the format and does not write it; this is all that
// a right stream needs and nothing that would make it small or fast.
func Bzip2(content []byte) []byte {
	w := &bitWriter{}
	w.write(24, 'B'<<16|'Z'<<8|'h')
	w.write(8, '9')
	var sum uint32
	if len(content) > 0 {
		sum = bzip2Sum(content)
		w.write(48, 0x314159265359)
		w.write(32, uint64(sum))
		bzip2Block(w, runsOfFour(content))
	}
	w.write(48, 0x177245385090)
	w.write(32, uint64(sum)) // of one block it is the sum of the stream
	w.write(7, 0)            // fills the last byte
	return w.out
}

// bzip2Sum is CRC-32 with the bits of each byte, and of the sum, turned round.
func bzip2Sum(content []byte) uint32 {
	turned := bytes.Clone(content)
	for i, b := range turned {
		turned[i] = bits.Reverse8(b)
	}
	return bits.Reverse32(crc32.ChecksumIEEE(turned))
}

// runsOfFour puts the number of further bytes behind each four equal ones.
func runsOfFour(content []byte) []byte {
	var out []byte
	for len(content) > 0 {
		n := 1
		for n < len(content) && n < 4+255 && content[n] == content[0] {
			n++
		}
		out = append(out, content[:min(n, 4)]...)
		if n >= 4 {
			out = append(out, byte(n-4))
		}
		content = content[n:]
	}
	return out
}

// bzip2Block writes a block behind its checksum.
func bzip2Block(w *bitWriter, block []byte) {
	last, origin := burrowsWheeler(block)
	w.write(1, 0) // not randomised
	w.write(24, uint64(origin))
	used := slices.Compact(slices.Sorted(slices.Values(block)))
	w.bitmap(used)
	symbols := moveToFront(last, used)
	size := len(used) + 2

	// Two equal codes, of which all groups of 50 symbols use the first. Codes
	// are one bit shorter for the symbols that the number leaves room for.
	groups := (len(symbols) + 49) / 50
	w.write(3, 2)
	w.write(15, uint64(groups))
	for range groups {
		w.write(1, 0)
	}
	long := bits.Len(uint(size - 1))
	short := 1<<long - size // symbols with the shorter code
	for range 2 {
		w.write(5, uint64(long-1))
		for s := range size {
			if s == short {
				w.write(2, 0b10) // one bit longer, from here on
			}
			w.write(1, 0)
		}
	}
	for _, s := range symbols {
		if s < short {
			w.write(long-1, uint64(s))
		} else {
			w.write(long, uint64(s+short))
		}
	}
}

// burrowsWheeler returns the last column of the sorted rotations of a block,
// and which of them is the block itself.
func burrowsWheeler(block []byte) (last []byte, origin int) {
	n := len(block)
	twice := slices.Concat(block, block)
	rotations := make([]int, n)
	for i := range rotations {
		rotations[i] = i
	}
	slices.SortStableFunc(rotations, func(a, b int) int { return bytes.Compare(twice[a:a+n], twice[b:b+n]) })
	for i, r := range rotations {
		last = append(last, twice[r+n-1])
		if r == 0 {
			origin = i
		}
	}
	return last, origin
}

// moveToFront returns the symbols of a block: 0 and 1 count repetitions, as
// the digits one and two of a number, then come positions, then the end.
func moveToFront(column, used []byte) []int {
	var symbols []int
	order, repeated := bytes.Clone(used), 0
	flush := func() {
		for ; repeated > 0; repeated = (repeated - 1) / 2 {
			symbols = append(symbols, (repeated-1)%2)
		}
	}
	for _, b := range column {
		at := bytes.IndexByte(order, b)
		if at == 0 {
			repeated++
			continue
		}
		flush()
		symbols = append(symbols, at+1)
		copy(order[1:], order[:at])
		order[0] = b
	}
	flush()
	return append(symbols, len(used)+1)
}

// A bitWriter writes the highest bit first.
type bitWriter struct {
	out  []byte
	bits uint64
	n    int // bits not yet in out: fewer than 8
}

func (w *bitWriter) write(n int, v uint64) {
	for n > 32 {
		n -= 32
		w.write(32, v>>n&0xffffffff)
	}
	w.bits, w.n = w.bits<<n|v&(1<<n-1), w.n+n
	for ; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.bits>>(w.n-8)))
	}
}

// bitmap writes which bytes are used: which sixteens of them, then which.
func (w *bitWriter) bitmap(used []byte) {
	var all [32]byte
	for _, b := range used {
		all[b/8] |= 0x80 >> (b % 8)
	}
	var sixteens uint64
	for i := range 16 {
		if binary.BigEndian.Uint16(all[2*i:]) != 0 {
			sixteens |= 0x8000 >> i
		}
	}
	w.write(16, sixteens)
	for i := range 16 {
		if v := binary.BigEndian.Uint16(all[2*i:]); v != 0 {
			w.write(16, uint64(v))
		}
	}
}
