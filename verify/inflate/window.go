package inflate

import "hash/crc32"

const (
	history  = 32 << 10 // how far back a distance reaches at most
	segment  = 48 << 10 // bytes handed on at once, or a few more
	segments = 4
	slack    = 512 // what goes beyond a segment: at most 2 literals, a match of 258 bytes, and 31 bytes of no meaning

	windowSize = history + segments*(segment+slack)
)

// A Sink takes the decoded bytes.
type Sink interface {
	// Take is given the next bytes. They stay as they are until Take was called
	// twice more, so that they can be looked at meanwhile; they must not be
	// changed. An error ends the decoding and is returned from it.
	Take(p []byte) error

	// Done is called when nothing more is to come. When it returns, the bytes
	// are not looked at any more.
	Done()
}

// A window is the bytes that were decoded last. They are written one segment
// after the other; where no further segment fits, the history moves to the
// front. A segment is overwritten when two others were handed on behind it.
type window struct {
	sink  Sink
	w     int // where the next byte goes
	start int // of the segment
	lo    int // of what a distance may reach

	summed int    // up to where crc and size go
	crc    uint32 // of the bytes since begin
	size   uint32 // of them, modulo 1<<32

	buf [windowSize]byte
}

func (o *window) reset(sink Sink) {
	o.sink, o.w, o.start = sink, history, history
	o.begin()
}

// begin begins a stream: distances do not reach behind it, and the sums are of
// it alone.
func (o *window) begin() {
	o.lo, o.summed, o.crc, o.size = o.w, o.w, 0, 0
}

// sum brings the sums up to date.
func (o *window) sum() {
	p := o.buf[o.summed:o.w]
	o.crc = crc32.Update(o.crc, crc32.IEEETable, p)
	o.size += uint32(len(p))
	o.summed = o.w
}

// full reports whether the segment must be handed on.
func (o *window) full() bool { return o.w-o.start >= segment }

// limit is where a segment is full.
func (o *window) limit() int { return o.start + segment }

// flush hands the segment on.
func (o *window) flush() error {
	if o.w == o.start {
		return nil
	}
	o.sum()
	err := o.sink.Take(o.buf[o.start:o.w:o.w])
	if o.w+segment+slack > windowSize {
		moved := o.w - history
		copy(o.buf[:history], o.buf[moved:])
		o.w, o.lo = history, max(o.lo-moved, 0)
	}
	o.start, o.summed = o.w, o.w
	return err
}

// repeat writes n bytes again that were written dist bytes ago. It returns
// false when there were not so many.
func (o *window) repeat(n, dist int) bool {
	if dist > o.w-o.lo {
		return false
	}
	for range n {
		o.buf[o.w] = o.buf[o.w-dist]
		o.w++
	}
	return true
}
