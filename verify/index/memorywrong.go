package index

import (
	"bytes"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// MarkWrong implements Store.
func (m *Memory) MarkWrong(ctx context.Context, w verify.WrongBlob) error {
	w, _, err := canonicalWrong(w)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	m.wrong[w.Digest] = w
	return nil
}

// ClearWrong implements Store.
func (m *Memory) ClearWrong(ctx context.Context, dgst digest.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	delete(m.wrong, dgst)
	return nil
}

// WrongBlob implements Store.
func (m *Memory) WrongBlob(ctx context.Context, dgst digest.Digest) (verify.WrongBlob, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return verify.WrongBlob{}, err
	}
	if w, ok := m.wrong[dgst]; ok {
		return w, nil
	}
	return verify.WrongBlob{}, verify.ErrUnknown
}

// WrongBlobs implements Store.
func (m *Memory) WrongBlobs(ctx context.Context, n int) ([]verify.WrongBlob, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	list := []verify.WrongBlob{}
	for _, w := range m.wrong {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b verify.WrongBlob) int { // as Bolt's keys are ordered
		keyA, _ := anyKey(a.Digest)
		keyB, _ := anyKey(b.Digest)
		return bytes.Compare(keyA, keyB)
	})
	return list[:min(n, len(list))], nil
}
