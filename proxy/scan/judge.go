package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy/api"
	"diffgate/proxy/remote"
	"diffgate/verify"
)

// An answer is what is found about a manifest, whatever its tags.
type answer struct {
	platform string
	verdict  verify.Verdict
	findings []Finding
	missing  string // why the verdict is verify.Unverified, when no finding says so
	known    bool   // from an earlier run
	toRead   *Amount
}

// recentKey is a manifest in a repository: another may lack its layers.
type recentKey struct {
	repository string
	manifest   digest.Digest
}

// tag looks at a tag.
func (s *run) tag(ctx context.Context, j job) Result {
	r := Result{Repository: j.repo.name, Tag: j.tag}
	m, err := j.repo.remote.Resolve(ctx, j.tag)
	if err != nil {
		return failed(r, verify.Manifest{}, fmt.Errorf("the manifest cannot be read: %w", err))
	}
	r.Digest, r.MediaType, r.first = m.Digest, m.MediaType, s.different.add(m.Digest)
	parsed, err := verify.ParseManifest(m.MediaType, m.Body)
	if err != nil {
		parsed = verify.Manifest{} // what is wrong with it, the judgement says
	}
	late, err := s.late(ctx, j.repo.remote, parsed)
	switch {
	case err != nil:
		return failed(r, parsed, err)
	case !late:
		r.skipped = true
		return r
	}
	release, err := s.manifests.take(ctx, m.Digest)
	if err != nil {
		return undecided(r, err)
	}
	defer release()
	key := recentKey{j.repo.name, m.Digest}
	a, ok := s.recent.Get(key)
	if ok {
		a.toRead = nil // counted before
	} else {
		if a, err = s.answer(ctx, j.repo.remote, m, parsed); err != nil {
			return failed(r, parsed, err)
		}
		s.recent.Add(key, a)
	}
	return a.result(r)
}

func (a answer) result(r Result) Result {
	r.Platform, r.Verdict, r.Findings, r.known = a.platform, a.verdict, a.findings, a.known
	if a.verdict == "" {
		r.Outcome, r.ToRead = Planned, a.toRead
		return r
	}
	r.Outcome = outcome(a.verdict)
	if r.Outcome == Undecided && len(a.findings) == 0 {
		r.Error = a.missing
	}
	return r
}

// failed is the result when something could not be read. That the registry gives
// out wrong bytes is not undecided.
func failed(r Result, m verify.Manifest, err error) Result {
	var wrong *remote.WrongBlobError
	if !errors.As(err, &wrong) {
		return undecided(r, err)
	}
	f := api.Finding{Reason: api.ReasonWrongBytes, Digest: wrong.Want}
	if i := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool { return d.Digest == wrong.Want }); i >= 0 {
		f.Layer = &i
	}
	r.Outcome, r.Verdict = False, verify.Mismatch
	r.Findings = []Finding{{Found: api.Found{Finding: f, Message: wrong.Error()}}}
	return r
}

// answer finds out about a manifest.
func (s *run) answer(ctx context.Context, repo *remote.Repository, m remote.Manifest, parsed verify.Manifest) (answer, error) {
	if s.cfg.DryRun {
		return s.plan(ctx, repo, m, parsed)
	}
	a, err := s.ask(ctx, repo, m)
	if !errors.Is(err, errNoGate) {
		return a, err
	}
	if a, ok := s.remembered(ctx, repo, m, parsed); ok {
		return a, nil
	}
	r, err := verify.Check(ctx, &repository{repo, s}, m.MediaType, m.Body)
	if err != nil {
		return answer{}, err
	}
	if err := s.remember(ctx, m, r); err != nil {
		s.cancel(err)
		return answer{}, err
	}
	return newAnswer(api.NewReport(api.Subject{}, r, verify.Policy{})), nil
}

// newAnswer returns what a report says.
func newAnswer(r api.Report) answer {
	a := answer{platform: r.Platform, verdict: r.Verdict}
	platforms := map[digest.Digest]string{"": r.Platform}
	absent := 0
	for _, c := range r.Manifests {
		platforms[c.Digest] = c.Platform
		if c.Verdict == verify.Unverified {
			absent++
		}
	}
	for _, f := range r.Findings {
		a.findings = append(a.findings, Finding{Found: f, Platform: platforms[f.Manifest]})
	}
	a.missing = "a layer was not read"
	if len(r.Manifests) > 0 {
		a.missing = fmt.Sprintf("%d of the %d manifests that the image index names are not in the repository: nothing is known of them", absent, len(r.Manifests))
	}
	return a
}

// remembered returns what an earlier run found about an image. The config is read
// all the same: a judgement does not say for which platform the image is.
func (s *run) remembered(ctx context.Context, repo *remote.Repository, m remote.Manifest, parsed verify.Manifest) (answer, bool) {
	if parsed.Kind != verify.ImageKind {
		return answer{}, false
	}
	j, err := s.cfg.Store.Judgement(ctx, m.Digest)
	if err != nil || !j.Valid(m.MediaType) {
		return answer{}, false
	}
	a := newAnswer(api.NewReport(api.Subject{}, verify.Report{Verdict: j.Verdict, Config: j.Config, Findings: j.Findings}, verify.Policy{}))
	a.known = true
	if !parsed.MayBeImage() {
		return a, true
	}
	about, err := readConfig(ctx, repo, parsed)
	if err != nil {
		return answer{}, false
	}
	a.platform = about.platform
	for i := range a.findings {
		a.findings[i].Platform = about.platform
	}
	return a, true
}

// remember keeps what was found about a manifest and those that it names.
func (s *run) remember(ctx context.Context, m remote.Manifest, r verify.Report) error {
	var all []verify.Judgement
	if j, ok := r.Judgement(m.Digest, m.MediaType); ok {
		all = append(all, j)
	}
	for _, c := range r.Children {
		if c.Judgement != nil {
			all = append(all, *c.Judgement)
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, j := range all {
		j.JudgedAt = now
		if err := s.cfg.Store.PutJudgement(ctx, j); err != nil {
			return fmt.Errorf("keep what was found about %s in the DiffID index: %w", j.Manifest, err)
		}
	}
	return nil
}
