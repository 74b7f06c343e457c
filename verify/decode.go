package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"diffgate/verify/inflate"
)

// decode is the decoder's goroutine. A decoder that panics on a blob must not
// take the transfers of others with it.
func (h *Hasher) decode() {
	defer close(h.done)
	defer h.held.release()
	defer func() {
		if p := recover(); p != nil {
			h.fail(&decodeError{Unsupported, fmt.Sprintf("the decoder panicked: %v", p)})
		}
	}()
	in := &chunkReader{h: h}
	defer in.release()
	head, err := in.head()
	if err == nil {
		h.decoded.Encoding = sniff(head)
		if h.decoded.Encoding == Identity {
			err = h.identity(in, head)
		} else {
			err = h.unpack(in, head)
		}
	}
	if err != nil {
		h.fail(err)
	}
}

// identity looks at a blob that is its own content, which Write hashes already.
func (h *Hasher) identity(in *chunkReader, head []byte) error {
	h.tell(head)
	if h.content == nil {
		return nil
	}
	_, err := io.Copy(h.content, in)
	return err
}

// unpack hashes the content of an encoded blob.
func (h *Hasher) unpack(in *chunkReader, head []byte) error {
	f := &h.decoded
	if hasTarHeader(head) {
		return ambiguous("it is a tar archive and begins like " + f.Encoding.String() + "; runtimes differ in which they unpack")
	}
	s := newSink(h.content, h.limits, in.count, h.aborted)
	err := h.run(in, s, isSkippable(head))
	f.UnpackedSize = s.size
	h.tell(s.head)
	if err == nil {
		f.Unpacked = s.digest()
	}
	return err
}

// tell records whether content with that head is a tar archive.
func (h *Hasher) tell(head []byte) {
	if !beginsTar(head) {
		h.decoded.Quirks |= NotTar
	}
}

func (h *Hasher) run(in *chunkReader, s *sink, skippable bool) error {
	f := &h.decoded
	if f.Encoding == Gzip {
		return h.gunzip(in, s)
	}
	if f.Encoding != Zstd { // of which only a large window is slow
		if err := h.held.slow(); err != nil {
			return err
		}
	}
	br := bufio.NewReaderSize(in, 16<<10)
	var err error
	switch f.Encoding {
	case Zstd:
		if skippable {
			f.Quirks |= SkippableFirst
		}
		var largest uint64
		f.Parts, largest, err = decodeZstd(br, s, h.limits, &h.held)
		if largest > commonWindow {
			f.Quirks |= LargeWindow
		}
	case XZ:
		f.Parts, err = decodeXZ(br, s, h.limits, &h.held)
	default:
		f.Parts = 1
		if err := h.held.grow(bzip2Size); err != nil {
			return err
		}
		err = decodeBzip2(br, s)
	}
	return err
}

// gunzip hashes the content of a gzip blob beside its decoding.
func (h *Hasher) gunzip(in *chunkReader, s *sink) error {
	seen, err := inflate.Gunzip(in, &aside{sink: s})
	f := &h.decoded
	f.Parts, f.Trailing = seen.Members, seen.Trailing
	if seen.HeaderCRC {
		f.Quirks |= HeaderCRC
	}
	if seen.LongName {
		f.Quirks |= LongName
	}
	if seen.ReservedFlag {
		f.Quirks |= ReservedFlag
	}
	if seen.Trailing > 0 {
		f.Quirks |= TrailingZeros
	}
	var bad *inflate.Error
	if !errors.As(err, &bad) {
		return err
	}
	if bad.Kind == inflate.Ambiguous {
		return ambiguous(bad.Error())
	}
	return corrupt(bad.Error())
}

func (h *Hasher) fail(err error) {
	var d *decodeError
	if !errors.As(err, &d) {
		d = &decodeError{Corrupt, err.Error()}
	}
	h.decoded.Problem = d.problem
	h.decoded.Reason = d.reason[:min(len(d.reason), MaxReason)]
}

// A chunkReader gives the decoder the bytes of the chunks: all at once by Next,
// which copies none, or by Read.
type chunkReader struct {
	h    *Hasher
	cur  *chunk
	rest []byte
	n    int64
}

func (r *chunkReader) count() int64 { return r.n }

// head returns the first bytes of the blob, which Next or Read return again. The
// first chunk is full or all there is.
func (r *chunkReader) head() ([]byte, error) {
	if err := r.advance(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r.rest[:min(headSize, len(r.rest))], nil
}

// advance sees to it that there are bytes in rest.
func (r *chunkReader) advance() error {
	for len(r.rest) == 0 {
		r.release()
		select {
		case <-r.h.abort:
			return r.h.gaveUp
		case c, ok := <-r.h.full:
			if err := r.h.aborted(); err != nil {
				return err
			}
			if !ok {
				return io.EOF
			}
			r.cur, r.rest = c, c.filled()
		}
	}
	return nil
}

// aborted returns why hashing was given up, or nil.
func (h *Hasher) aborted() error {
	select {
	case <-h.abort:
		return h.gaveUp
	default:
		return nil
	}
}

// release gives back the chunk that was read last.
func (r *chunkReader) release() {
	if r.cur != nil {
		r.h.free <- r.cur
		r.cur, r.rest = nil, nil
	}
}

// Next implements inflate.Source.
func (r *chunkReader) Next() ([]byte, error) {
	if err := r.advance(); err != nil {
		return nil, err
	}
	p := r.rest
	r.rest = nil
	r.n += int64(len(p))
	return p, nil
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	if err := r.advance(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.n += int64(n)
	return n, nil
}
