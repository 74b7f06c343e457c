package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"diffgate/proxy"
	"diffgate/proxy/admin"
	"diffgate/verify/index"
)

// get asks a handler.
func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A process that serves is live, whatever else is wrong with it.
func TestLive(t *testing.T) {
	t.Parallel()
	h := admin.New(admin.Config{
		Metrics: prometheus.NewRegistry(),
		Checks:  map[string]admin.Check{"upstream": func(context.Context) error { return errors.New("gone") }},
	})
	w := get(h, "/livez")
	if w.Code != http.StatusOK || w.Body.String() != "{}\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q, Cache-Control %q; want 200 {} no-store", w.Code, w.Body, w.Header().Get("Cache-Control"))
	}
}

// It is ready when all checks pass; the answer names each.
func TestReady(t *testing.T) {
	t.Parallel()
	var upstream, store error
	h := admin.New(admin.Config{
		Metrics: prometheus.NewRegistry(),
		Checks: map[string]admin.Check{
			"upstream": func(context.Context) error { return upstream },
			"index":    func(context.Context) error { return store },
		},
	})
	for _, tt := range []struct {
		is              string
		upstream, store error
		status          int
		want            string
	}{
		{"all is well", nil, nil, 200, `{"index":"ok","upstream":"ok"}`},
		{"the upstream is gone", errors.New("it is gone"), nil, 503, `{"index":"ok","upstream":"it is gone"}`},
		{"the DiffID index is full", nil, errors.New("no space"), 503, `{"index":"no space","upstream":"ok"}`},
		{"both", errors.New("it is gone"), errors.New("no space"), 503, `{"index":"no space","upstream":"it is gone"}`},
		{"all is well again", nil, nil, 200, `{"index":"ok","upstream":"ok"}`},
	} {
		upstream, store = tt.upstream, tt.store
		w := get(h, "/readyz")
		if w.Code != tt.status || w.Body.String() != tt.want+"\n" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s, want %d %s", tt.is, w.Code, w.Body, tt.status, tt.want)
		}
	}
	if w := get(admin.New(admin.Config{Metrics: prometheus.NewRegistry()}), "/readyz"); w.Code != http.StatusOK {
		t.Errorf("without checks: got %d, want 200", w.Code)
	}
}

// A detail is shown beside the checks and does not count.
func TestReadyDetail(t *testing.T) {
	t.Parallel()
	h := admin.New(admin.Config{
		Metrics: prometheus.NewRegistry(),
		Checks:  map[string]admin.Check{"index": func(context.Context) error { return nil }},
		Details: map[string]func(context.Context) string{"blobs": func(context.Context) string { return "bad" }},
	})
	if w := get(h, "/readyz"); w.Code != http.StatusOK || w.Body.String() != `{"blobs":"bad","index":"ok"}`+"\n" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// A check that hangs is one that fails, after five seconds, and it fails alone.
func TestReadyInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := admin.New(admin.Config{
			Metrics: prometheus.NewRegistry(),
			Checks: map[string]admin.Check{
				"upstream": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
				"index":    func(ctx context.Context) error { return ctx.Err() },
			},
		})
		const want = `{"index":"ok","upstream":"context deadline exceeded"}` + "\n"
		began := time.Now()
		w := get(h, "/readyz")
		if waited := time.Since(began); w.Code != http.StatusServiceUnavailable || w.Body.String() != want || waited != 5*time.Second {
			t.Errorf("got %d %s after %s, want 503 %s after 5s", w.Code, w.Body, waited, want)
		}
	})
}

// A closable is a DiffID index that can be taken away and given back.
type closable struct {
	*index.Memory
	gone atomic.Bool
}

func (c *closable) Ready(ctx context.Context) error {
	if c.gone.Load() {
		return index.ErrClosed
	}
	return c.Memory.Ready(ctx)
}

