package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
)

// A wire is a line to a server on which every request is noted.
type wire struct {
	addr string // what to use in place of the server's
	stop func()

	mu    sync.Mutex
	notes []*note // since they were last taken
}

// A note is what a request was, and how it was answered.
type note struct {
	method, uri, agent string
	length             int64     // as announced
	header             string    // the headers that decide what is meant, in lines
	body               hash.Hash // of what was sent
	status             int
}

type noteKey struct{}

func newWire(server string) *wire {
	w := &wire{}
	line := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server})
			r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery
			for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := r.In.Header[h]; ok {
					r.Out.Header[h] = v
				}
			}
		},
		Transport:     &http.Transport{DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // clients hang up when they like
		ModifyResponse: func(res *http.Response) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			res.Request.Context().Value(noteKey{}).(*note).status = res.StatusCode
			return nil
		},
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		n := &note{method: r.Method, uri: r.URL.RequestURI(), agent: r.UserAgent(), length: r.ContentLength, header: decisive(r), body: sha256.New()}
		w.mu.Lock()
		w.notes = append(w.notes, n)
		w.mu.Unlock()
		if r.ContentLength != 0 {
			r.Body = &notedBody{r.Body, w, n}
		}
		line.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), noteKey{}, n)))
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // those who try TLS first
	srv.Start()
	w.addr, w.stop = srv.Listener.Addr().String(), srv.Close
	return w
}

// decisive are the headers of a request that decide what is meant, and how its
// body is sent. Accept-Encoding is not one: no answer may be encoded on the way.
func decisive(r *http.Request) string {
	var lines []string
	for _, name := range []string{"Accept", "Authorization", "Content-Encoding", "Content-Range", "Content-Type", "If-None-Match", "If-Range", "Range"} {
		for _, v := range r.Header.Values(name) {
			lines = append(lines, name+": "+v)
		}
	}
	for _, coding := range r.TransferEncoding {
		lines = append(lines, "Transfer-Encoding: "+coding)
	}
	return strings.Join(lines, "\n")
}

// A notedBody hashes what is read of a request.
type notedBody struct {
	io.ReadCloser
	w *wire
	n *note
}

func (b *notedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.n.body.Write(p[:n])
	return n, err
}

// take returns the notes that were not taken before.
func (w *wire) take() (notes []note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.notes {
		notes = append(notes, *n)
	}
	w.notes = nil
	return notes
}

// overlook starts to forget what is noted until the function that it returns is
// called.
func (w *wire) overlook() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.notes)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes = w.notes[:n]
	}
}

// uploadID is what differs between the uploads of two runs.
var uploadID = regexp.MustCompile(`(/blobs/uploads/)[^/?]+.*`)

// String is what one reads of a note.
func (n note) String() string {
	return fmt.Sprintf("%s %s %d", n.method, uploadID.ReplaceAllString(n.uri, "${1}ID"), n.status)
}

// whole is all that must be the same on both sides of the proxy.
func (n note) whole() string {
	return fmt.Sprintf("%s %s %d, %d bytes, sha256:%x, %s\n%s", n.method, n.uri, n.status, n.length, n.body.Sum(nil), n.agent, n.header)
}

// ownAgent is how Diffgate calls itself when it asks the registry.
const ownAgent = "diffgate"

// parity insists that the registry saw the client's requests, each as it was,
// and else only what Diffgate asked for itself, which is returned. A manifest
// that Diffgate refused, and a question that it answered, it did not pass on.
func parity(t failer, sent, arrived []note) (own []note) {
	var want, got []string
	for _, n := range sent {
		if !n.answeredHere() {
			want = append(want, n.whole())
		}
	}
	for _, n := range arrived {
		if n.agent == ownAgent {
			own = append(own, n)
		} else {
			got = append(got, n.whole())
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the registry saw other requests than the client sent (-client +registry):\n%s", diff)
	}
	return own
}

var (
	manifestURI = regexp.MustCompile(`/manifests/[^/]+$`)
	diffIDsURI  = regexp.MustCompile(`/_diffids(/|\?|$)`)
)

func (n note) answeredHere() bool {
	refused := n.status == http.StatusBadRequest || n.status == http.StatusForbidden
	return n.method == http.MethodPut && manifestURI.MatchString(n.uri) && refused || diffIDsURI.MatchString(n.uri)
}
