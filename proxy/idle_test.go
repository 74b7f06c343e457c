package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/proxy"
	"diffgate/verify/index"
)

// A pipeListener accepts connections that are made in memory, so that the
// hours of these tests pass at once.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// roundTrip is an upstream that is a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// respond returns an answer of an upstream.
func respond(r *http.Request, status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, TransferEncoding: []string{"chunked"}, Body: io.NopCloser(body), ContentLength: -1, Request: r}
}

// inBubble runs a test in which time passes when all wait, with one connection
// to a Proxy in front of the upstream.
func inBubble(t *testing.T, upstream roundTrip, test func(t *testing.T, c net.Conn)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := proxy.New(proxy.Config{
			Upstream: &url.URL{Scheme: "http", Host: "upstream"}, Index: index.NewMemory(), Transport: upstream, Mode: proxy.Off,
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := &http.Server{Handler: p}
		served := make(chan error)
		go func() { served <- s.Serve(l) }()
		there, here := net.Pipe()
		l.conns <- there
		test(t, here)
		here.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		p.Close()
	})
}

// readAll is an upstream that reads the body, thinks for a while and says yes.
func readAll(think time.Duration) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(think):
			return respond(r, http.StatusOK, strings.NewReader("")), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

const patchTen = "PATCH /v2/a/blobs/uploads/u HTTP/1.1\r\nHost: r\r\nContent-Length: 10\r\n\r\n"

// write sends bytes and fails the test when it cannot.
func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// wantStatus reads an answer.
func wantStatus(t *testing.T, c net.Conn, want int) {
	t.Helper()
	a, err := readRaw(bufio.NewReader(c), "")
	if err != nil || a.Status != want {
		t.Fatalf("got %d %s, %v; want %d", a.Status, a.Body, err, want)
	}
}

// A client that stops in the middle of a body is cut after five minutes.
func TestStalledUpload(t *testing.T) {
	inBubble(t, readAll(0), func(t *testing.T, c net.Conn) {
		began := time.Now()
		write(t, c, patchTen+"12345")
		wantStatus(t, c, http.StatusRequestTimeout)
		if took := time.Since(began); took != 5*time.Minute {
			t.Errorf("the client was cut after %v, want 5 minutes", took)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is not closed: %v", err)
		}
	})
}

// A client that is slow, but goes on, is waited for.
func TestSlowUpload(t *testing.T) {
	inBubble(t, readAll(0), func(t *testing.T, c net.Conn) {
		write(t, c, patchTen)
		for range 10 {
			time.Sleep(4 * time.Minute)
			write(t, c, "x")
		}
		wantStatus(t, c, http.StatusOK)
	})
}

// The client need not do anything while the upstream digests what it got.
func TestSlowUpstream(t *testing.T) {
	for _, request := range []string{
		patchTen + "1234567890",
		rawRequest(http.MethodPatch, "/v2/a/blobs/uploads/u", "Transfer-Encoding: chunked", "\r\n1\r\nx\r\n0\r\n\r\n"),
		rawRequest(http.MethodPut, "/v2/a/manifests/t", "Content-Length: 2", "\r\n{}"),
		rawRequest(http.MethodGet, "/v2/"),
	} {
		name, _, _ := strings.Cut(request, " HTTP")
		t.Run(name, func(t *testing.T) {
			inBubble(t, readAll(14*time.Minute), func(t *testing.T, c net.Conn) {
				write(t, c, request)
				wantStatus(t, c, http.StatusOK)
			})
		})
	}
}

// A client may take five minutes for each piece of an answer, counted from
// when it comes; what the upstream takes is not put down to the client.
func TestSlowDownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pieces := []string{"one", "two", "three"}
		upstream := func(r *http.Request) (*http.Response, error) {
			body, w := io.Pipe()
			go func() {
				for _, piece := range pieces {
					time.Sleep(time.Hour)
					_, _ = io.WriteString(w, piece)
				}
				w.Close()
			}()
			return respond(r, http.StatusOK, body), nil
		}
		p, err := proxy.New(proxy.Config{
			Upstream: &url.URL{Scheme: "http", Host: "upstream"}, Index: index.NewMemory(), Transport: roundTrip(upstream),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/a/manifests/t", nil))
		want := []string{"5m0s for one", "5m0s for two", "5m0s for three"}
		if diff := cmp.Diff(want, w.writes); diff != "" {
			t.Errorf("time for each write (-want +got)\n%s", diff)
		}
		if !w.deadline.IsZero() {
			t.Errorf("the connection is left with the deadline %v", w.deadline)
		}
	})
}

// A deadlineWriter remembers how long each write might have taken.
type deadlineWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
	writes   []string
}

func (w *deadlineWriter) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	w.writes = append(w.writes, fmt.Sprintf("%v for %s", time.Until(w.deadline), p))
	return w.ResponseRecorder.Write(p)
}

// A client that was answered before it sent its body, and sends nothing more,
// does not hold its connection for ever.
func TestStalledRest(t *testing.T) {
	unauthorized := func(r *http.Request) (*http.Response, error) {
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
			return nil, err
		}
		return respond(r, http.StatusUnauthorized, strings.NewReader("")), nil
	}
	tests := []struct {
		name, input string
		status      int
	}{
		{"refused by the upstream", patchTen + "1", http.StatusUnauthorized},
		{"refused by the upstream, in chunks", rawRequest("PATCH", "/v2/a/blobs/uploads/u", "Transfer-Encoding: chunked", "\r\n5\r\nx"), http.StatusUnauthorized},
		{"refused by us", rawRequest("PUT", "/v2/a%2Fb/manifests/t", "Content-Length: 10", "\r\n1"), http.StatusBadRequest},
		{"refused by us, in chunks", rawRequest("PUT", "/v2/a%2Fb/manifests/t", "Transfer-Encoding: chunked", "\r\n5\r\nx"), http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, unauthorized, func(t *testing.T, c net.Conn) {
				began := time.Now()
				write(t, c, tt.input)
				wantStatus(t, c, tt.status)
				if took := time.Since(began); took != 0 {
					t.Errorf("the answer took %v", took)
				}
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("got %v, want a closed connection", err)
				}
				if took := time.Since(began); took > 6*time.Minute {
					t.Errorf("the connection was closed after %v", took)
				}
			})
		})
	}
}
