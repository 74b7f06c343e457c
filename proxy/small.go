package proxy

import (
	"container/list"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	smallBlobMax    = 64 << 10 // the largest blob that is kept
	smallBlobsTotal = 4 << 20  // bytes of all kept blobs
)

// smallBlobs keeps the JSON blobs that passed last, so that the gate need not
// fetch the config that was pushed a moment before its manifest. The bytes
// were hashed here; who may learn of them is for the gate to ask.
type smallBlobs struct {
	total int

	mu    sync.Mutex // guards the rest
	size  int
	blobs map[digest.Digest]*list.Element
	order *list.List // of smallBlob; least recently used first
}

type smallBlob struct {
	dgst digest.Digest
	data []byte
}

func newSmallBlobs(total int) *smallBlobs {
	return &smallBlobs{total: total, blobs: map[digest.Digest]*list.Element{}, order: list.New()}
}

// add keeps data, which the caller must not change any more.
func (s *smallBlobs) add(dgst digest.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs[dgst] != nil {
		return
	}
	s.blobs[dgst] = s.order.PushBack(smallBlob{dgst, data})
	s.size += len(data)
	for s.size > s.total {
		old := s.order.Remove(s.order.Front()).(smallBlob)
		delete(s.blobs, old.dgst)
		s.size -= len(old.data)
	}
}

// get returns the bytes of a blob, or nil. They must not be changed.
func (s *smallBlobs) get(dgst digest.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.blobs[dgst]
	if e == nil {
		return nil
	}
	s.order.MoveToBack(e)
	return e.Value.(smallBlob).data
}

// A smallCopy collects the bytes of a blob for as long as they may be a small
// JSON object. Its zero value is ready.
type smallCopy struct {
	data []byte
	not  bool // too large, or no JSON object
}

func (c *smallCopy) write(p []byte) {
	if c.not || len(p) == 0 {
		return
	}
	if len(c.data)+len(p) > smallBlobMax || len(c.data) == 0 && p[0] != '{' {
		c.data, c.not = nil, true
		return
	}
	c.data = append(c.data, p...)
}
