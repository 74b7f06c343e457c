package index

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	defaultLockTimeout = 5 * time.Second

	// closeTimeout bounds how long Close waits, for the writer and then for
	// readers. Only a medium that no longer answers takes that long.
	closeTimeout = 10 * time.Second

	// abandonAfter bounds the wait for transactions on a file that is given up.
	abandonAfter = time.Second

	// attempts is on how many files in a row one call is tried when each turns
	// out to be damaged.
	attempts = 3
)

// BoltConfig says how OpenBolt opens its file.
type BoltConfig struct {
	// Path of the file. It is made when there is none, and its folder too.
	Path string

	// LockTimeout is how long OpenBolt waits for another process that holds
	// the file. 0 means 5 seconds; a negative value, not to wait.
	LockTimeout time.Duration

	// OnDamage is told of all damage that is found, the first before OpenBolt
	// returns. It is called by several goroutines at once, in the middle of
	// calls and of the writer: it must be quick and not call the store. Nil
	// means to tell nobody.
	OnDamage func(Damage)

	// ReadOnly has the store change nothing on the medium: no file is made,
	// written or moved aside. A file that is missing or damaged is an error, one
	// that wraps [fs.ErrNotExist] or [ErrDamaged], and so is every write, which
	// returns [ErrReadOnly]. Several processes may read a file at a time, but none
	// while another may write to it.
	ReadOnly bool
}

// A Damage is something that the DiffID index lost. All of it can be learned
// again, but a medium that damages one file damages others.
type Damage struct {
	Path   string        // the file
	Moved  string        // where all of it was moved, to start afresh; empty when it was not
	Digest digest.Digest // what the unreadable record is about: a blob, manifest, config or other name; empty when Err is about the file
	Err    error         // what is wrong
}

// Bolt is a Store in a bbolt file that one process has open at a time.
//
// bbolt trusts its file: a damaged page makes it panic, a missing one faults.
// Bolt survives both. It moves the file aside, reports a [Damage], and goes on
// with an empty file; the call that found the damage sees that one. Should the
// file be deleted or replaced by another while it is open, the next Put goes on
// with what is at the path then. What nobody survives is a tree that leads back
// to itself, for bbolt's stack overflows in it: OpenBolt looks for that, but a
// file that becomes so while it is open ends the process.
type Bolt struct {
	cfg    BoltConfig
	queue  chan *write   // to the writer
	closed chan struct{} // closed by Close
	ended  chan struct{} // closed when the writer has returned
	close  func() error

	mu      sync.Mutex    // guards the fields below
	file    *boltFile     // nil when err is not, and while opening is not
	err     error         // why there is no file
	opening chan struct{} // closed when the successor of a file has been opened
}

// OpenBolt opens or makes the file of a DiffID index. A damaged file that is provably
// a DiffID index is moved to <path>.corrupt-<time>, and OpenBolt starts with an empty
// one. It returns an error, and leaves the file as it is, when another process holds
// it, an [*InUseError], when the file is not provably a DiffID index or belongs to a
// later version, and when the system denies access.
func OpenBolt(cfg BoltConfig) (*Bolt, error) {
	switch {
	case cfg.Path == "":
		return nil, errors.New("open DiffID index: path is empty")
	case cfg.LockTimeout == 0:
		cfg.LockTimeout = defaultLockTimeout
	}
	b := &Bolt{
		cfg:    cfg,
		queue:  make(chan *write, maxBatch),
		closed: make(chan struct{}),
		ended:  make(chan struct{}),
	}
	b.close = sync.OnceValue(b.shutDown)
	if cfg.ReadOnly {
		close(b.ended) // there is no writer
		file, err := readFile(cfg.Path, cfg.LockTimeout)
		if err != nil {
			return nil, err
		}
		b.file = file
		return b, nil
	}
	file, damage, err := openFile(cfg.Path, cfg.LockTimeout)
	b.report(damage)
	if err != nil {
		return nil, err
	}
	b.file = file
	go b.writeLoop()
	return b, nil
}

