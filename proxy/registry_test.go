package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// newRegistry starts distribution's registry, v3, with its content in memory.
func newRegistry(t testing.TB) *httptest.Server {
	t.Helper()
	return newUpstream(t, newRegistryHandler(t, nil))
}

// newRegistryHandler returns distribution's registry; edit, if not nil, changes
// its settings.
func newRegistryHandler(t testing.TB, edit func(*configuration.Configuration)) http.Handler {
	t.Helper()
	cfg := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"delete":      configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	cfg.HTTP.Secret = "test-secret"
	cfg.Catalog.MaxEntries = 1000
	if edit != nil {
		edit(cfg)
	}
	app := handlers.NewApp(context.Background(), cfg)
	t.Cleanup(func() {
		if err := app.Shutdown(); err != nil {
			t.Errorf("shut registry down: %v", err)
		}
	})
	return app
}

// newUpstream starts a server that is closed when the test ends.
func newUpstream(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that tests break
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// A testProxy is a Proxy that serves on a port of its own.
type testProxy struct {
	URL     string
	Index   *index.Memory
	Proxy   *proxy.Proxy
	Logs    *observer.ObservedLogs
	Metrics *prometheus.Registry
}

// newProxy starts a Proxy in front of an upstream; edit, if not nil, changes
// its Config. Everything is closed when the test ends.
func newProxy(t testing.TB, upstreamURL string, edit func(*proxy.Config)) *testProxy {
	t.Helper()
	upstream, err := url.Parse(upstreamURL)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	p := &testProxy{Index: index.NewMemory(), Logs: logs, Metrics: prometheus.NewRegistry()}
	cfg := proxy.Config{Upstream: upstream, Index: p.Index, Log: zap.New(core), Metrics: proxy.NewMetrics(p.Metrics), Ahead: -1}
	transport, err := proxy.NewTransport(proxy.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Transport = transport
	if edit != nil {
		edit(&cfg)
	}
	if p.Proxy, err = proxy.New(cfg); err != nil {
		t.Fatal(err)
	}
	s := newUpstream(t, p.Proxy)
	p.URL = s.URL
	t.Cleanup(func() {
		s.Close()
		p.Proxy.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// fact waits until the DiffID index knows a blob, and returns the fact with a
// zero LearnedAt, to be compared with [factAbout].
func (p *testProxy) fact(t testing.TB, dgst digest.Digest) verify.Fact {
	t.Helper()
	var f verify.Fact
	eventually(t, func() bool {
		var err error
		f, err = p.Index.Get(context.Background(), dgst)
		return err == nil
	})
	f.LearnedAt = time.Time{}
	return f
}

// factAbout returns what package verify says about a blob.
func factAbout(t testing.TB, blob []byte, source verify.Source) verify.Fact {
	t.Helper()
	f, err := verify.Hash(bytes.NewReader(blob), verify.Limits{}, source, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// facts returns the digests that the DiffID index knows, after all that is
// under way was recorded. The proxy can learn nothing afterwards.
func (p *testProxy) facts(t testing.TB) []digest.Digest {
	t.Helper()
	p.Proxy.Close()
	all, err := p.Index.List(context.Background(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var known []digest.Digest
	for _, f := range all {
		known = append(known, f.Digest)
	}
	return known
}

// metric returns the sum of a counter or gauge over all its labels that are
// not in want; want holds names and values in turn.
func (p *testProxy) metric(t testing.TB, name string, want ...string) float64 {
	t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			matches := true
			for kv := range slices.Chunk(want, 2) {
				matches = matches && labels[kv[0]] == kv[1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A requestLog passes requests on and remembers them.
type requestLog struct {
	next http.Handler

	mu      sync.Mutex // guards the rest
	lines   []string
	headers []string // of each line
}

// recordRequests returns a handler that records what next is asked.
func recordRequests(next http.Handler) *requestLog { return &requestLog{next: next} }

// ServeHTTP implements http.Handler.
func (l *requestLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf("%s %s len=%d", r.Method, r.RequestURI, r.ContentLength))
	l.headers = append(l.headers, decisive(r))
	l.mu.Unlock()
	l.next.ServeHTTP(w, r)
}

// decisive are the headers of a request that decide what is meant, and how its
// body is sent.
func decisive(r *http.Request) string {
	var all strings.Builder
	for _, name := range []string{"Accept", "Authorization", "Content-Encoding", "Content-Range", "Content-Type", "If-None-Match", "If-Range", "Range"} {
		for _, v := range r.Header.Values(name) {
			fmt.Fprintf(&all, "; %s: %s", name, v)
		}
	}
	for _, coding := range r.TransferEncoding {
		fmt.Fprintf(&all, "; Transfer-Encoding: %s", coding)
	}
	return all.String()
}

// take returns the requests since the last call, each as
// "METHOD path?query len=N", where a body of unknown length has len=-1.
func (l *requestLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines, l.headers = nil, nil
	return lines
}

// takeWhole is take with the headers.
func (l *requestLog) takeWhole() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	for i, h := range l.headers {
		lines[i] += h
	}
	l.lines, l.headers = nil, nil
	return lines
}

// An answer is a response that was read to its end.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// codes returns the codes of the OCI errors in the answer.
func (a answer) codes() string {
	var body struct{ Errors []struct{ Code string } }
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return ""
	}
	var codes []string
	for _, e := range body.Errors {
		codes = append(codes, e.Code)
	}
	return strings.Join(codes, ",")
}

// newRequest returns a request with headers given as names and values in turn.
func newRequest(t testing.TB, method, target string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	for kv := range slices.Chunk(header, 2) {
		req.Header.Add(kv[0], kv[1])
	}
	return req
}

// send sends a request and reads the whole answer.
func send(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %d bytes of the answer", req.Method, req.URL, err, len(body))
	}
	return answer{res.StatusCode, res.Header, body}
}

// do sends a request with a body, which may be nil, and headers given as names
// and values in turn.
func do(t testing.TB, method, target string, body []byte, header ...string) answer {
	t.Helper()
	return send(t, newRequest(t, method, target, bytes.NewReader(body), header...))
}

// startUpload opens an upload session and returns its URL.
func startUpload(t testing.TB, base, repo string) string {
	t.Helper()
	a := do(t, http.MethodPost, base+"/v2/"+repo+"/blobs/uploads/", nil)
	if a.Status != http.StatusAccepted {
		t.Fatalf("POST uploads: got %d %s, want 202", a.Status, a.Body)
	}
	return a.location(t, base)
}

// location returns where the answer points to.
func (a answer) location(t testing.TB, base string) string {
	t.Helper()
	from, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	to, err := from.Parse(a.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return to.String()
}

// withDigest returns an upload's URL with the digest that ends the upload.
func withDigest(location string, dgst digest.Digest) string {
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=" + url.QueryEscape(dgst.String())
}

// pushBlob pushes a blob with POST and PUT, and returns its digest.
func pushBlob(t testing.TB, base, repo string, data []byte) digest.Digest {
	t.Helper()
	dgst := digest.FromBytes(data)
	a := do(t, http.MethodPut, withDigest(startUpload(t, base, repo), dgst), data, "Content-Type", "application/octet-stream")
	if a.Status != http.StatusCreated {
		t.Fatalf("PUT %s: got %d %s, want 201", dgst, a.Status, a.Body)
	}
	return dgst
}

// putManifest pushes a manifest and returns the answer, whatever it is.
func putManifest(t testing.TB, base, repo, reference, mediaType string, body []byte) answer {
	t.Helper()
	return do(t, http.MethodPut, base+"/v2/"+repo+"/manifests/"+reference, body, "Content-Type", mediaType)
}

// pushImage pushes the blobs of an image and its manifest, and returns the
// answer to the latter, whatever it is.
func pushImage(t testing.TB, base, repo, tag string, img verifytest.Image) answer {
	t.Helper()
	for _, l := range img.Layers {
		pushBlob(t, base, repo, l.Blob)
	}
	pushBlob(t, base, repo, img.Config())
	mediaType, body := img.Manifest()
	return putManifest(t, base, repo, tag, mediaType, body)
}
