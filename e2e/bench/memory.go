package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A load is transfers of the stream at the same time.
type load struct {
	upload bool
	count  int
	pace   pace
	look   time.Duration // how long memory is looked at
}

func (l load) name() string {
	what, pace := "download", "slow"
	if l.upload {
		what = "upload"
	}
	if l.pace.burst == 0 {
		pace = "whole"
	}
	if l.count > 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s %s", l.count, pace, what)
}

// A footprint is what a load takes of memory, in KiB.
type footprint struct {
	idle, held, peak float64
}

// memory looks at how much memory Diffgate takes for transfers of 1 GiB: of
// many slow ones, and of a whole one.
func (b *bench) memory(ctx context.Context) error {
	size, burst, counts, look := int64(1<<30), int64(4<<20), []int{1, 50, 200}, 2*time.Second
	if b.short {
		size, burst, counts, look = 8<<20, 1<<20, []int{4}, 200*time.Millisecond
	}
	s, err := newStream(b.corpora[0], size)
	if err != nil {
		return err
	}
	known, err := s.digest()
	if err != nil {
		return err
	}
	t := table{
		Title: "Memory",
		Note: fmt.Sprintf("MiB of a Diffgate started afresh in front of a stub that drops uploads and makes up downloads of %s. "+
			"Slow transfers pass %s each at full speed, then %d KiB every %s; memory is looked at for %s while all are under way. "+
			"A whole one passes all of it at full speed. Growth is of the resident set over that of the idle program, peak that of its high-water mark.",
			megabytes(s.size), megabytes(burst), trickle>>10, tricklePause, look),
		Columns: []string{"transfers", "idle", "growth", "peak growth", "growth for each"},
	}
	for _, upload := range []bool{true, false} {
		loads := []load{{upload, 1, pace{}, 0}}
		for _, n := range counts {
			loads = append(loads, load{upload, n, pace{burst}, look})
		}
		for _, l := range loads {
			name := l.name()
			b.say("memory, %s", name)
			f, err := b.weigh(ctx, l, s, known)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			each := (f.held - f.idle) / 1024 / float64(l.count)
			t.Rows = append(t.Rows, []any{name, f.idle / 1024, (f.held - f.idle) / 1024, (f.peak - f.idle) / 1024, each})
			if l.count > 1 {
				b.report.goal("MiB for each of "+name, each, 1, true)
			}
		}
	}
	b.report.add(t)
	return nil
}

// weigh starts Diffgate and puts a load on it.
func (b *bench) weigh(ctx context.Context, l load, s stream, known digest.Digest) (f footprint, err error) {
	stub := startStub(s)
	defer stub.Close()
	p, err := b.startDiffgate(ctx, stub.Listener.Addr().String())
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	c := newClient(p.addr)
	defer c.close()
	if f.idle, err = p.kib("VmRSS"); err != nil {
		return f, err
	}
	if l.pace.burst == 0 {
		err = c.move(ctx, l, s, known, func() {})
	} else {
		err = c.holdUp(ctx, l, s, func() error {
			rss, err := p.kib("VmRSS")
			f.held = max(f.held, rss)
			return err
		})
	}
	if err != nil {
		return f, err
	}
	if f.held == 0 {
		if f.held, err = p.kib("VmRSS"); err != nil {
			return f, err
		}
	}
	f.peak, err = p.kib("VmHWM")
	return f, err
}

// burstsAtOnce are the transfers that are at full speed while others wait for
// their turn. It is what is held afterwards that is measured, and a machine that
// is busy with 200 of them does not get to answer.
const burstsAtOnce = 8

// holdUp begins slow transfers, and calls look for a while when all are slow.
func (c *client) holdUp(ctx context.Context, l load, s stream, look func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var slow atomic.Int64
	bursts := make(chan struct{}, burstsAtOnce)
	group, groupCtx := errgroup.WithContext(ctx)
	for range l.count {
		group.Go(func() error {
			select {
			case bursts <- struct{}{}:
			case <-groupCtx.Done():
				return nil // another says why
			}
			err := c.move(groupCtx, l, s, anyDigest(), func() {
				<-bursts
				slow.Add(1)
			})
			if ctx.Err() != nil {
				return nil // it was to end so
			}
			return errors.Join(err, errors.New("a transfer ended by itself"))
		})
	}
	group.Go(func() error {
		defer cancel()
		for slow.Load() < int64(l.count) {
			if err := pause(groupCtx); err != nil {
				return err
			}
		}
		for until := time.Now().Add(l.look); time.Now().Before(until); {
			if err := errors.Join(look(), pause(groupCtx)); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// pause is between two looks.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// move uploads or downloads a stream, and calls past when it is past the burst.
func (c *client) move(ctx context.Context, l load, s stream, dgst digest.Digest, past func()) error {
	f := &flow{ctx: ctx, stream: s, pace: l.pace}
	if l.upload {
		to, err := c.begin(ctx, "memory")
		if err != nil {
			return err
		}
		_, err = c.write(ctx, http.MethodPatch, to, "application/octet-stream", s.size, &meter{f, l.pace.burst, past}, http.StatusAccepted)
		return err
	}
	return c.read(ctx, "memory", "blobs", dgst.String(), "", func(r io.Reader) error {
		// The bytes are the answer's; the flow sets the pace alone.
		_, err := io.Copy(io.Discard, &meter{&paced{f, r}, l.pace.burst, past})
		return err
	})
}

// paced reads r at the pace of a flow.
type paced struct {
	*flow
	r io.Reader
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.flow.Read(b)
	if err != nil {
		return 0, err
	}
	return io.ReadFull(p.r, b[:n])
}

// A meter tells once when a burst was read.
type meter struct {
	r    io.Reader
	left int64
	past func() // nil when it was called
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.left -= int64(n); m.left <= 0 && m.past != nil {
		m.past()
		m.past = nil
	}
	return n, err
}
