// Package scan judges every image of a registry: it walks the catalog and the
// tags, hashes what nobody hashed yet, judges each manifest once, and tells what
// is wrong.
//
// What was learned is kept in a DiffID index: facts about layers and judgements
// of manifests. A run that was ended half-way goes on where it was when it is
// begun again, and one over a registry that did not change reads no layer. A
// manifest that was judged is not looked at again, so that a layer the registry
// has lost since goes unnoticed.
//
// What cannot be read never stops the rest: it is told as undecided. Manifests
// without a tag cannot be listed, and are not seen.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/remote"
	"diffgate/verify"
)

// Store is the part of a DiffID index that a run needs. It is safe for concurrent
// use.
type Store interface {
	// Get returns the fact about a blob, or verify.ErrUnknown.
	Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error)
	// Put records a fact durably.
	Put(ctx context.Context, f verify.Fact) error
	// Judgement returns what is known of a manifest, or verify.ErrUnknown.
	Judgement(ctx context.Context, manifest digest.Digest) (verify.Judgement, error)
	// PutJudgement records a judgement durably, in place of any other.
	PutJudgement(ctx context.Context, j verify.Judgement) error
}

// Config says what to scan. Registry.Host and Store are needed, the rest has
// useful zero values.
type Config struct {
	// Registry is how to reach the registry and how fast to read it. Jobs zero
	// means 2 here; Facts and OnRead are set by Run.
	Registry remote.Config

	// Store is what is known already, and where to put what is learned.
	Store Store

	// Repositories are those to look at. Where none is a pattern the catalog is
	// not asked. Empty means all.
	Repositories Patterns

	// Since leaves out images whose config was created at that time or before.
	// One whose config does not say when is looked at, and so is what is no
	// image. An image index is left out when all its images are. Zero leaves
	// nothing out.
	Since time.Time

	// Direct has layers read here even where a Diffgate stands in front of the
	// registry. Otherwise that is asked for reports, and hashes what it does not
	// know, so that it knows from then on.
	Direct bool

	// DryRun reads no layers. Results then say what would be read.
	DryRun bool

	// OnResult is told of each result, in order of completion. An error of it ends
	// the run. Nil means to tell nobody.
	OnResult func(Result) error

	// OnProgress is told each Interval how far the run has come, by the goroutine
	// that calls OnResult. Nil means to tell nobody.
	OnProgress func(Progress)

	// Interval zero means a second.
	Interval time.Duration
}

const (
	defaultJobs = 2
	maxRecent   = 1024 // answers that are kept for other tags of the same manifest
	maxRefused  = 10   // results in turn for which the registry could not be reached
)

// A run is one scan under way.
type run struct {
	cfg     Config
	client  *remote.Client
	started time.Time

	manifests turns // being judged
	layers    turns // being hashed
	different seen  // manifests
	planned   seen  // layers of a dry run
	recent    *lru.Cache[recentKey, answer]
	gate      atomic.Int32 // what is known of a Diffgate in front

	total, repositories, read, bytes atomic.Int64

	results chan Result
	cancel  context.CancelCauseFunc
	summary Summary // of the goroutine of Run alone
}

// Run scans a registry until all of it was looked at, ctx ends, or the registry
// cannot be reached any more. The summary is right as far as the run came, even
// with an error. What is false or undecided is no error.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &run{cfg: cfg, started: time.Now(), results: make(chan Result), cancel: cancel}
	s.summary = Summary{Registry: cfg.Registry.Host, StartedAt: s.started.UTC().Truncate(time.Second)}
	if err := s.open(ctx); err != nil {
		return s.summary, err
	}
	jobs := make(chan job)
	var work sync.WaitGroup
	work.Go(func() {
		defer close(jobs)
		s.walk(ctx, jobs)
	})
	if cfg.OnProgress != nil {
		work.Go(func() { s.count(ctx) })
	}
	// Twice as many images as layers: one that only waits for its layers does not
	// hold up those that need none.
	for range 2 * s.cfg.Registry.Jobs {
		work.Go(func() {
			for j := range jobs {
				s.tell(ctx, s.tag(ctx, j))
				s.left(j.repo)
			}
		})
	}
	go func() {
		work.Wait()
		close(s.results)
	}()
	s.collect(ctx)
	return s.finish(ctx)
}

