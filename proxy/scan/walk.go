package scan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"diffgate/proxy/remote"
	"diffgate/verify"
)

// A job is a tag to look at.
type job struct {
	repo *repo
	tag  string
}

// A repo is a repository under way.
type repo struct {
	name   string
	remote *remote.Repository
	jobs   atomic.Int64 // that are left, and one while tags are being listed
}

// left counts a job of a repository as done, and with the last the repository.
func (s *run) left(r *repo) {
	if r.jobs.Add(-1) == 0 {
		s.repositories.Add(1)
	}
}

// repos returns the names of the repositories to look at.
func (s *run) repos(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range s.cfg.Repositories.names() {
			if !yield(name, nil) {
				return
			}
		}
		if len(s.cfg.Repositories.names()) > 0 {
			return
		}
		for name, err := range s.client.Repositories(ctx) {
			if (err != nil || s.cfg.Repositories.Match(name)) && !yield(name, err) {
				return
			}
		}
	}
}

// count finds out how many repositories there are: all that can be known of the
// work before it is done.
func (s *run) count(ctx context.Context) {
	total := int64(0)
	for _, err := range s.repos(ctx) {
		if err != nil {
			return // walk says so
		}
		total++
	}
	s.total.Store(total)
}

// listers is how many repositories have their tags listed at once: one that
// does not answer holds up no other.
const listers = 4

// walk makes a job of each tag.
func (s *run) walk(ctx context.Context, jobs chan<- job) {
	var lists sync.WaitGroup
	defer lists.Wait()
	repos := make(chan *repo)
	defer close(repos)
	for range listers {
		lists.Go(func() {
			for r := range repos {
				s.walkTags(ctx, r, jobs)
				s.left(r)
			}
		})
	}
	for name, err := range s.repos(ctx) {
		if err != nil {
			s.tell(ctx, undecided(Result{}, fmt.Errorf("the catalog cannot be read: %w", err)))
			return
		}
		r := &repo{name: name, remote: s.client.Repository(name)}
		r.jobs.Add(1)
		select {
		case repos <- r:
		case <-ctx.Done():
			return
		}
	}
}

func (s *run) walkTags(ctx context.Context, r *repo, jobs chan<- job) {
	some := len(s.cfg.Repositories.names()) > 0 // whoever names a repository wants it to be there
	for tag, err := range s.client.Tags(ctx, r.name) {
		switch {
		case errors.Is(err, verify.ErrNotFound) && !some:
			return // the catalog lists repositories that have lost their last tag, or that never had one
		case err != nil:
			s.tell(ctx, undecided(Result{Repository: r.name}, fmt.Errorf("the tags cannot be read: %w", err)))
			return
		}
		some = true
		r.jobs.Add(1)
		select {
		case jobs <- job{r, tag}:
		case <-ctx.Done():
			r.jobs.Add(-1)
			return
		}
	}
}

// undecided returns a result with the reason why there is no answer.
func undecided(r Result, err error) Result {
	r.Outcome, r.Verdict, r.Error, r.err = Undecided, verify.Unverified, err.Error(), err
	return r
}