// The readiness of a proxy follows its upstream and its DiffID index, and
// comes back by itself.
func TestReadinessOfAProxy(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" || r.Header.Get("Authorization") != "" {
			t.Errorf("the upstream was asked for %s as %q", r.URL, r.Header.Get("Authorization"))
		}
		if status.Load() == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer upstream.Close()
	base, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	store := &closable{Memory: index.NewMemory()}
	p, err := proxy.New(proxy.Config{Upstream: base, Index: store})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h := admin.New(admin.Config{
		Metrics: prometheus.NewRegistry(),
		Checks:  map[string]admin.Check{"upstream": p.Ready, "index": store.Ready},
	})
	for _, tt := range []struct {
		is              string
		upstream        int64
		gone            bool
		status          int
		upstreamIs, idx string // begins of what is said
	}{
		{"all is well", 200, false, 200, "ok", "ok"},
		{"the upstream wants a password", 401, false, 200, "ok", "ok"},
		{"the upstream forbids it", 403, false, 200, "ok", "ok"},
		{"the upstream fails", 500, false, 503, "the upstream registry answered 500 Internal Server Error to /v2/", "ok"},
		{"the upstream is no registry", 404, false, 503, "the upstream registry answered 404 Not Found to /v2/", "ok"},
		{"the upstream is gone", 0, false, 503, "the upstream registry cannot be reached: ", "ok"},
		{"the DiffID index is gone, too", 0, true, 503, "the upstream registry cannot be reached: ", "DiffID index is closed"},
		{"the upstream is back", 200, true, 503, "ok", "DiffID index is closed"},
		{"all is well again", 200, false, 200, "ok", "ok"},
	} {
		status.Store(tt.upstream)
		store.gone.Store(tt.gone)
		w := get(h, "/readyz")
		var said struct{ Upstream, Index string }
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
			t.Fatal(err)
		}
		if w.Code != tt.status || !strings.HasPrefix(said.Upstream, tt.upstreamIs) || said.Index != tt.idx {
			t.Errorf("%s: got %d %s, want %d", tt.is, w.Code, w.Body, tt.status)
		}
	}
}

// Metrics and profiles are served here, in the formats that their tools read.
func TestMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	proxy.NewMetrics(metrics)
	h := admin.New(admin.Config{Metrics: metrics, Profiles: true})
	for _, tt := range []struct {
		path, accept, contentType, holds string
	}{
		{"/metrics", "", "text/plain", "# TYPE diffid_index_conflicts_total counter\ndiffid_index_conflicts_total 0\n"},
		{"/metrics", "application/openmetrics-text", "application/openmetrics-text", "# EOF\n"},
		{"/debug/pprof/", "", "text/html", "goroutine"},
		{"/debug/pprof/goroutine?debug=1", "", "text/plain", "goroutine profile: total"},
		{"/debug/pprof/heap?debug=1", "", "text/plain", "heap profile"},
		{"/debug/pprof/cmdline", "", "text/plain", "admin"},
		{"/debug/pprof/symbol", "", "text/plain", "num_symbols"},
	} {
		w := get(h, tt.path, "Accept", tt.accept)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), tt.contentType) || !strings.Contains(w.Body.String(), tt.holds) {
			t.Errorf("%s: got %d %s, want %s with %q", tt.path, w.Code, w.Header().Get("Content-Type"), tt.contentType, tt.holds)
		}
	}
	for _, path := range []string{"/", "/v2/", "/livez/x", "/readyz/"} {
		if w := get(h, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile", "/debug/pprof/symbol", "/debug/pprof/trace"} {
		if w := get(admin.New(admin.Config{Metrics: metrics}), path); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d without the switch, want 404", path, w.Code)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: got %d, want 405", path, w.Code)
		}
	}
}

// On the port of the clients there is none of this: such paths go to the
// upstream, which does not know them.
func TestNothingForClients(t *testing.T) {
	t.Parallel()
	var asked []string
	p, err := proxy.New(proxy.Config{
		Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Index: index.NewMemory(),
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Path)
			return &http.Response{StatusCode: http.StatusNotFound, Body: io.NopCloser(strings.NewReader("not here")), Request: r}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	paths := []string{"/metrics", "/livez", "/readyz", "/debug/pprof/", "/debug/pprof/heap"}
	for _, path := range paths {
		if w := get(p, path); w.Code != http.StatusNotFound || w.Body.String() != "not here" {
			t.Errorf("%s: got %d %q, want the upstream's 404", path, w.Code, w.Body)
		}
	}
	if diff := cmp.Diff(paths, asked); diff != "" {
		t.Errorf("requests at the upstream (-want +got):\n%s", diff)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The handler of an operator's port, made of a Proxy's own checks.
func ExampleNew() {
	metrics := prometheus.NewRegistry()
	facts := index.NewMemory()
	h := admin.New(admin.Config{
		Metrics: metrics,
		Checks:  map[string]admin.Check{"index": facts.Ready},
	})
	w := get(h, "/readyz")
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"index":"ok"}
}
