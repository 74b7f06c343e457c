package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"diffgate/proxy/api"
	"diffgate/proxy/remote"
	"diffgate/verify"
)

// about is what a config says about an image.
type about struct {
	platform string
	created  time.Time // zero when the config does not say
}

// readConfig reads the config of an image.
func readConfig(ctx context.Context, repo *remote.Repository, m verify.Manifest) (about, error) {
	body := m.Config.Data
	if body == nil {
		var err error
		if body, err = repo.Config(ctx, m.Config); err != nil {
			return about{}, fmt.Errorf("read config %s: %w", m.Config.Digest, err)
		}
	}
	return parseAbout(body), nil
}

// parseAbout never fails: what is wrong with a config, its judgement says.
func parseAbout(body []byte) (a about) {
	if c, err := verify.ParseConfig(body); err == nil {
		a.platform = api.Platform(&c.Platform)
	}
	var says struct{ Created string }
	if json.Unmarshal(body, &says) == nil {
		a.created, _ = time.Parse(time.RFC3339, says.Created)
	}
	return a
}

// late reports whether a manifest is to be looked at, by its age. The error is
// for what keeps it from being known.
func (s *run) late(ctx context.Context, repo *remote.Repository, m verify.Manifest) (bool, error) {
	if s.cfg.Since.IsZero() {
		return true, nil
	}
	if m.Kind != verify.IndexKind {
		return s.lateImage(ctx, repo, m)
	}
	for c, err := range children(ctx, repo, m) {
		if err != nil {
			return false, err
		}
		child, err := verify.ParseManifest(c.mediaType, c.body)
		if err != nil {
			return true, nil
		}
		if child.Kind == verify.ImageKind && !child.MayBeImage() { // an attestation is as old as its image
			continue
		}
		if late, err := s.lateImage(ctx, repo, child); late || err != nil {
			return late, err
		}
	}
	return len(m.Manifests) == 0, nil
}

func (s *run) lateImage(ctx context.Context, repo *remote.Repository, m verify.Manifest) (bool, error) {
	if m.Kind != verify.ImageKind || !m.MayBeImage() {
		return true, nil
	}
	a, err := readConfig(ctx, repo, m)
	var claim *verify.ClaimError
	if errors.Is(err, verify.ErrNotFound) || errors.As(err, &claim) {
		return true, nil // which the judgement tells of
	}
	return a.created.IsZero() || a.created.After(s.cfg.Since), err
}
