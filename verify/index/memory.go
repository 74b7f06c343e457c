package index

import (
	"context"
	"crypto/rand"
	"iter"
	"slices"
	"strconv"
	"sync"
	"unsafe"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// Memory is a Store that forgets when the process ends. ByDiffID looks at
// every fact, and Put moves the digests that sort behind the new one.
type Memory struct {
	id string // differs between stores, so that revisions do

	mu         sync.RWMutex // guards the fields below
	facts      map[digest.Digest]verify.Fact
	sorted     []digest.Digest // keys of facts
	changes    uint64
	links      map[digest.Digest]digest.Digest // other names of blobs
	judgements map[digest.Digest]judged
	twins      map[digest.Digest]digest.Digest // by config, a manifest
	wrong      map[digest.Digest]verify.WrongBlob
	closed     bool
}

// A judged is a judgement as Bolt keeps it: callers share no memory with it.
type judged struct{ key, record []byte }

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		id:         rand.Text(),
		facts:      make(map[digest.Digest]verify.Fact),
		links:      make(map[digest.Digest]digest.Digest),
		judgements: make(map[digest.Digest]judged),
		twins:      make(map[digest.Digest]digest.Digest),
		wrong:      make(map[digest.Digest]verify.WrongBlob),
	}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return verify.Fact{}, err
	}
	f, ok := m.facts[dgst]
	if !ok {
		f, ok = m.facts[m.links[dgst]]
	}
	if !ok {
		return verify.Fact{}, verify.ErrUnknown
	}
	return f, nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, f verify.Fact) error {
	f, err := canonical(f)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	_, refused := m.put(f)
	return refused
}

// PutAll implements Store.
func (m *Memory) PutAll(ctx context.Context, facts iter.Seq[verify.Fact], refused func(error)) (n Tally, err error) {
	for f := range facts {
		f, why := canonical(f)
		stored := false
		m.mu.Lock()
		if err = m.usable(ctx); err == nil && why == nil {
			stored, why = m.put(f)
		}
		m.mu.Unlock()
		switch {
		case err != nil:
			return n, err
		case why != nil:
			n.refuse(why, refused)
		default:
			n.count(stored)
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return n, m.usable(ctx)
}

// put stores a canonical fact unless it is redundant or refused.
func (m *Memory) put(f verify.Fact) (stored bool, refused error) {
	if old, ok := m.facts[f.Digest]; ok {
		if newer, err := f.Supersede(old); err != nil || !newer {
			return false, err
		}
	} else {
		i, _ := slices.BinarySearch(m.sorted, f.Digest)
		m.sorted = slices.Insert(m.sorted, i, f.Digest)
	}
	m.facts[f.Digest] = f
	m.changes++
	return true, nil
}

// Link implements Store.
func (m *Memory) Link(ctx context.Context, name, dgst digest.Digest) error {
	if _, _, err := linkKeys(name, dgst); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	switch known, ok := m.links[name]; {
	case !ok:
		m.links[name] = dgst
		m.changes++
	case known != dgst:
		return conflictingLink(name, known, dgst)
	}
	return nil
}

// ByDiffID implements Store.
func (m *Memory) ByDiffID(ctx context.Context, id verify.DiffID, limit int) ([]verify.Fact, error) {
	return m.selectFacts(ctx, "", limit, func(f verify.Fact) bool {
		return f.Problem == verify.None && f.Unpacked == digest.Digest(id)
	})
}

// List implements Store.
func (m *Memory) List(ctx context.Context, after digest.Digest, n int) ([]verify.Fact, error) {
	return m.selectFacts(ctx, after, n, func(verify.Fact) bool { return true })
}

// selectFacts returns the first n facts behind after that match.
func (m *Memory) selectFacts(
	ctx context.Context, after digest.Digest, n int, match func(verify.Fact) bool,
) ([]verify.Fact, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	start, found := slices.BinarySearch(m.sorted, after)
	if found {
		start++
	}
	facts := []verify.Fact{}
	for _, d := range m.sorted[start:] {
		if len(facts) >= n {
			break
		}
		if f := m.facts[d]; match(f) {
			facts = append(facts, f)
		}
	}
	return facts, nil
}

// Revision implements Store.
func (m *Memory) Revision(ctx context.Context) (string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.id + "-" + strconv.FormatUint(m.changes, 10), m.usable(ctx)
}

// Stat implements Store. SizeBytes is an estimate for the facts alone.
func (m *Memory) Stat(ctx context.Context) (Stat, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := int64(len(m.facts))
	return Stat{Facts: n, SizeBytes: n * int64(unsafe.Sizeof(verify.Fact{}))}, m.usable(ctx)
}

// Ready implements Store.
func (m *Memory) Ready(ctx context.Context) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.usable(ctx)
}

// Close implements Store. What was stored is gone.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts, m.sorted, m.links, m.judgements, m.twins, m.wrong, m.closed = nil, nil, nil, nil, nil, nil, true
	return nil
}

// usable returns the error of a call that must not begin. The caller holds mu.
func (m *Memory) usable(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	return ctx.Err()
}
