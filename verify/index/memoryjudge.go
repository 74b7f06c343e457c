package index

import (
	"context"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// Judgement implements Store.
func (m *Memory) Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return verify.Judgement{}, err
	}
	return m.judgement(manifest)
}

// PutJudgement implements Store.
func (m *Memory) PutJudgement(ctx context.Context, j verify.Judgement) error {
	j, key, record, err := canonicalJudgement(j)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	if known, err := m.judgement(j.Manifest); err != nil || !sameJudgement(known, j) {
		m.judgements[j.Manifest] = judged{key, record}
	}
	if _, err := m.twin(j.Config); err != nil && isTwin(j, j.Config) {
		m.twins[j.Config] = j.Manifest
	}
	return nil
}

// Twin implements Store.
func (m *Memory) Twin(ctx context.Context, config digest.Digest) (verify.Judgement, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.usable(ctx); err != nil {
		return verify.Judgement{}, err
	}
	return m.twin(config)
}

// judgement does the work of Judgement. The caller holds mu.
func (m *Memory) judgement(manifest digest.Digest) (verify.Judgement, error) {
	kept, ok := m.judgements[manifest]
	if !ok {
		return verify.Judgement{}, verify.ErrUnknown
	}
	return decodeJudgement(kept.key, kept.record)
}

// twin does the work of Twin. The caller holds mu.
func (m *Memory) twin(config digest.Digest) (verify.Judgement, error) {
	if j, err := m.judgement(m.twins[config]); err == nil && isTwin(j, config) {
		return j, nil
	}
	return verify.Judgement{}, verify.ErrUnknown
}