// Close implements Store. Puts that are queued are stored first. Calls that do
// not end within 10 seconds are abandoned, and Close returns an error.
func (b *Bolt) Close() error { return b.close() }

func (b *Bolt) shutDown() error {
	close(b.closed)
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-b.ended:
	case <-timeout.C:
	}
	file := b.detach()
	if file == nil {
		return nil
	}
	defer close(file.broken)
	if err := file.close(closeTimeout); err != nil {
		return fmt.Errorf("close DiffID index %s: %w", b.cfg.Path, err)
	}
	return nil
}

// detach has all later calls return ErrClosed, and returns the file.
func (b *Bolt) detach() *boltFile {
	for {
		b.mu.Lock()
		file, opening := b.file, b.opening
		if opening == nil {
			b.file, b.err = nil, ErrClosed
		}
		b.mu.Unlock()
		if opening == nil {
			return file
		}
		<-opening
	}
}

// current returns the file to work on. It waits for one that is being opened.
func (b *Bolt) current(ctx context.Context) (*boltFile, error) {
	for {
		b.mu.Lock()
		file, err, opening := b.file, b.err, b.opening
		b.mu.Unlock()
		if opening == nil {
			return file, err
		}
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// on runs fn on the current file, and again on its successor when the file
// proves unusable. It returns when fn does, or earlier with ctx.
func on[T any](ctx context.Context, b *Bolt, fn func(*boltFile) (T, error)) (v T, err error) {
	for range attempts {
		if err = ctx.Err(); err != nil {
			return v, err
		}
		var file *boltFile
		if file, err = b.current(ctx); err != nil {
			return v, err
		}
		v, err = run(ctx, file, fn)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, berrors.ErrInvalidMapping):
			b.replace(file, err)
		case errors.Is(err, errBroken), errors.Is(err, berrors.ErrDatabaseNotOpen):
			// Another call has replaced the file.
		default:
			return v, err
		}
	}
	return v, fmt.Errorf("DiffID index %s: given up after %d files: %w", b.cfg.Path, attempts, err)
}

// replace gives up file because of cause and opens its successor, unless
// another call does so or Close was called. File is nil when there was none.
func (b *Bolt) replace(file *boltFile, cause error) {
	b.mu.Lock()
	if b.file != file || b.opening != nil || errors.Is(b.err, ErrClosed) {
		b.mu.Unlock()
		return
	}
	opening := make(chan struct{})
	b.file, b.err, b.opening = nil, nil, opening
	b.mu.Unlock()

	next, damage, err := b.succeed(file, cause)
	b.mu.Lock()
	b.file, b.err, b.opening = next, err, nil
	b.mu.Unlock()
	close(opening)
	b.report(damage)
}

// succeed does the work of replace.
func (b *Bolt) succeed(file *boltFile, cause error) (next *boltFile, damage []Damage, err error) {
	if b.cfg.ReadOnly { // there is none; file is not nil, as without one nothing is tried
		close(file.broken)
		_ = file.close(abandonAfter)
		return nil, nil, fmt.Errorf("read DiffID index %s: %w", b.cfg.Path, cause)
	}
	if file != nil {
		close(file.broken)
		d := Damage{Path: b.cfg.Path, Err: cause}
		if errors.Is(cause, ErrDamaged) && isAt(file.info, b.cfg.Path) {
			// While the lock is held, so that no other process moves it too.
			d.Moved, err = moveAside(b.cfg.Path)
		}
		damage = append(damage, d)
		_ = file.close(abandonAfter) // its successor can do without
		if err != nil {
			return nil, damage, err
		}
	}
	next, more, err := openFile(b.cfg.Path, b.cfg.LockTimeout)
	return next, append(damage, more...), err
}

func (b *Bolt) report(damage []Damage) {
	if b.cfg.OnDamage == nil {
		return
	}
	for _, d := range damage {
		b.cfg.OnDamage(d)
	}
}
