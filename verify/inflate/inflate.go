//go:build !klauspost

package inflate

import "io"

// A decoder decodes DEFLATE streams (RFC 1951) from an input to a window.
type decoder struct {
	in  input
	out window

	code     code
	lens     [maxLitLens + maxDistances]uint8
	codeLens [codeLensSize]entry
	own      tables // of the last block with codes of its own
}

// stream decodes one stream and leaves the input behind its last byte. It
// returns errCorrupt, errCut, or the error of the source or sink.
func (d *decoder) stream() error {
	d.out.begin()
	for {
		header, ok := d.in.take(3)
		if !ok {
			return d.in.failed()
		}
		var err error
		switch header >> 1 {
		case 0:
			err = d.stored()
		case 1:
			err = d.block(fixedTables())
		case 2:
			if err = d.dynamic(); err == nil {
				err = d.block(&d.own)
			}
		default:
			err = errCorrupt
		}
		if err != nil {
			return err
		}
		if header&1 != 0 {
			d.in.align()
			return nil
		}
	}
}

// stored copies a block that is not compressed (RFC 1951, section 3.2.4).
func (d *decoder) stored() error {
	d.in.align()
	sizes, ok := d.in.take(32)
	if !ok {
		return d.in.failed()
	}
	n := int(sizes & 0xffff)
	if sizes>>16 != uint32(n^0xffff) {
		return errCorrupt
	}
	var small [8]byte
	for n > 0 {
		if d.out.full() {
			if err := d.out.flush(); err != nil {
				return err
			}
		}
		p := d.in.bytes(min(n, d.out.limit()-d.out.w), &small)
		if len(p) == 0 {
			return d.in.failed()
		}
		d.out.w += copy(d.out.buf[d.out.w:], p)
		n -= len(p)
	}
	return nil
}

// codeLensOrder is the order in which the lengths of the codes for code lengths
// are listed (RFC 1951, section 3.2.7).
var codeLensOrder = [numCodeLens]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the codes of a block (RFC 1951, section 3.2.7).
func (d *decoder) dynamic() error {
	counts, ok := d.in.take(14)
	if !ok {
		return d.in.failed()
	}
	litLens, dists, codes := int(counts&31)+257, int(counts>>5&31)+1, int(counts>>10)+4
	if litLens > maxLitLens || dists > maxDistances {
		return errCorrupt
	}
	var lens [numCodeLens]uint8
	for _, symbol := range codeLensOrder[:codes] {
		n, ok := d.in.take(3)
		if !ok {
			return d.in.failed()
		}
		lens[symbol] = uint8(n)
	}
	if !d.code.build(d.codeLens[:], codeLensBits, lens[:], codeLenSymbols[:]) {
		return errCorrupt
	}
	if err := d.readLens(d.lens[:litLens+dists]); err != nil {
		return err
	}
	if !d.code.build(d.own.litLens[:], litLenBits, d.lens[:litLens], litLenSymbols[:]) ||
		!d.code.build(d.own.dists[:], distBits, d.lens[litLens:litLens+dists], distSymbols[:]) {
		return errCorrupt
	}
	return nil
}

// readLens reads the lengths of codes. A repetition may go from the literals
// over to the distances.
func (d *decoder) readLens(lens []uint8) error {
	for i := 0; i < len(lens); {
		symbol, err := d.codeLen()
		if err != nil {
			return err
		}
		if symbol < 16 {
			lens[i] = uint8(symbol)
			i++
			continue
		}
		var value uint8
		bits, base := uint(2), 3
		switch symbol {
		case 16:
			if i == 0 {
				return errCorrupt
			}
			value = lens[i-1]
		case 17:
			bits = 3
		default:
			bits, base = 7, 11
		}
		more, ok := d.in.take(bits)
		if !ok {
			return d.in.failed()
		}
		n := base + int(more)
		if n > len(lens)-i {
			return errCorrupt
		}
		for range n {
			lens[i] = value
			i++
		}
	}
	return nil
}

// codeLen reads a symbol of the code for code lengths.
func (d *decoder) codeLen() (uint32, error) {
	if d.in.n < codeLensBits {
		d.in.fill()
	}
	e := d.codeLens[d.in.bits&(codeLensSize-1)]
	n := uint(e & 63)
	if n > d.in.n {
		return 0, d.in.failed()
	}
	if e&isSpecial != 0 {
		return 0, d.badCode(codeLensBits)
	}
	d.in.bits >>= n
	d.in.n -= n
	return e >> 16, nil
}

// badCode is for bits that are no code; it may be that they are not all there.
func (d *decoder) badCode(most uint) error {
	if d.in.n < most && d.in.err != nil && d.in.err != io.EOF {
		return d.in.err
	}
	return errCorrupt
}

// block decodes what follows the codes of a block, up to its end.
func (d *decoder) block(t *tables) error {
	for {
		if d.out.full() {
			if err := d.out.flush(); err != nil {
				return err
			}
		}
		var end bool
		var err error
		if len(d.in.buf)-d.in.pos >= fastInput {
			end, err = d.fast(t)
		} else {
			end, err = d.symbol(t)
		}
		if end || err != nil {
			return err
		}
	}
}

// symbol decodes one symbol, where the bytes are too few for the fast way.
func (d *decoder) symbol(t *tables) (end bool, err error) {
	d.in.fill()
	e, ok := d.look(t.litLens[:], litLenBits)
	switch {
	case !ok:
		return false, d.in.failed()
	case e&isLiteral != 0:
		d.out.buf[d.out.w] = byte(e >> 8)
		d.out.w++
		return false, nil
	case e&isEnd != 0:
		return true, nil
	case e&isSpecial != 0:
		return false, d.badCode(maxCodeLen)
	}
	length := int(e >> 16)
	d.in.fill()
	e, ok = d.look(t.dists[:], distBits)
	switch {
	case !ok:
		return false, d.in.failed()
	case e&isSpecial != 0:
		return false, d.badCode(maxCodeLen)
	case !d.out.repeat(length, int(e>>16)):
		return false, errCorrupt
	}
	return false, nil
}

// look finds the entry for the next bits and takes them. It adds the extra bits
// of a length or distance to its base. It returns false when there are too few.
func (d *decoder) look(table []entry, rootBits uint) (e entry, ok bool) {
	e = table[d.in.bits&(1<<rootBits-1)]
	if e&isSubtable != 0 && e&isLiteral == 0 && e&isSpecial != 0 {
		if d.in.n < rootBits {
			return e, false
		}
		d.in.bits >>= rootBits
		d.in.n -= rootBits
		e = table[uint64(e>>16)+d.in.bits&(1<<(e>>8&15)-1)]
	}
	n := uint(e & 63)
	if n > d.in.n {
		return e, false
	}
	if e&(isLiteral|isSpecial) == 0 {
		code := e >> 8 & 15
		extra := d.in.bits >> code & (1<<(uint32(n)-code) - 1)
		e += entry(extra) << 16
	}
	d.in.bits >>= n
	d.in.n -= n
	return e, true
}
