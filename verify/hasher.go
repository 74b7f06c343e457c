package verify

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	chunkSize = 64 << 10 // bytes handed to the decoder at once
	chunks    = 4        // chunks on their way to the decoder

	bzip2Size = 4 << 20 // what a decoder of bzip2 holds
)

// errAborted ends the decoder after Close: a Sum that comes after it says that
// nothing could be found out.
var errAborted = &decodeError{GivenUp, "hashing was given up"}

// A Hasher computes the Fact of the blob that is written to it.
//
// It sits beside a transfer and never harms it: Write never fails and never
// drops bytes, and what is wrong with the blob is told by Sum alone. Write
// computes the digest itself; decoding runs in a goroutine behind a buffer of
// at most 256 KiB, so that Write waits only when the decoder is that far
// behind. Memory does not grow with the blob, save for the window that a zstd
// frame asks for.
//
// Exactly one of Sum and Close must be called at the end; both wait for the
// goroutine. A Hasher is for one goroutine at a time.
type Hasher struct {
	limits  Limits
	content io.Writer // also gets the decoded bytes; may be nil
	stored  hash.Hash
	size    int64

	chunk []byte        // being filled by Write
	full  chan []byte   // to the decoder, in order; closed at the end
	free  chan []byte   // back from the decoder
	made  int           // chunks made so far
	abort chan struct{} // closed by Close
	done  chan struct{} // closed when the decoder has ended
	once  sync.Once
	held  holding // the decoder's window

	decoded Fact // written by the decoder before it closes done
}

// NewHasher returns a Hasher with the given limits and starts its decoder.
func NewHasher(l Limits) *Hasher { return newHasher(l, nil) }

// newHasher returns a Hasher that also writes the decoded bytes to content,
// from a goroutine of its own that ends with Sum or Close.
func newHasher(l Limits, content io.Writer) *Hasher {
	h := &Hasher{
		limits:  l.withDefaults(),
		content: content,
		stored:  sha256.New(),
		full:    make(chan []byte, chunks),
		free:    make(chan []byte, chunks),
		abort:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	h.held.from = l.Memory
	go h.decode()
	return h
}

// Write hashes p. It always returns len(p) and a nil error.
func (h *Hasher) Write(p []byte) (int, error) {
	h.stored.Write(p)
	h.size += int64(len(p))
	for rest := p; len(rest) > 0; {
		if h.chunk == nil && !h.next() {
			break // the decoder has ended; the digest goes on
		}
		n := copy(h.chunk[len(h.chunk):cap(h.chunk)], rest)
		h.chunk = h.chunk[:len(h.chunk)+n]
		rest = rest[n:]
		if len(h.chunk) == cap(h.chunk) {
			h.flush()
		}
	}
	return len(p), nil
}

// next gets an empty chunk, waiting for the decoder when all are under way.
func (h *Hasher) next() bool {
	select {
	case <-h.done:
		return false
	default:
	}
	if h.made < chunks && len(h.free) == 0 {
		h.made++
		h.chunk = make([]byte, 0, chunkSize)
		return true
	}
	select {
	case c := <-h.free:
		h.chunk = c[:0]
		return true
	case <-h.done:
		return false
	}
}

// flush hands the chunk over. There is always room: only `chunks` exist.
func (h *Hasher) flush() {
	if len(h.chunk) > 0 {
		h.full <- h.chunk
		h.chunk = nil
	}
}

// Digest returns the SHA-256 digest of the bytes written so far. It does not
// wait for the decoder.
func (h *Hasher) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, h.stored) }

// Size returns the number of bytes written so far.
func (h *Hasher) Size() int64 { return h.size }

// Memory returns about how many bytes hashing holds now.
func (h *Hasher) Memory() int64 { return int64(h.made)*chunkSize + decoderSize + h.held.bytes.Load() }

// Sum ends the blob, waits for the decoder and returns what was learned.
// Source and LearnedAt are for the caller to set.
func (h *Hasher) Sum() Fact {
	h.end()
	f := h.decoded
	f.Digest = h.Digest()
	f.Size = h.size
	if f.Encoding == Identity && f.Problem == None {
		f.Unpacked, f.UnpackedSize, f.Parts = f.Digest, f.Size, 1
	}
	return f
}

// Close abandons the blob: the decoder ends at once and nothing is learned.
// Calling it again, or after Sum, does nothing.
func (h *Hasher) Close() {
	h.once.Do(func() {
		h.chunk = nil
		close(h.abort)
		close(h.full)
	})
	<-h.done
}

