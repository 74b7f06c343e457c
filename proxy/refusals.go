package proxy

import (
	"container/list"
	"sync"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// refusalsKept is how many refused manifests are remembered, so that the
// report that a refusal points to can be read.
const refusalsKept = 256

// A refusal is a manifest that the gate refused.
type refusal struct {
	key         refusalKey
	contentType string
	report      verify.Report
}

type refusalKey struct {
	repo     string
	manifest digest.Digest
}

// refusals remembers the manifests refused last.
type refusals struct {
	mu    sync.Mutex // guards the rest
	byKey map[refusalKey]*list.Element
	order *list.List // of refusal; oldest first
}

func newRefusals() *refusals {
	return &refusals{byKey: map[refusalKey]*list.Element{}, order: list.New()}
}

func (r *refusals) add(f refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byKey[f.key]; e != nil {
		r.order.Remove(e)
	}
	r.byKey[f.key] = r.order.PushBack(f)
	if r.order.Len() > refusalsKept {
		delete(r.byKey, r.order.Remove(r.order.Front()).(refusal).key)
	}
}

func (r *refusals) get(repo string, manifest digest.Digest) (refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byKey[refusalKey{repo, manifest}]
	if e == nil {
		return refusal{}, false
	}
	return e.Value.(refusal), true
}
