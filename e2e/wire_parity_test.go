package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the proxy changes, adds or leaves out between the two wires is found.
func TestParity(t *testing.T) {
	t.Parallel()
	put := func(body string) note {
		n := note{method: http.MethodPut, uri: "/v2/a/blobs/uploads/1?digest=d", agent: "client", length: int64(len(body)), header: "Content-Type: a", body: sha256.New(), status: 201}
		n.body.Write([]byte(body))
		return n
	}
	with := func(n note, change func(*note)) note {
		change(&n)
		return n
	}
	manifest := func(status int) note {
		return with(put("manifest"), func(n *note) { n.uri, n.status = "/v2/a/manifests/1", status })
	}
	own := with(put(""), func(n *note) { n.method, n.uri, n.agent = http.MethodGet, "/v2/a/blobs/d", ownAgent })
	for _, row := range []struct {
		says          string
		sent, arrived []note
		own           int
		fails         bool
	}{
		{"nothing", nil, nil, 0, false},
		{"the same, in another order", []note{put("one"), put("two")}, []note{put("two"), put("one")}, 0, false},
		{"what Diffgate asks is told apart", []note{put("one")}, []note{put("one"), own}, 1, false},
		{"a refused manifest does not arrive", []note{manifest(400), manifest(403)}, nil, 0, false},
		{"a refused manifest that arrives", []note{manifest(400)}, []note{manifest(201)}, 0, true},
		{"an accepted manifest that does not", []note{manifest(201)}, nil, 0, true},
		{"one request twice", []note{put("one")}, []note{put("one"), put("one")}, 0, true},
		{"other bytes", []note{put("one")}, []note{put("eno")}, 0, true},
		{"no Content-Length", []note{put("one")}, []note{with(put("one"), func(n *note) { n.length = -1 })}, 0, true},
		{"another query", []note{put("one")}, []note{with(put("one"), func(n *note) { n.uri = "/v2/a/blobs/uploads/1" })}, 0, true},
		{"another answer", []note{put("one")}, []note{with(put("one"), func(n *note) { n.status = 202 })}, 0, true},
		{"another User-Agent", []note{put("one")}, []note{with(put("one"), func(n *note) { n.agent = "proxy" })}, 0, true},
		{"another Content-Type", []note{put("one")}, []note{with(put("one"), func(n *note) { n.header = "Content-Type: b" })}, 0, true},
		{"one header more", []note{put("one")}, []note{with(put("one"), func(n *note) { n.header += "\nRange: bytes=0-1" })}, 0, true},
	} {
		t.Run(row.says, func(t *testing.T) {
			var failed failure
			if got := len(parity(&failed, row.sent, row.arrived)); got != row.own {
				t.Errorf("%d requests of its own, want %d", got, row.own)
			}
			if (failed != "") != row.fails {
				t.Errorf("it says %q, want a complaint: %t", failed, row.fails)
			}
		})
	}
}

// A failure is a failer that keeps what it is told.
type failure string

func (f *failure) Fatalf(format string, args ...any) { *f = failure(fmt.Sprintf(format, args...)) }

// A wire notes what passes, and passes it as it is.
func TestWire(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Host-Was", r.Host)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	w := newWire(srv.Listener.Addr().String())
	defer w.stop()
	req, err := http.NewRequest(http.MethodPost, "http://"+w.addr+"/v2/a/blobs/uploads/uuid?_state=x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Accept": {"a, b", "c"}, "Authorization": {"Basic x"}, "Content-Range": {"0-3"}, "Cookie": {"d=e"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Host-Was"); got != w.addr {
		t.Errorf("the server was called %s, want %s", got, w.addr)
	}
	notes := w.take()
	if len(notes) != 1 {
		t.Fatalf("%d notes, want 1", len(notes))
	}
	if diff := cmp.Diff("POST /v2/a/blobs/uploads/ID 202", notes[0].String()); diff != "" {
		t.Errorf("note (-want +got):\n%s", diff)
	}
	if sum := sha256.Sum256([]byte("body")); !strings.Contains(notes[0].whole(), fmt.Sprintf("4 bytes, sha256:%x", sum)) {
		t.Errorf("note has not the body: %s", notes[0].whole())
	}
	if diff := cmp.Diff("Accept: a, b\nAccept: c\nAuthorization: Basic x\nContent-Range: 0-3", notes[0].header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if again := w.take(); again != nil {
		t.Errorf("taken twice: %v", again)
	}
}
