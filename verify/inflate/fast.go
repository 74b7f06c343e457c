//go:build !klauspost

package inflate

import "encoding/binary"

// fastInput is how many bytes of input a round of the fast way needs: it has two
// refills at most, each of which reads 8 bytes and moves on by at most 7.
const fastInput = 16

// A reader is the input as the fast way sees it. The bits of b above n&63 are
// zero, or those of the bytes from pos on: to put these in once more changes
// nothing. What n has above its lowest six bits is of no meaning, so an entry
// can be subtracted as it is.
type reader struct {
	pos int
	b   uint64
	n   uint32
}

// refill makes n at least 56.
func (r reader) refill(in []byte) reader {
	r.b |= binary.LittleEndian.Uint64(in[r.pos:]) << (r.n & 63)
	r.pos += int(^r.n & 63 >> 3)
	r.n |= 56
	return r
}

// take takes the bits of an entry.
func (r reader) take(e entry) reader {
	r.b >>= e & 63
	r.n -= e
	return r
}

// value returns the base of a length or distance with its extra bits.
func (r reader) value(e entry) int {
	return int(e>>16) + int(r.b&(1<<(e&31)-1)>>(e>>8&15))
}

// sub returns the entry in a subtable whose bits are next.
func (r reader) sub(e entry) uint64 { return uint64(e>>16) + r.b&(1<<(e>>8&15)-1) }

// fast decodes symbols for as long as there are bytes to spare in the input and
// in the segment. It returns true at the end of the block.
//
// A round has 56 bits: enough for three literals of the root table, or for a
// length (20 bits) and a distance (28 bits).
func (d *decoder) fast(t *tables) (end bool, err error) {
	var (
		r     = reader{d.in.pos, d.in.bits, uint32(d.in.n)}
		in    = d.in.buf
		last  = len(d.in.buf) - fastInput
		out   = &d.out.buf
		w     = d.out.w
		limit = d.out.limit()
		lo    = d.out.lo
		lits  = &t.litLens
		dists = &t.dists
	)
	r = r.refill(in)
	e := lits[r.b&(1<<litLenBits-1)]
	for r.pos <= last && w < limit {
		if e&isLiteral != 0 {
			out[w] = byte(e >> 8)
			r, w = r.take(e), w+1
			e = lits[r.b&(1<<litLenBits-1)]
			if e&isLiteral != 0 {
				out[w] = byte(e >> 8)
				r, w = r.take(e), w+1
				e = lits[r.b&(1<<litLenBits-1)]
				if e&isLiteral != 0 {
					out[w] = byte(e >> 8)
					r, w = r.take(e).refill(in), w+1
					e = lits[r.b&(1<<litLenBits-1)]
					continue
				}
			}
			r = r.refill(in)
		}
		if e&isSpecial != 0 {
			if e&isSubtable != 0 {
				r.b >>= litLenBits
				r.n -= litLenBits
				e = lits[r.sub(e)&(litLenSize-1)]
				if e&isLiteral != 0 {
					out[w] = byte(e >> 8)
					r, w = r.take(e).refill(in), w+1
					e = lits[r.b&(1<<litLenBits-1)]
					continue
				}
			}
			if e&isSpecial != 0 {
				if end = e&isEnd != 0; !end {
					err = errCorrupt
				}
				r = r.take(e)
				break
			}
		}
		length := r.value(e)
		r = r.take(e)

		e = dists[r.b&(1<<distBits-1)]
		if e&isSubtable != 0 {
			r.b >>= distBits
			r.n -= distBits
			e = dists[r.sub(e)&(distSize-1)]
		}
		dist := r.value(e)
		if e&isSpecial != 0 || dist > w-lo {
			err = errCorrupt
			break
		}
		// The next entry is on its way while the match is copied.
		r = r.take(e).refill(in)
		e = lits[r.b&(1<<litLenBits-1)]

		copyMatch(out, w, dist, length)
		w += length
	}
	n := uint(r.n & 63)
	d.in.pos, d.in.bits, d.in.n = r.pos, r.b&(1<<n-1), n
	d.out.w = w
	return end, err
}

// copyMatch writes again what was written dist bytes ago, and up to 31 bytes
// more.
func copyMatch(out *[windowSize]byte, w, dist, length int) {
	from, to := w-dist, w+length
	switch {
	case dist >= 8: // eight bytes at a time do not overlap
		copy8(out, w, from)
		copy8(out, w+8, from+8)
		if length > 16 {
			copy8(out, w+16, from+16)
			copy8(out, w+24, from+24)
			for w, from = w+32, from+32; w < to; w, from = w+32, from+32 {
				copy8(out, w, from)
				copy8(out, w+8, from+8)
				copy8(out, w+16, from+16)
				copy8(out, w+24, from+24)
			}
		}
	case dist == 1:
		run := uint64(out[from]) * 0x0101010101010101
		for ; w < to; w += 8 {
			binary.LittleEndian.PutUint64(out[w:], run)
		}
	default:
		for ; w < to; w, from = w+1, from+1 {
			out[w] = out[from]
		}
	}
}

// copy8 copies eight bytes.
func copy8(out *[windowSize]byte, to, from int) {
	binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[from:]))
}