func (s *run) open(ctx context.Context) (err error) {
	s.cfg.Registry.Jobs = cmp.Or(s.cfg.Registry.Jobs, defaultJobs)
	s.cfg.Registry.Facts = s.cfg.Store
	s.cfg.Registry.OnRead = func(n int) { s.bytes.Add(int64(n)) }
	if s.cfg.DryRun {
		s.summary.ToRead = &Amount{}
	}
	if s.recent, err = lru.New[recentKey, answer](maxRecent); err != nil {
		return err
	}
	s.client, err = remote.New(ctx, s.cfg.Registry)
	return err
}

// tell hands a result to the goroutine of Run. What failed because the run ends
// is no result.
func (s *run) tell(ctx context.Context, r Result) {
	if ctx.Err() != nil {
		return
	}
	select {
	case s.results <- r:
	case <-ctx.Done():
	}
}

// collect tells of results and progress until there are no more.
func (s *run) collect(ctx context.Context) {
	var ticks <-chan time.Time
	if s.cfg.OnProgress != nil {
		ticker := time.NewTicker(cmp.Or(s.cfg.Interval, time.Second))
		defer ticker.Stop()
		ticks = ticker.C
	}
	before, at, refused := int64(0), s.started, 0
	for {
		select {
		case r, ok := <-s.results:
			if !ok {
				return
			}
			if refused++; !remote.Unreachable(r.err) {
				refused = 0
			}
			if refused == maxRefused {
				s.cancel(fmt.Errorf("registry %s cannot be reached any more; the same command goes on from here: %w", s.cfg.Registry.Host, r.err))
			}
			if ctx.Err() == nil {
				s.take(r)
			}
		case now := <-ticks:
			bytes := s.bytes.Load()
			p := s.progress()
			p.Rate = float64(bytes-before) / max(now.Sub(at).Seconds(), 0.001)
			before, at = bytes, now
			s.cfg.OnProgress(p)
		}
	}
}

// take counts a result and passes it on.
func (s *run) take(r Result) {
	c := &s.summary
	if r.Tag != "" {
		c.Tags++
	}
	if r.skipped {
		c.Skipped++
		return
	}
	if r.first {
		c.Manifests++
		if r.known {
			c.Known++
		}
	}
	if r.ToRead != nil {
		c.ToRead.Layers += r.ToRead.Layers
		c.ToRead.Bytes += r.ToRead.Bytes
	}
	switch r.Outcome {
	case Right:
		c.Right++
	case False:
		c.False++
	case Undecided:
		c.Undecided++
	}
	if s.cfg.OnResult != nil {
		if err := s.cfg.OnResult(r); err != nil {
			s.cancel(err)
		}
	}
}

func (s *run) progress() Progress {
	elapsed := time.Since(s.started)
	p := Progress{Summary: s.summary, Total: s.total.Load()}
	p.Seconds = elapsed.Round(time.Millisecond).Seconds()
	p.Repositories, p.Diffgate = s.repositories.Load(), s.gate.Load() == gateThere
	p.Read = Amount{Layers: s.read.Load(), Bytes: s.bytes.Load()}
	if p.Total > p.Repositories && p.Repositories > 0 {
		p.Left = time.Duration(float64(elapsed) / float64(p.Repositories) * float64(p.Total-p.Repositories))
	}
	return p
}

func (s *run) finish(ctx context.Context) (Summary, error) {
	err := context.Cause(ctx)
	s.summary.Complete = err == nil
	p := s.progress()
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("the scan was interrupted; the same command goes on from here: %w", err)
	}
	return p.Summary, err
}