func (h *Hasher) end() {
	h.once.Do(func() {
		h.flush()
		close(h.full)
	})
	<-h.done
}

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
	br := bufio.NewReaderSize(in, 16<<10)
	head, err := br.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		h.fail(err)
		return
	}
	h.decoded.Encoding = sniff(head)
	if h.decoded.Encoding == Identity {
		err = h.identity(br, head)
	} else {
		err = h.unpack(br, in, head)
	}
	if err != nil {
		h.fail(err)
	}
}

// identity looks at a blob that is its own content, which Write hashes already.
func (h *Hasher) identity(br *bufio.Reader, head []byte) error {
	if !isTarStart(head) {
		h.decoded.Quirks |= NotTar
	}
	if h.content == nil {
		return nil
	}
	_, err := br.WriteTo(h.content)
	return err
}

// unpack hashes the content of an encoded blob.
func (h *Hasher) unpack(br *bufio.Reader, in *chunkReader, head []byte) error {
	f := &h.decoded
	if isTarHeader(head) {
		return ambiguous("it is a tar archive and begins like " + f.Encoding.String() + "; runtimes differ in which they unpack")
	}
	s := &sink{hash: sha256.New(), content: h.content, limits: h.limits, read: in.count, abort: h.abort}
	err := h.run(br, in, s, isSkippable(head))
	f.UnpackedSize = s.size
	if err == nil {
		f.Unpacked = digest.NewDigest(digest.SHA256, s.hash)
	}
	return err
}

func (h *Hasher) run(br *bufio.Reader, in *chunkReader, s *sink, skippable bool) error {
	f := &h.decoded
	switch f.Encoding {
	case Gzip:
		g := newGzipReader(br, in.count)
		err := g.decode(s)
		f.Parts, f.Trailing, f.Quirks = g.members, g.trailing, g.quirks
		return err
	case Zstd:
		if skippable {
			f.Quirks |= SkippableFirst
		}
		var err error
		f.Parts, err = decodeZstd(br, s, h.limits, &h.held)
		return err
	case XZ:
		var err error
		f.Parts, err = decodeXZ(br, s, h.limits, &h.held)
		return err
	default:
		f.Parts = 1
		if err := h.held.grow(bzip2Size); err != nil {
			return err
		}
		return decodeBzip2(br, s)
	}
}

func (h *Hasher) fail(err error) {
	var d *decodeError
	if !errors.As(err, &d) {
		d = &decodeError{Corrupt, err.Error()}
	}
	h.decoded.Problem = d.problem
	h.decoded.Reason = d.reason[:min(len(d.reason), MaxReason)]
}

// A chunkReader gives the decoder the bytes of the chunks.
type chunkReader struct {
	h    *Hasher
	cur  []byte
	rest []byte
	n    int64
}

func (r *chunkReader) count() int64 { return r.n }

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.cur != nil {
			r.h.free <- r.cur
			r.cur = nil
		}
		c, ok := <-r.h.full
		select {
		case <-r.h.abort:
			return 0, errAborted
		default:
		}
		if !ok {
			return 0, io.EOF
		}
		r.cur, r.rest = c, c
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.n += int64(n)
	return n, nil
}

// A sink hashes and counts decoded bytes and enforces the limits.
type sink struct {
	hash    hash.Hash
	content io.Writer // also gets the bytes; may be nil
	size    int64
	limits  Limits
	read    func() int64 // stored bytes consumed so far
	abort   <-chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	select {
	case <-s.abort:
		return 0, errAborted
	default:
	}
	s.size += int64(len(p))
	if s.size > s.limits.Unpacked {
		return 0, overLimit("it unpacks to more than limits.unpacked")
	}
	if s.size > ratioFloor && s.size/s.limits.Ratio > s.read() {
		return 0, overLimit("it unpacks to more than limits.ratio times its size")
	}
	if s.content != nil {
		if _, err := s.content.Write(p); err != nil {
			return 0, err
		}
	}
	return s.hash.Write(p)
}

// Hash reads r to its end and returns the Fact of its bytes, stamped with how
// and when it was learned. It returns the error of r as it is.
func Hash(r io.Reader, l Limits, src Source, now time.Time) (Fact, error) {
	h := NewHasher(l)
	defer h.Close()
	if _, err := io.Copy(h, r); err != nil {
		return Fact{}, err
	}
	return h.Sum().Learned(src, now), nil
}

// Learned returns f with its source and time set.
func (f Fact) Learned(src Source, now time.Time) Fact {
	f.Source, f.LearnedAt = src, now.UTC().Truncate(time.Second)
	return f
}
