package scan

import (
	"context"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// turns gives a digest to one goroutine at a time: those that come later find
// what the first has learned in the store. It holds the digests that are taken
// now, as many as there are goroutines at most.
type turns struct {
	mu    sync.Mutex
	taken map[digest.Digest]chan struct{} // closed when the digest is free
}

// take waits for a digest. The caller calls release once.
func (t *turns) take(ctx context.Context, d digest.Digest) (release func(), err error) {
	for {
		t.mu.Lock()
		wait, taken := t.taken[d]
		if !taken {
			if t.taken == nil {
				t.taken = map[digest.Digest]chan struct{}{}
			}
			free := make(chan struct{})
			t.taken[d] = free
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, d)
				t.mu.Unlock()
				close(free)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// maxSeen bounds a seen set, to some 40 MiB.
const maxSeen = 1 << 20

// seen is a set of digests, by 64 of their bits. When it is full, those that it
// does not have are new each time. The zero value is empty.
type seen struct {
	mu   sync.Mutex
	have map[string]struct{}
}

// add reports whether a digest is new.
func (s *seen) add(d digest.Digest) bool {
	_, hex, _ := strings.Cut(d.String(), ":")
	key := hex[:min(len(hex), 16)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.have[key]; ok {
		return false
	}
	if s.have == nil {
		s.have = map[string]struct{}{}
	}
	if len(s.have) < maxSeen {
		s.have[key] = struct{}{}
	}
	return true
}
