package proxy

import (
	"crypto/sha256"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// listersKept is how many callers are remembered at once.
const listersKept = 1024

// listers are the callers that the upstream let read its catalog a moment ago.
// What it refused is not remembered. Safe for concurrent use.
type listers struct {
	ttl  time.Duration // zero: nobody is remembered
	seen *lru.Cache[lister, time.Time]
}

// A lister is what the upstream may know a caller by. No credential is kept.
type lister [sha256.Size]byte

func newListers(ttl time.Duration) (*listers, error) {
	seen, err := lru.New[lister, time.Time](listersKept)
	return &listers{ttl, seen}, err
}

func (c caller) lister() lister {
	known := []string{c.host, c.authorization}
	for _, h := range fromHeaders { // some upstreams look at addresses
		known = append(known, strings.Join(c.forwarded.Values(h), ","))
	}
	return sha256.Sum256([]byte(strings.Join(known, "\n")))
}

func (l *listers) has(c caller) bool {
	if l.ttl == 0 {
		return false
	}
	since, ok := l.seen.Get(c.lister())
	return ok && time.Since(since) < l.ttl
}

func (l *listers) add(c caller) {
	if l.ttl > 0 {
		l.seen.Add(c.lister(), time.Now())
	}
}
