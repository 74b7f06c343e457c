package proxy

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
)

// ahead learns blobs before a manifest names them: those that came into a
// repository and did not pass, or not in one piece. It costs a read of the
// blob, which the gate would otherwise make while a client waits.
//
// One blob is read at a time, so that the gate, which shares the slots, never
// waits for more than that. What the queue has no room for is left to the gate.
type ahead struct {
	ledger *ledger
	queue  chan aheadJob
}

// An aheadJob learns a blob, or finds out again whether the registry has it.
type aheadJob struct {
	dgst digest.Digest
	run  func(context.Context) error
}

// newAhead starts its worker, which ends when the ledger is closed.
func newAhead(l *ledger, queue int) *ahead {
	a := &ahead{ledger: l, queue: make(chan aheadJob, max(queue, 0))}
	l.work.Add(1)
	go a.run()
	return a
}

func (a *ahead) run() {
	l := a.ledger
	defer l.work.Done()
	for {
		select {
		case <-l.ctx.Done():
			return
		case job := <-a.queue:
			if err := job.run(l.ctx); err != nil && l.ctx.Err() == nil {
				l.log.Debug("blob cannot be learned ahead; the gate will try again", zap.Stringer("vars.digest", job.dgst), zap.Error(err))
			}
		}
	}
}

// add queues a job, if there is room.
func (a *ahead) add(job aheadJob) {
	if cap(a.queue) == 0 {
		return
	}
	select {
	case a.queue <- job:
	default:
		a.ledger.metrics.notAhead.Inc()
	}
}

// aheadJob reads a blob of the exchange's repository, in the name of its client.
func (x *exchange) aheadJob(dgst digest.Digest) aheadJob {
	repo := pushed{x.repository()}
	return aheadJob{dgst, func(ctx context.Context) error {
		_, err := repo.fact(ctx, dgst)
		return err
	}}
}

// readBack reads a blob that was pushed and that the registry held wrong before:
// a registry that has a file keeps it, and answers the push as if it took it.
func (x *exchange) readBack(dgst digest.Digest) {
	if _, err := x.p.cfg.Index.WrongBlob(x.r.Context(), dgst); err != nil {
		return
	}
	repo := x.repository()
	x.p.ahead.add(aheadJob{dgst, func(ctx context.Context) error {
		release, err := repo.p.ledger.slot(ctx)
		if err != nil {
			return err
		}
		defer release()
		_, err = repo.hash(ctx, dgst, false)
		return err
	}})
}

// learnAhead learns a blob if the DiffID index lacks it.
func (x *exchange) learnAhead(text string) {
	dgst, err := digest.Parse(text)
	if err != nil {
		return
	}
	if _, err := x.p.cfg.Index.Get(x.r.Context(), dgst); err != nil {
		x.p.ahead.add(x.aheadJob(dgst))
	}
}

// headBlob forwards a HEAD of a blob. A client that finds one will not send it.
func headBlob(x *exchange) error {
	return x.forward(func(res *http.Response) error {
		if res.StatusCode == http.StatusOK {
			x.learnAhead(x.rt.digest)
		}
		return nil
	})
}
