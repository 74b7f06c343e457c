package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// transferIdle is how long a client may send or take nothing before its
// connection is cut. There is no deadline for a whole transfer.
const transferIdle = 5 * time.Minute

// An idleWatch pushes the connection's deadlines ahead of a transfer that
// makes progress.
type idleWatch struct {
	rc *http.ResponseController

	mu      sync.Mutex // guards the rest against a body read that outlives the handler
	stopped bool
	unread  bool  // the client may still be sending
	failed  error // what reading the body ended with, other than io.EOF
}

// watchIdle wraps the body and the response of x. stop must be called before
// the handler returns.
func watchIdle(x *exchange) *idleWatch {
	i := &idleWatch{rc: http.NewResponseController(x.w.ResponseWriter)}
	if x.r.Body != nil && x.r.ContentLength != 0 && !x.bodyRead {
		i.unread = true
		x.r.Body = &idleBody{ReadCloser: x.r.Body, watch: i}
	}
	x.w.beforeWrite = i.beforeWrite
	return i
}

func (i *idleWatch) beforeWrite() {
	// A ResponseWriter without deadlines has no connection to cut.
	_ = i.rc.SetWriteDeadline(time.Now().Add(transferIdle))
}

func (i *idleWatch) readDeadline(t time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.stopped {
		_ = i.rc.SetReadDeadline(t) // as above
	}
}

// stop takes the deadlines off, for the next request on the connection; the
// client may be late with the rest of a body that is not read any more.
func (i *idleWatch) stop() {
	i.readDeadline(time.Now().Add(transferIdle))
	i.mu.Lock()
	i.stopped = true
	i.mu.Unlock()
	_ = i.rc.SetWriteDeadline(time.Time{}) // as above
}

// hangUp makes the server close the connection behind an answer that comes
// before the whole body has. It is to be called before the header is written.
//
// Otherwise the server waits for more of the body before it answers, and the
// client may wait for the answer. Nor may it just close: bytes that nobody read
// make that a reset, and the answer is lost with it. A body over a limit is
// what net/http is told so by.
func (x *exchange) hangUp() {
	body := http.MaxBytesReader(x.w.ResponseWriter, io.NopCloser(strings.NewReader("x")), 0)
	_, _ = body.Read(make([]byte, 1)) // the error is what is wanted
}

// bodyEnded takes note of what reading the body ended with.
func (i *idleWatch) bodyEnded(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unread = false
	if err != io.EOF {
		i.failed = err
	}
}

// body returns whether the client may still be sending, and what kept its body
// from being read to the end.
func (i *idleWatch) body() (unread bool, failed error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.unread, i.failed
}

// An idleBody is a request body whose every read may take transferIdle.
type idleBody struct {
	io.ReadCloser
	watch *idleWatch
}

func (b *idleBody) Read(p []byte) (int, error) {
	b.watch.readDeadline(time.Now().Add(transferIdle))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// While the upstream digests the blob the server watches the client's
		// connection; a deadline there would look like a client gone.
		b.watch.readDeadline(time.Time{})
		b.watch.bodyEnded(err)
	}
	return n, err
}
