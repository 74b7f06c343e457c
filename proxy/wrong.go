package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"diffgate/verify"
)

// seen takes note of what reading a whole blob came to.
func (l *ledger) seen(ctx context.Context, dgst digest.Digest, err error) {
	var wrong *wrongBlobError
	switch {
	case err == nil:
		l.right(ctx, dgst)
	case errors.As(err, &wrong):
		l.wrong(wrong)
	}
}

// markAgain is how long a mark is as good as one that is made now: clients try
// again and again.
const markAgain = time.Minute

// wrong counts, logs and marks a blob that the registry gave out other bytes
// for.
func (l *ledger) wrong(err *wrongBlobError) {
	fields := []zap.Field{zap.String("vars.name", err.repo), zap.Stringer("vars.digest", err.want), zap.Stringer("actual", err.got)}
	if err.doubt {
		l.log.Warn("a blob came as other bytes; it may have been encoded or cut on the way from the upstream", fields...)
		return
	}
	l.metrics.wrongBlobs.Inc()
	l.log.Error("the upstream holds a wrong blob; delete and push it again", fields...)
	w := verify.WrongBlob{Digest: err.want, Actual: err.got, SeenAt: time.Now()}
	if known, err := l.index.WrongBlob(l.ctx, w.Digest); err == nil && known.Actual == w.Actual && w.SeenAt.Sub(known.SeenAt) < markAgain {
		return
	}
	l.later(func(ctx context.Context) error { return l.index.MarkWrong(ctx, w) })
}

// right takes the mark off a blob that the registry gave out just now.
func (l *ledger) right(ctx context.Context, dgst digest.Digest) {
	if _, err := l.index.WrongBlob(ctx, dgst); err != nil {
		return // it has none; or nobody can tell, and the next read of the blob will
	}
	l.log.Info("the upstream holds the right blob again", zap.Stringer("vars.digest", dgst))
	l.later(func(ctx context.Context) error { return l.index.ClearWrong(ctx, dgst) })
}

// wrongNamed is how many wrong blobs WrongBlobs names.
const wrongNamed = 3

// WrongBlobs says in a few words under which digests the registry was seen to
// hold other bytes, or returns "ok". It is for operators: the digests are of any
// repository.
func (p *Proxy) WrongBlobs(ctx context.Context) string {
	list, err := p.cfg.Index.WrongBlobs(ctx, wrongNamed+1)
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case len(list) == 0:
		return "ok"
	}
	text := "the registry holds wrong bytes under"
	for i, w := range list {
		if i == wrongNamed {
			return text + " and others"
		}
		text = fmt.Sprintf("%s %s", text, w.Digest)
	}
	return text
}
