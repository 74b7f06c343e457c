package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
)

// A discarder is a registry that takes every upload and keeps no byte of it.
type discarder struct {
	// answer, if not nil, changes the answer to a PUT; its body was read.
	answer func(h http.Header, status *int)
	taken  atomic.Int64 // bytes

	mu      sync.Mutex // guards the rest
	offsets map[string]int64
}

// Write implements io.Writer.
func (d *discarder) Write(p []byte) (int, error) {
	d.taken.Add(int64(len(p)))
	return len(p), nil
}

// ServeHTTP implements http.Handler.
func (d *discarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(d, r.Body)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.offsets == nil {
		d.offsets = map[string]int64{}
	}
	id := path.Base(r.URL.Path)
	h, status := w.Header(), http.StatusAccepted
	switch r.Method {
	case http.MethodPost:
		id = fmt.Sprintf("upload-%d", len(d.offsets))
		d.offsets[id] = 0
		h.Set("Location", path.Join(r.URL.Path, id))
		h.Set("Range", "0-0")
	case http.MethodPatch:
		d.offsets[id] += n
		h.Set("Location", r.URL.Path)
		h.Set("Range", fmt.Sprintf("0-%d", d.offsets[id]-1))
	case http.MethodPut:
		status = http.StatusCreated
		h.Set("Docker-Content-Digest", r.URL.Query().Get("digest"))
		if d.answer != nil {
			d.answer(h, &status)
		}
	}
	w.WriteHeader(status)
}

// through makes a handler an upstream without a network.
func through(h http.Handler) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body == nil {
			r.Body = http.NoBody
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		res := w.Result()
		res.Request = r
		return res, nil
	}
}

// repeated returns n bytes that gzip makes small.
func repeated(n int) []byte { return []byte(strings.Repeat("diffgate", n/8)) }
