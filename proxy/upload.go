package proxy

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// startUpload forwards POST /v2/<name>/blobs/uploads/. It opens a session,
// mounts a blob (201: nothing passed, nothing is learned), or carries a whole
// blob (?digest=), which a registry may take (201) or ignore (202).
func startUpload(x *exchange) error {
	var s *session
	if x.r.URL.Query().Has("digest") && x.r.ContentLength != 0 {
		s = newSession(x.p.tapped)
	}
	return x.tap(s)
}

// tapUpload forwards PATCH and PUT of an upload session.
func tapUpload(x *exchange) error {
	s := x.p.sessions.take(sessionKey{x.rt.name, x.rt.session})
	if s != nil && !follows(x.r.Header.Get("Content-Range"), s.offset) {
		s.end()
		s = nil
	}
	return x.tap(s)
}

// endUpload forwards DELETE of an upload session.
func endUpload(x *exchange) error {
	if s := x.p.sessions.take(sessionKey{x.rt.name, x.rt.session}); s != nil {
		s.end()
	}
	return x.forward(nil)
}

// follows reports whether a chunk continues the bytes seen. Without the header
// a chunk is appended by definition.
func follows(contentRange string, offset int64) bool {
	if contentRange == "" {
		return true
	}
	var start, last int64
	_, err := fmt.Sscanf(strings.TrimPrefix(contentRange, "bytes "), "%d-%d", &start, &last)
	return err == nil && start == offset
}

// tap forwards the request with s, which may be nil, seeing its body.
func (x *exchange) tap(s *session) error {
	t := &uploadTap{x: x, session: s}
	defer t.letGo()
	if s != nil && x.r.ContentLength != 0 {
		t.body = &tapBody{ReadCloser: x.r.Body, session: s, want: x.r.ContentLength}
		x.r.Body = t.body
	}
	return x.forward(t.response)
}

// An uploadTap owns a session for the time of one request.
type uploadTap struct {
	x       *exchange
	session *session // nil: nothing is followed, or not any more
	body    *tapBody // nil: no body
}

// letGo ends a session that nobody took over.
func (t *uploadTap) letGo() {
	t.body.detach()
	if t.session != nil {
		t.session.end()
	}
}

// response looks at the upstream's answer. It never fails: a tap that lost its
// place learns nothing.
func (t *uploadTap) response(res *http.Response) error {
	whole := t.body.detach()
	x, s := t.x, t.session
	switch {
	case res.StatusCode == http.StatusCreated && s != nil && whole:
		t.learn(res)
	case res.StatusCode == http.StatusCreated:
		t.arrived(res) // mounted, or seen in part
	case res.StatusCode == http.StatusAccepted && x.r.Method == http.MethodPost:
		// A new session. Whatever came with the request was ignored.
		if key, ok := t.location(res); ok {
			x.p.sessions.put(key, newSession(x.p.tapped))
		}
	case res.StatusCode == http.StatusAccepted && x.r.Method == http.MethodPatch && s != nil && whole && atOffset(res.Header.Get("Range"), s.offset):
		if key, ok := t.location(res); ok {
			t.session = nil
			x.p.sessions.put(key, s)
		}
	}
	return nil
}

// learn records the blob that the upstream confirmed: under its own digest,
// and only if that is the one confirmed. The digest of the URL is not: a
// registry may read it elsewhere.
func (t *uploadTap) learn(res *http.Response) {
	x, s := t.x, t.session
	dgst := s.hasher.Digest()
	if confirmed := t.confirmed(res); confirmed != dgst.String() {
		if strings.HasPrefix(confirmed, digest.SHA256.String()+":") {
			x.p.cfg.Metrics.blobs.WithLabelValues("push", "", "digest_mismatch").Inc()
		}
		t.arrived(res)
		return
	}
	t.session = nil
	x.readBack(dgst)
	if !s.small.not {
		x.p.small.add(dgst, s.small.data)
	}
	x.learn(dgst, s.hasher, verify.Pushed)
}

// arrived sees to a blob that the upstream has now and that was not seen whole:
// under the digest that it confirms, and the one that was asked for.
func (t *uploadTap) arrived(res *http.Response) {
	t.x.learnAhead(t.confirmed(res))
	for _, d := range []string{t.confirmed(res), t.x.r.URL.Query().Get("digest")} {
		if dgst, err := digest.Parse(d); err == nil {
			t.x.readBack(dgst)
		}
	}
}

// confirmed returns the digest under which the upstream has the blob now, as far
// as it says so.
func (t *uploadTap) confirmed(res *http.Response) string {
	if d := res.Header.Get("Docker-Content-Digest"); d != "" {
		return d
	}
	q := t.x.r.URL.Query()
	return cmp.Or(q.Get("digest"), q.Get("mount"))
}

// learn records what a hasher learns about a proven blob, in the background.
func (x *exchange) learn(dgst digest.Digest, h *verify.Hasher, src verify.Source) {
	now := time.Now()
	again := x.aheadJob(dgst)
	x.p.ledger.observe(dgst, func() verify.Fact { return h.Sum().Learned(src, now) }, func() { x.p.ahead.add(again) })
}

// location returns the session that the upstream's answer names.
func (t *uploadTap) location(res *http.Response) (sessionKey, bool) {
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil || u.Path == "" {
		return sessionKey{}, false
	}
	return sessionKey{t.x.rt.name, path.Base(u.Path)}, true
}

// atOffset reports whether the upstream has as many bytes as we saw. "0-0" is
// what registries say for none and for one.
func atOffset(rng string, offset int64) bool {
	var start, last int64
	if _, err := fmt.Sscanf(rng, "%d-%d", &start, &last); err != nil || start != 0 {
		return false
	}
	return last == max(offset-1, 0)
}

// A tapBody is a request body whose bytes also run through a session.
type tapBody struct {
	io.ReadCloser
	want int64 // Content-Length; -1 when unknown

	mu      sync.Mutex // held over a write to the hasher, so that none is left when detach returns
	session *session   // nil once detached
	seen    int64
	eof     bool
}

func (b *tapBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.session; s != nil {
		b.seen += int64(n)
		s.offset += int64(n)
		s.small.write(p[:n])
		s.hasher.Write(p[:n])
	}
	b.eof = b.eof || err == io.EOF
	return n, err
}

// detach ends the tap and reports whether the whole body was seen. The
// transport may go on reading after the upstream answered; that is not seen.
func (b *tapBody) detach() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = nil
	if b.want >= 0 {
		return b.seen == b.want
	}
	return b.eof
}
