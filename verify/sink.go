package verify

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

// A sink hashes and counts decoded bytes and enforces the limits.
type sink struct {
	hash    hash.Hash
	content io.Writer // also gets the bytes, and never fails; may be nil
	size    int64
	head    []byte // the first headSize bytes
	limits  Limits
	read    func() int64 // stored bytes consumed so far
	gaveUp  func() error // why there must be no more; nil as long as there may
}

func newSink(content io.Writer, l Limits, read func() int64, gaveUp func() error) *sink {
	return &sink{hash: sha256.New(), content: content, limits: l, read: read, gaveUp: gaveUp}
}

// Write hashes p, or returns why there must be no more.
func (s *sink) Write(p []byte) (int, error) {
	if err := s.admit(p); err != nil {
		return 0, err
	}
	s.add(p)
	return len(p), nil
}

// admit counts bytes, or returns why they are too many.
func (s *sink) admit(p []byte) error {
	if err := s.gaveUp(); err != nil {
		return err
	}
	if missing := headSize - len(s.head); missing > 0 {
		s.head = append(s.head, p[:min(missing, len(p))]...)
	}
	s.size += int64(len(p))
	if s.size > s.limits.Unpacked {
		return overLimit(fmt.Sprintf("it unpacks to more than limits.unpacked (%d bytes)", s.limits.Unpacked))
	}
	if s.size > ratioFloor && s.size/s.limits.Ratio > s.read() {
		return overLimit(fmt.Sprintf("it unpacks to more than limits.ratio (%d) times its size", s.limits.Ratio))
	}
	return nil
}

// add hashes bytes that were admitted.
func (s *sink) add(p []byte) {
	if s.content != nil {
		_, _ = s.content.Write(p)
	}
	s.hash.Write(p)
}

// digest returns the digest of all bytes.
func (s *sink) digest() digest.Digest { return digest.NewDigest(digest.SHA256, s.hash) }

// An aside hashes what inflate decodes in a goroutine of its own, one piece
// behind: decoding one DEFLATE stream is work for one core, and hashing what
// comes of it for another.
type aside struct {
	*sink
	pieces   chan []byte
	done     chan struct{}
	panicked any // what add did, if it did; read after done
}

// Take implements inflate.Sink. A piece must not change until Take was called
// twice more: one piece waits while another is hashed.
func (a *aside) Take(p []byte) error {
	if err := a.admit(p); err != nil {
		return err
	}
	if a.pieces == nil {
		a.pieces, a.done = make(chan []byte, 1), make(chan struct{})
		go a.run()
	}
	a.pieces <- p
	return nil
}

func (a *aside) run() {
	defer close(a.done)
	for p := range a.pieces {
		a.addOrPanic(p)
	}
}

// addOrPanic keeps a panic for Done: one that ends the goroutine would end the
// process, and nobody would take the pieces.
func (a *aside) addOrPanic(p []byte) {
	defer func() {
		if p := recover(); p != nil {
			a.panicked = p
		}
	}()
	a.add(p)
}

// Done implements inflate.Sink. It panics as hashing did.
func (a *aside) Done() {
	if a.pieces == nil {
		return
	}
	close(a.pieces)
	<-a.done
	if a.panicked != nil {
		panic(a.panicked)
	}
}
