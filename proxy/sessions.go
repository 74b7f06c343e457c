package proxy

import (
	"container/list"
	"sync"
	"time"

	"diffgate/verify"
)

// sessionAge is how long an upload may rest between two requests before it is
// forgotten. The registry keeps it; only the tap lets go.
const sessionAge = time.Hour

// A session is an upload whose bytes were all seen so far, in order from the
// first. It belongs to one request at a time.
type session struct {
	hasher *verify.Hasher
	small  smallCopy
	offset int64
	since  time.Time // last used; guarded by sessions.mu
	memory int64     // that the hasher holds; guarded by sessions.mu
	key    sessionKey
}

type sessionKey struct{ repo, id string }

func newSession(l verify.Limits) *session { return &session{hasher: verify.NewHasher(l)} }

// end lets go of the upload.
func (s *session) end() { s.hasher.Close() }

// sessionsMemory is how many bytes the hashers of all sessions may hold. One of
// gzip takes a third of a mebibyte, one of zstd its window.
const sessionsMemory = windowsMemory / 2

// sessions are the uploads between two requests, the longest idle first out.
type sessions struct {
	most int
	age  time.Duration

	mu     sync.Mutex // guards the rest
	memory int64
	byKey  map[sessionKey]*list.Element
	order  *list.List // of *session; least recently used first
	closed bool
}

func newSessions(most int, age time.Duration) *sessions {
	return &sessions{most: most, age: age, byKey: map[sessionKey]*list.Element{}, order: list.New()}
}

// put keeps a session until the next request of its upload.
func (t *sessions) put(key sessionKey, s *session) {
	for _, old := range t.add(key, s) {
		old.end()
	}
}

// add returns the sessions that had to go; ending them waits for their
// decoders, which must not happen under the lock.
func (t *sessions) add(key sessionKey, s *session) (gone []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return []*session{s}
	}
	if e := t.byKey[key]; e != nil { // two requests on one upload: neither saw all
		return []*session{t.remove(e), s}
	}
	s.key, s.since, s.memory = key, time.Now(), s.hasher.Memory()
	t.memory += s.memory
	t.byKey[key] = t.order.PushBack(s)
	for e := t.order.Front(); e != nil; e = t.order.Front() {
		if oldest, ok := e.Value.(*session); ok && t.order.Len() <= t.most && t.memory <= sessionsMemory && time.Since(oldest.since) < t.age {
			break
		}
		gone = append(gone, t.remove(e))
	}
	return gone
}

// take removes and returns the session of an upload, or nil.
func (t *sessions) take(key sessionKey) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[key]; e != nil {
		return t.remove(e)
	}
	return nil
}

// remove takes an element out. The caller holds mu.
func (t *sessions) remove(e *list.Element) *session {
	s := t.order.Remove(e).(*session)
	delete(t.byKey, s.key)
	t.memory -= s.memory
	return s
}

// close ends all sessions; later ones end at once.
func (t *sessions) close() {
	t.mu.Lock()
	t.closed = true
	var all []*session
	for e := t.order.Front(); e != nil; e = t.order.Front() {
		all = append(all, t.remove(e))
	}
	t.mu.Unlock()
	for _, s := range all {
		s.end()
	}
}
