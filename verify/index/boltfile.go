package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// ErrDamaged is returned for a file that cannot be read as what it was, by those
// who leave it as it is: [Compact], and [OpenBolt] when it only reads.
var ErrDamaged = errors.New("damaged file")

var errBroken = errors.New("given up by another call")

// A boltFile is an open and locked bbolt file.
type boltFile struct {
	raw    *os.File
	info   os.FileInfo   // says which file it is, whatever its name is now
	db     *bbolt.DB     // owns raw; nil until loaded
	broken chan struct{} // closed when the file has been given up
	tx     int           // the last transaction; -1 if unknown; used by the writer

	readOnly bool

	work  chan func()   // to a goroutine that waits for work
	idle  atomic.Int32  // goroutines that wait for work
	ended chan struct{} // closed by close
}

// maxIdle is how many goroutines of a file wait for work at most.
const maxIdle = 16

func newBoltFile(raw *os.File) *boltFile {
	return &boltFile{
		raw: raw, broken: make(chan struct{}), work: make(chan func()), ended: make(chan struct{}),
	}
}

// start runs work on another goroutine. One that has worked before has a stack
// of the size that bbolt takes; to grow it takes longer than to get a fact.
func (f *boltFile) start(work func()) {
	select {
	case f.work <- work:
	default:
		go f.worker(work)
	}
}

func (f *boltFile) worker(work func()) {
	for {
		work()
		if f.idle.Add(1) > maxIdle {
			f.idle.Add(-1)
			return
		}
		select {
		case work = <-f.work:
			f.idle.Add(-1)
		case <-f.ended:
			return
		}
	}
}

// run runs fn on another goroutine and returns when fn does, or with an error
// when ctx ends or the file is given up.
//
// When bbolt panics in the middle of beginning a transaction, it leaves its
// locks locked, and every other transaction that begins or ends waits for ever.
// No caller may wait with them: the goroutines that do are abandoned together
// with the file, and there is one for each call that was under way at most.
func run[T any](ctx context.Context, f *boltFile, fn func(*boltFile) (T, error)) (v T, err error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	f.start(func() {
		var r result
		r.err = guard(func() (err error) {
			r.value, err = fn(f)
			return err
		})
		done <- r
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-f.broken:
		return v, errBroken
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// guard runs fn and turns a panic, or a fault in the mapped file, into
// ErrDamaged. Without SetPanicOnFault, which is a property of a goroutine, the
// fault would end the process.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return fn()
}

// close closes f and releases its lock. When that takes longer than wait,
// because a transaction does not end, it abandons f with its mapping and lock.
// It is called once.
func (f *boltFile) close(wait time.Duration) error {
	close(f.ended)
	if f.db == nil {
		return f.raw.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- f.db.Close() }()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case err := <-closed:
		return err
	case <-timeout.C:
		return fmt.Errorf("abandoned after %s", wait)
	}
}
