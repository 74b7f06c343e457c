// Package scantest is a registry with wrong images among right ones, for tests of
// what finds them.
package scantest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"

	"diffgate/verify/verifytest"
)

// A Registry is distribution's, with its content in memory and a watcher in
// front. It is safe for concurrent use.
type Registry struct {
	Host string // and port

	mu     sync.Mutex
	layers map[digest.Digest]bool // blobs that are layers
	reads  map[digest.Digest]int  // of layers, complete ones
	bad    map[digest.Digest]bool // blobs of which other bytes are given out
	broken map[string]*breach     // repositories
	onRead func(reads int)
}

// Start starts an empty registry that ends with the test.
func Start(t testing.TB) *Registry {
	t.Helper()
	cfg := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"delete":      configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	cfg.HTTP.Secret = "test-secret"
	cfg.Catalog.MaxEntries = 64 // so that the catalog has pages
	app := handlers.NewApp(context.Background(), cfg)
	r := &Registry{layers: map[digest.Digest]bool{}, reads: map[digest.Digest]int{}, bad: map[digest.Digest]bool{}, broken: map[string]*breach{}}
	s := httptest.NewUnstartedServer(r.watch(app))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of programs that are killed
	s.Start()
	r.Host = s.Listener.Addr().String()
	t.Cleanup(func() {
		s.Close()
		if err := app.Shutdown(); err != nil {
			t.Errorf("shut registry down: %v", err)
		}
	})
	return r
}

func (r *Registry) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/tags/list")
		last := digest.Digest(path.Base(req.URL.Path))
		get := req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/")
		r.mu.Lock()
		broken, status := r.broken[name].next(), &statusWriter{ResponseWriter: w, code: http.StatusOK}
		bad, layer := r.bad[last] && get, r.layers[last] && get
		r.mu.Unlock()
		w = status
		switch {
		case broken > 0:
			http.Error(w, "out of order", broken)
		case broken < 0:
			w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?last=t&n=1>; rel="next"`, name))
			fmt.Fprint(w, `{"tags":["1"]}`)
		case bad:
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, req)
			body := rec.Body.Bytes()
			body[len(body)-1] ^= 1
			w.Write(body)
		default:
			next.ServeHTTP(w, req)
		}
		if layer && status.code == http.StatusOK {
			r.count(last)
		}
	})
}

// A statusWriter keeps the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

func (r *Registry) count(d digest.Digest) {
	r.mu.Lock()
	r.reads[d]++
	total := 0
	for _, n := range r.reads {
		total += n
	}
	onRead := r.onRead
	r.mu.Unlock()
	if onRead != nil {
		onRead(total)
	}
}

// Reads returns how often each layer was read since the last call.
func (r *Registry) Reads() map[digest.Digest]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.reads
	r.reads = map[digest.Digest]int{}
	return was
}

// OnRead has f called after each layer that is read with how many were, nil for
// nothing.
func (r *Registry) OnRead(f func(reads int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onRead = f
}

// Break has the registry answer for the tags of a repository with a status, after
// so many pages of one tag.
func (r *Registry) Break(repository string, status, pages int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[repository] = &breach{status, pages}
}

// A breach is what is wrong with a repository.
type breach struct{ status, pages int }

// next returns the status to answer with; 0 for whatever the registry says, -1
// for a page. It is for one goroutine at a time.
func (b *breach) next() int {
	switch {
	case b == nil:
		return 0
	case b.pages == 0:
		return b.status
	}
	b.pages--
	return -1
}

// Push stores an image, whether it is true or not.
func (r *Registry) Push(t testing.TB, repository, tag string, img verifytest.Image) {
	t.Helper()
	r.mu.Lock()
	for _, l := range img.Layers {
		r.layers[l.Digest()] = true
	}
	r.mu.Unlock()
	for dgst, blob := range img.Blobs() {
		res := r.do(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
		at := res.Header.Get("Location")
		r.do(t, http.MethodPut, at+"&digest="+dgst.String(), "application/octet-stream", blob, http.StatusCreated)
	}
	mediaType, body := img.Manifest()
	r.PushManifest(t, repository, tag, mediaType, body)
}

// PushManifest stores a manifest alone.
func (r *Registry) PushManifest(t testing.TB, repository, reference, mediaType string, body []byte) {
	t.Helper()
	r.do(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, mediaType, body, http.StatusCreated)
}

// Lose deletes a blob that a manifest names.
func (r *Registry) Lose(t testing.TB, repository string, dgst digest.Digest) {
	t.Helper()
	r.do(t, http.MethodDelete, "/v2/"+repository+"/blobs/"+dgst.String(), "", nil, http.StatusAccepted)
}

// Rot has other bytes given out of a blob.
func (r *Registry) Rot(dgst digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad[dgst] = true
}

func (r *Registry) do(t testing.TB, method, at, contentType string, body []byte, want int) *http.Response {
	t.Helper()
	if strings.HasPrefix(at, "/") {
		at = "http://" + r.Host + at
	}
	req, err := http.NewRequest(method, at, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("%s %s: %s %s", method, at, res.Status, text)
	}
	return res
}
