package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"diffgate/verify"
)

// A ledger is what is known about blobs: the facts of the DiffID index, and
// those that are being learned. Each digest is learned once however many ask.
type ledger struct {
	index   Index
	log     *zap.Logger
	metrics *Metrics
	slots   chan struct{}                       // one for each fetch that may run
	slow    *semaphore.Weighted                 // the lane of blobs that are slow to decode; of size 1
	relearn *lru.Cache[digest.Digest, struct{}] // facts of limits that were learned again
	began   time.Time

	ctx    context.Context // of the work, which outlives the requests that began it
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // guards flights and closed
	flights map[digest.Digest]*flight
	closed  bool
}

// A flight is a fact that is being learned.
type flight struct {
	done chan struct{} // closed when fact and err are set
	fact verify.Fact
	err  error
}

func newLedger(index Index, fetches int, log *zap.Logger, m *Metrics) (*ledger, error) {
	relearn, err := lru.New[digest.Digest, struct{}](relearnKept)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &ledger{
		index: index, log: log, metrics: m,
		slots: make(chan struct{}, fetches), slow: semaphore.NewWeighted(1),
		relearn: relearn, began: time.Now(),
		ctx: ctx, cancel: cancel,
		flights: map[digest.Digest]*flight{},
	}, nil
}

// relearnKept is how many facts are remembered as learned again.
const relearnKept = 4096

// close drops the fetches under way and waits for all work. Facts that only
// wait for a hasher are recorded first.
func (l *ledger) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
}

// known returns the fact that the DiffID index holds. A store that fails is a
// store that does not know: the blob is hashed again.
func (l *ledger) known(ctx context.Context, dgst digest.Digest) (verify.Fact, bool) {
	f, err := l.index.Get(ctx, dgst)
	switch {
	case err == nil && l.stale(f):
		l.metrics.lookups.WithLabelValues("miss").Inc()
	case err == nil:
		l.metrics.lookups.WithLabelValues("hit").Inc()
		return f, true
	case errors.Is(err, verify.ErrUnknown):
		l.metrics.lookups.WithLabelValues("miss").Inc()
	case ctx.Err() == nil:
		l.metrics.lookups.WithLabelValues("error").Inc()
		l.log.Error("DiffID index cannot be read", zap.Error(err))
	}
	return verify.Fact{}, false
}

// learned returns the fact about a blob if it is known, or as soon as it is if it is being
// learned. It begins no work.
func (l *ledger) learned(ctx context.Context, dgst digest.Digest) (verify.Fact, bool) {
	l.mu.Lock()
	fl := l.flights[dgst]
	l.mu.Unlock()
	if fl != nil {
		select {
		case <-fl.done:
			return fl.fact, fl.err == nil
		case <-ctx.Done():
			return verify.Fact{}, false
		}
	}
	f, err := l.index.Get(ctx, dgst)
	return f, err == nil
}

// stale reports whether a fact ended at a limit before this process began. Its
// limits may be other ones, so the blob is read again, once.
func (l *ledger) stale(f verify.Fact) bool {
	if !l.isOld(f) {
		return false
	}
	seen, _ := l.relearn.ContainsOrAdd(f.Digest, struct{}{})
	return !seen
}

func (l *ledger) isOld(f verify.Fact) bool {
	return !f.Final() && f.LearnedAt.Before(l.began.Truncate(time.Second))
}

// A learner fetches a blob and returns the fact about it. It gives up a blob that is
// slow to decode, unless it runs in the slow lane.
type learner func(ctx context.Context, slow bool) (verify.Fact, error)

// observe learns the fact that sum returns, in the background: sum waits for a
// hasher. It always calls sum. Those who ask for dgst meanwhile wait for it. If
// the hasher gave up, nothing is learned, and again is called.
func (l *ledger) observe(dgst digest.Digest, sum func() verify.Fact, again func()) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		sum() // ends the hasher; there is nothing left to tell
		return
	}
	fl := l.flights[dgst]
	own := fl == nil
	if own {
		fl = &flight{done: make(chan struct{})}
		l.flights[dgst] = fl
	}
	l.work.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.work.Done()
		fact, err := sum(), errGivenUp
		if fact.Problem != verify.GivenUp {
			err = l.record(fact)
		}
		if own {
			l.land(dgst, fl, fact, err)
		}
		if errors.Is(err, errGivenUp) {
			again()
		}
	}()
}

// fact returns the fact about a blob. If neither the DiffID index nor anybody
// under way knows it, fetch is called, on a context that outlives ctx: a
// client that gives up does not throw the work away.
//
// A fetch may fail for a reason of the one who asked first (a right, a
// repository); those who only waited for it then try for themselves.
func (l *ledger) fact(ctx context.Context, dgst digest.Digest, fetch learner) (verify.Fact, error) {
	for {
		if f, ok := l.known(ctx, dgst); ok {
			return f, nil
		}
		fl, first, err := l.join(dgst, fetch)
		if err != nil {
			return verify.Fact{}, err
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			return verify.Fact{}, ctx.Err()
		}
		if fl.err == nil || first || !personal(fl.err) {
			return fl.fact, fl.err
		}
	}
}

