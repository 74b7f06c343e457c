//go:build klauspost

package inflate

import (
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
)

// A decoder decodes DEFLATE streams (RFC 1951) from an input to a window.
type decoder struct {
	in  input
	out window

	flate io.ReadCloser
}

// stream decodes one stream and leaves the input behind its last byte. It
// returns errCorrupt, errCut, or the error of the source or sink.
func (d *decoder) stream() error {
	d.out.begin()
	in := &byteReader{&d.in}
	if d.flate == nil {
		d.flate = flate.NewReader(in)
	} else if err := d.flate.(flate.Resetter).Reset(in, nil); err != nil {
		return err
	}
	for {
		if d.out.full() {
			if err := d.out.flush(); err != nil {
				return err
			}
		}
		n, err := d.flate.Read(d.out.buf[d.out.w:d.out.limit()])
		d.out.w += n
		var bad flate.CorruptInputError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &bad):
			return errCorrupt
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errCut):
			return d.in.failed()
		case err != nil:
			return err
		}
	}
}

// A byteReader gives flate single bytes, so that it takes none too many.
type byteReader struct{ in *input }

// ReadByte implements io.ByteReader.
func (r *byteReader) ReadByte() (byte, error) {
	if r.in.n == 0 && r.in.more() {
		r.in.pos++
		return r.in.buf[r.in.pos-1], nil
	}
	if b, ok := r.in.byte(); ok {
		return b, nil
	}
	if r.in.err == io.EOF {
		return 0, io.EOF
	}
	return 0, r.in.failed()
}

// Read implements io.Reader.
func (r *byteReader) Read(p []byte) (int, error) {
	var small [8]byte
	q := r.in.bytes(len(p), &small)
	if len(q) == 0 && len(p) > 0 {
		if r.in.err == io.EOF {
			return 0, io.EOF
		}
		return 0, r.in.failed()
	}
	return copy(p, q), nil
}
