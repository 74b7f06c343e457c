package inflate

import "io"

// A Source gives out the bytes to be decoded.
type Source interface {
	// Next returns the next bytes, at least one, or an error; io.EOF at the
	// end. They must stay as they are until Next is called again.
	Next() ([]byte, error)
}

// input reads bits, from the least of each byte up, and whole bytes.
type input struct {
	src  Source
	err  error  // that src ended with
	buf  []byte // of src
	pos  int    // of the next byte in buf that is not in bits
	bits uint64 // the next bits; those above n are zero
	n    uint   // at most 63
	base int64  // offset of buf in the stream
}

// offset returns the number of bytes that were taken, counting those of which a
// bit was.
func (in *input) offset() int64 { return in.base + int64(in.pos) - int64(in.n/8) }

// more gets bytes when those in buf are used up.
func (in *input) more() bool {
	for in.pos == len(in.buf) {
		if in.err != nil {
			return false
		}
		in.base += int64(len(in.buf))
		in.pos = 0
		in.buf, in.err = in.src.Next()
	}
	return true
}

// fill reads ahead, at least 56 bits if there are so many, and at most 63.
func (in *input) fill() {
	for in.n < 56 && in.more() {
		in.bits |= uint64(in.buf[in.pos]) << in.n
		in.pos++
		in.n += 8
	}
}

// take takes n bits, at most 32. Behind the end it returns false.
func (in *input) take(n uint) (uint32, bool) {
	if in.n < n {
		if in.fill(); in.n < n {
			return 0, false
		}
	}
	v := in.bits & (1<<n - 1)
	in.bits >>= n
	in.n -= n
	return uint32(v), true
}

// align drops the rest of a byte of which a bit was taken.
func (in *input) align() {
	in.bits >>= in.n % 8
	in.n -= in.n % 8
}

// byte takes a byte; the input must be aligned.
func (in *input) byte() (byte, bool) {
	v, ok := in.take(8)
	return byte(v), ok
}

// peek returns the next bytes, at most 7, without taking them; fewer at the
// end. The input must be aligned.
func (in *input) peek(p []byte) []byte {
	in.fill()
	n := min(len(p), int(in.n/8))
	for i := range n {
		p[i] = byte(in.bits >> (8 * i))
	}
	return p[:n]
}

// see returns bytes that are next, at least one, without taking them; none at
// the end. The input must be aligned. They are valid until the next call of a
// method.
func (in *input) see(small *[8]byte) []byte {
	if in.n > 0 {
		n := int(in.n / 8)
		for i := range n {
			small[i] = byte(in.bits >> (8 * i))
		}
		return small[:n]
	}
	if !in.more() {
		return nil
	}
	return in.buf[in.pos:]
}

// bytes is see for at most n bytes, and takes them.
func (in *input) bytes(n int, small *[8]byte) []byte {
	p := in.see(small)
	p = p[:min(n, len(p))]
	if in.n > 0 {
		in.bits >>= 8 * len(p)
		in.n -= 8 * uint(len(p))
	} else {
		in.pos += len(p)
	}
	return p
}

// failed returns why there are no more bytes: what the source said, or errCut
// where it should have had more.
func (in *input) failed() error {
	if in.err == nil || in.err == io.EOF {
		return errCut
	}
	return in.err
}