// personal reports whether a fetch that failed may succeed for another caller.
func personal(err error) bool {
	var answer *upstreamError
	return errors.Is(err, verify.ErrNotFound) || errors.Is(err, errGivenUp) || errors.As(err, &answer)
}

// errGivenUp is what a tap ends with that had no memory for a window, or held up
// the transfer.
var errGivenUp = errors.New("hashing was given up")

var errClosed = errors.New("the proxy is shutting down")

// join returns the flight of dgst, and whether this call began it.
func (l *ledger) join(dgst digest.Digest, fetch learner) (*flight, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fl := l.flights[dgst]; fl != nil {
		return fl, false, nil
	}
	if l.closed {
		return nil, false, errClosed
	}
	fl := &flight{done: make(chan struct{})}
	l.flights[dgst] = fl
	l.work.Add(1)
	go func() {
		defer l.work.Done()
		// Another flight may have landed after the caller looked.
		fact, err := l.index.Get(l.ctx, dgst)
		if err != nil || l.isOld(fact) {
			fact, err = l.fetch(dgst, fetch)
		}
		l.land(dgst, fl, fact, err)
	}()
	return fl, true, nil
}

func (l *ledger) fetch(dgst digest.Digest, fetch learner) (verify.Fact, error) {
	began := time.Now()
	fact, err := l.inLane(fetch)
	switch {
	case err != nil && l.ctx.Err() != nil:
		return verify.Fact{}, errClosed
	case err != nil:
		return verify.Fact{}, err
	}
	l.metrics.fetchSeconds.Observe(time.Since(began).Seconds())
	if err := l.record(fact); err != nil {
		return fact, err
	}
	if fact.Digest != dgst {
		err = l.write(func(ctx context.Context) error { return l.index.Link(ctx, dgst, fact.Digest) })
	}
	return fact, err
}

// inLane runs a fetch in a slot, and in the slow lane if it turns out to be slow: it
// waits there without a slot, so that others are not held up.
func (l *ledger) inLane(fetch learner) (verify.Fact, error) {
	release, err := l.slot(l.ctx)
	if err != nil {
		return verify.Fact{}, err
	}
	fact, err := fetch(l.ctx, false)
	release()
	if err != nil || fact.Problem != verify.GivenUp {
		return fact, err
	}
	if err := l.slow.Acquire(l.ctx, 1); err != nil {
		return verify.Fact{}, err
	}
	defer l.slow.Release(1)
	return fetch(l.ctx, true)
}

// slot waits until one more blob may be fetched and hashed. release must be
// called when it was.
func (l *ledger) slot(ctx context.Context) (release func(), err error) {
	l.metrics.hashersWaiting.Inc()
	defer l.metrics.hashersWaiting.Dec()
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *ledger) land(dgst digest.Digest, fl *flight, fact verify.Fact, err error) {
	fl.fact, fl.err = fact, err
	l.mu.Lock()
	delete(l.flights, dgst)
	l.mu.Unlock()
	close(fl.done)
}

// recordTimeout bounds how long a fact waits for a slow store. The store may
// be written while the proxy shuts down, so it is not bound to l.ctx.
const recordTimeout = 30 * time.Second

// record puts a fact into the DiffID index. A store that cannot be written
// costs time later and nothing now, so only a conflict is an error: then
// nobody knows what the blob contains.
func (l *ledger) record(fact verify.Fact) error {
	l.metrics.hashed(fact)
	began := time.Now()
	defer func() { l.metrics.commitSeconds.Observe(time.Since(began).Seconds()) }()
	return l.write(func(ctx context.Context) error { return l.index.Put(ctx, fact) })
}

func (l *ledger) write(put func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	err := put(ctx)
	switch {
	case errors.Is(err, verify.ErrConflict):
		l.metrics.conflicts.Inc()
		l.log.Error("DiffID index holds another fact about the same bytes; recompute it or delete the DiffID index", zap.Error(err))
		return err
	case err != nil:
		l.metrics.writeErrors.Inc()
		l.log.Error("DiffID index cannot be written", zap.Error(err))
	}
	return nil
}

// remember puts a judgement into the DiffID index.
func (l *ledger) remember(j verify.Judgement) {
	l.later(func(ctx context.Context) error { return l.index.PutJudgement(ctx, j) })
}

// later writes to the DiffID index in the background: the client whose request
// it comes of does not wait for it.
func (l *ledger) later(put func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.work.Add(1)
	go func() {
		defer l.work.Done()
		_ = l.write(put) // counted and logged there
	}()
}
