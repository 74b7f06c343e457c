package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"diffgate/cmd/proxy/show"
)

// A meter shows on a terminal how much was read, each half second on one line
// that it takes away at the end. Elsewhere it shows nothing.
type meter struct {
	read  atomic.Int64
	once  sync.Once
	stop  chan struct{}
	ended chan struct{}
}

const meterInterval = 500 * time.Millisecond

// startMeter starts a meter on w. It ends with end.
func startMeter(w io.Writer) *meter {
	m := &meter{stop: make(chan struct{}), ended: make(chan struct{})}
	if !show.IsTerminal(w) {
		close(m.ended)
		return m
	}
	go m.run(w)
	return m
}

// add counts bytes. It may be called by several goroutines at once.
func (m *meter) add(n int) { m.read.Add(int64(n)) }

func (m *meter) run(w io.Writer) {
	defer close(m.ended)
	tick := time.NewTicker(meterInterval)
	defer tick.Stop()
	start, shown := time.Now(), false
	for {
		select {
		case <-m.stop:
			if shown {
				fmt.Fprint(w, "\r\x1b[K")
			}
			return
		case <-tick.C:
			n := m.read.Load()
			fmt.Fprintf(w, "\r\x1b[Kread %s, %s/s", show.Size(n), show.Size(int64(float64(n)/time.Since(start).Seconds())))
			shown = true
		}
	}
}

// end takes the line away and waits for that. It may be called again.
func (m *meter) end() {
	m.once.Do(func() { close(m.stop) })
	<-m.ended
}
