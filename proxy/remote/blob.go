package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// stallLimit is how long no byte of a blob may come.
const stallLimit = 2 * time.Minute

var errStalled = fmt.Errorf("the registry sent nothing for %s", stallLimit)

// A blob is one that is being read. Its Read slows down to the rate that was
// asked for, and fails when the registry stalls.
type blob struct {
	r    *Repository
	want digest.Digest
	sum  digest.Digester // of what was read; nil where SHA-256 is wanted and computed elsewhere

	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	done   func() // may be nil
}

// layer is open for one of the few blobs that are read at once.
func (r *Repository) layer(ctx context.Context, want digest.Digest) (*blob, error) {
	select {
	case r.c.jobs <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	done := func() { <-r.c.jobs }
	b, err := r.open(ctx, want)
	if err != nil {
		done()
		return nil, err
	}
	b.done = done
	return b, nil
}

// open asks for a blob. The caller closes it.
func (r *Repository) open(ctx context.Context, want digest.Digest) (*blob, error) {
	if err := want.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", want, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	b := &blob{r: r, want: want, ctx: ctx, cancel: cancel, timer: time.AfterFunc(headerTimeout, func() { cancel(errStalled) })}
	res, err := r.do(ctx, http.MethodGet, "blobs/"+want.String(), http.Header{"Accept-Encoding": {"identity"}})
	if err == nil && res.StatusCode != http.StatusOK {
		err = failure(res)
	}
	if err != nil {
		b.timer.Stop()
		cancel(nil)
		return nil, err
	}
	b.body = res.Body
	if want.Algorithm() != digest.SHA256 {
		b.sum = want.Algorithm().Digester()
	}
	return b, nil
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	p = p[:min(len(p), maxPiece)]
	b.timer.Reset(stallLimit)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if b.sum != nil {
		b.sum.Hash().Write(p[:n]) // a hash never fails
	}
	if b.r.c.cfg.OnRead != nil {
		b.r.c.cfg.OnRead(n)
	}
	if l := b.r.c.limiter; l != nil && n > 0 {
		if wait := l.WaitN(b.ctx, n); wait != nil && err == nil {
			err = wait
		}
	}
	if err != nil && err != io.EOF && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// check compares the digest of the bytes that were read, all of them, with what
// was asked for. Their SHA-256 is computed by the caller.
func (b *blob) check(sha256 digest.Digest) error {
	got := sha256
	if b.sum != nil {
		got = b.sum.Digest()
	}
	if got != b.want {
		return &WrongBlobError{b.r.name, b.want, got}
	}
	return nil
}

// Close implements io.Closer.
func (b *blob) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	if b.done != nil {
		b.done()
	}
	return err
}
