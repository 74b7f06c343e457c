package verify

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	chunkSize = 32 << 10 // bytes handed to the decoder at once
	chunks    = 4        // chunks on their way to the decoder

	bzip2Size = 4 << 20 // what a decoder of bzip2 holds
)

var (
	// errAborted ends the decoder after Close: a Sum that comes after it says
	// that nothing could be found out.
	errAborted = &decodeError{GivenUp, "hashing was given up"}
	// errLag ends the decoder when Write waited for it too long.
	errLag = &decodeError{GivenUp, "hashing held up the transfer for longer than limits.lag"}
)

// A Hasher computes the Fact of the blob that is written to it.
//
// It sits beside a transfer and never harms it: Write never fails and never
// drops bytes, and what is wrong with the blob is told by Sum alone. Write
// computes the digest itself; decoding runs in a goroutine behind a buffer of
// at most 128 KiB, and hashing of what gzip decodes to in another, so that Write
// waits only when the decoder is that far behind. Memory does not grow with the
// blob: it is about 400 KiB, save for the window of zstd or xz, or the 4 MiB of
// bzip2.
//
// Exactly one of Sum and Close must be called at the end; both wait for the
// goroutines. A Hasher is for one goroutine at a time.
type Hasher struct {
	limits  Limits
	content io.Writer // also gets the decoded bytes; may be nil
	stored  hash.Hash
	size    int64

	chunk  *chunk        // being filled by Write
	full   chan *chunk   // to the decoder, in order; closed at the end
	free   chan *chunk   // back from the decoder
	made   int           // chunks taken from the pool so far
	waited time.Duration // for the decoder; counted with Limits.Lag
	abort  chan struct{} // closed by Close, or when waited is too long
	gaveUp error         // why abort was closed; written before
	done   chan struct{} // closed when the decoder has ended
	once   sync.Once
	held   holding // the decoder's window

	decoded Fact // written by the decoder before it closes done
}

// A chunk is bytes of the blob on their way to the decoder.
type chunk struct {
	n   int
	buf [chunkSize]byte
}

func (c *chunk) filled() []byte { return c.buf[:c.n] }

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// NewHasher returns a Hasher with the given limits and starts its decoder.
func NewHasher(l Limits) *Hasher { return newHasher(l, nil) }

// newHasher returns a Hasher that also writes the decoded bytes to content,
// from a goroutine of its own that ends with Sum or Close.
func newHasher(l Limits, content io.Writer) *Hasher {
	h := &Hasher{
		limits:  l.withDefaults(),
		content: content,
		stored:  sha256.New(),
		full:    make(chan *chunk, chunks),
		free:    make(chan *chunk, chunks),
		abort:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	h.held.from, h.held.lane = l.Memory, l.Slow
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
		c := h.chunk
		n := copy(c.buf[c.n:], rest)
		c.n += n
		rest = rest[n:]
		if c.n == chunkSize {
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
	case <-h.abort:
		return false
	default:
	}
	if h.made == chunks || len(h.free) > 0 {
		return h.wait()
	}
	h.made++
	h.chunk = chunkPool.Get().(*chunk)
	h.chunk.n = 0
	return true
}

// wait waits for an empty chunk, for no longer than Limits.Lag in all.
func (h *Hasher) wait() bool {
	var late <-chan time.Time
	if h.limits.Lag > 0 && len(h.free) == 0 {
		began := time.Now()
		defer func() { h.waited += time.Since(began) }()
		t := time.NewTimer(h.limits.Lag - h.waited)
		defer t.Stop()
		late = t.C
	}
	select {
	case h.chunk = <-h.free:
		h.chunk.n = 0
		return true
	case <-h.done:
	case <-late:
		if len(h.free) > 0 { // it was this process that was late
			return h.wait()
		}
		h.giveUp(errLag)
	}
	return false
}

// flush hands the chunk over. There is always room: only `chunks` exist.
func (h *Hasher) flush() {
	if h.chunk != nil && h.chunk.n > 0 {
		h.full <- h.chunk
		h.chunk = nil
	}
}

// giveUp has the decoder end as soon as it can.
func (h *Hasher) giveUp(why error) {
	if h.gaveUp == nil {
		h.gaveUp = why
		close(h.abort)
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
		h.giveUp(errAborted)
		close(h.full)
		h.recycle()
	})
	<-h.done
}

func (h *Hasher) end() {
	h.once.Do(func() {
		h.flush()
		close(h.full)
		h.recycle()
	})
	<-h.done
}

// recycle waits for the decoder and gives all chunks back.
func (h *Hasher) recycle() {
	<-h.done
	if h.chunk != nil {
		chunkPool.Put(h.chunk)
		h.chunk = nil
	}
	for c := range h.full {
		chunkPool.Put(c)
	}
	for len(h.free) > 0 {
		chunkPool.Put(<-h.free)
	}
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
