package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"diffgate/proxy"
	"diffgate/verify/verifytest"
)

// What is counted of a push of two layers, of a lie about them, and of a pull.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(2)
	pushImage(t, p.URL, "app", "1.4", img)
	lie := verifytest.Swapped(img)
	pushBlob(t, p.URL, "app", lie.Config())
	pushManifest(t, p.URL, lie)
	pulled := verifytest.ZstdLayer(verifytest.Tar("etc/motd", "hello\n"))
	get(t, p.URL+"/v2/app/blobs/"+pushBlob(t, reg.URL, "app", pulled.Blob).String())
	p.fact(t, pulled.Digest())
	p.facts(t) // all is recorded
	stored := float64(len(img.Layers[0].Blob) + len(img.Layers[1].Blob) + len(img.Config()) + len(lie.Config()))
	for _, tt := range []struct {
		metric string
		labels []string
		want   float64
	}{
		{"diffid_http_requests_total", nil, 11},
		{"diffid_http_requests_total", []string{"route", "blob-upload", "method", "POST", "code", "202"}, 4},
		{"diffid_http_requests_total", []string{"route", "blob-upload-chunk", "method", "PUT", "code", "201"}, 4},
		{"diffid_http_requests_total", []string{"route", "manifest", "method", "PUT", "code", "201"}, 1},
		{"diffid_http_requests_total", []string{"route", "manifest", "method", "PUT", "code", "400"}, 1},
		{"diffid_http_requests_total", []string{"route", "blob", "method", "GET", "code", "200"}, 1},
		{"diffid_http_requests_in_flight", nil, 0},
		{"diffid_manifests_checked_total", []string{"verdict", "match", "mode", "enforce"}, 1},
		{"diffid_manifests_checked_total", []string{"verdict", "mismatch", "mode", "enforce"}, 1},
		{"diffid_manifests_rejected_total", []string{"reason", "diff_id_mismatch"}, 2}, // a ground for each layer
		{"diffid_blobs_hashed_total", []string{"direction", "push", "encoding", "gzip", "result", "indexed"}, 2},
		{"diffid_blobs_hashed_total", []string{"direction", "push", "encoding", "identity", "result", "indexed"}, 2},
		{"diffid_blobs_hashed_total", []string{"direction", "pull", "encoding", "zstd", "result", "indexed"}, 1},
		{"diffid_blob_bytes_total", []string{"direction", "push", "kind", "stored"}, stored},
		{"diffid_blob_bytes_total", []string{"direction", "pull", "kind", "unpacked"}, 2048},
		{"diffid_index_conflicts_total", nil, 0},
		{"diffid_index_write_errors_total", nil, 0},
		{"diffid_wrong_blobs_total", nil, 0},
	} {
		if got := p.metric(t, tt.metric, tt.labels...); got != tt.want {
			t.Errorf("%s%q: got %v, want %v", tt.metric, tt.labels, got, tt.want)
		}
	}
	for name, want := range map[string]uint64{
		"diffid_http_request_duration_seconds":     11,
		"diffid_upstream_request_duration_seconds": 10, // the lie went no further
		"diffid_index_commit_seconds":              5,
	} {
		if got := samples(p.gather(t), name); got != want {
			t.Errorf("%s: got %d samples, want %d", name, got, want)
		}
	}
}

// gather returns all metrics.
func (p *testProxy) gather(t testing.TB) []*dto.MetricFamily {
	t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// samples returns how often a histogram was fed, over all labels.
func samples(families []*dto.MetricFamily, name string) (n uint64) {
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}

// labelValues returns every value of every label, and the number of series.
func labelValues(families []*dto.MetricFamily) (values []string, series int) {
	for _, f := range families {
		series += len(f.GetMetric())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
		}
	}
	slices.Sort(values)
	return slices.Compact(values), series
}

// What clients choose is in no label: a hundred repositories, tags, methods
// and agents cost as many series as one.
func TestSeriesAreFew(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	visit := func(i int) {
		repo, tag := fmt.Sprintf("canary-repo-%d", i), fmt.Sprintf("canary-tag-%d", i)
		pushImage(t, p.URL, repo, tag, img)
		mediaType, body := verifytest.WrongDigit(img).Manifest()
		putManifest(t, p.URL, repo, tag, mediaType, body) // whose config is missing
		get(t, p.URL+"/v2/"+repo+"/manifests/"+tag, "User-Agent", fmt.Sprint("canary-agent-", i))
		get(t, p.URL+"/v2/"+repo+"/_diffids/manifests/"+tag)
		get(t, p.URL+"/v2/"+repo+"/blobs/"+img.Layers[0].Digest().String())
		get(t, p.URL+"/canary-path-"+tag)
		do(t, fmt.Sprint("CANARY", i), p.URL+"/v2/", nil)
	}
	visit(0)
	p.fact(t, img.Layers[0].Digest())
	p.fact(t, img.ConfigDigest())
	visit(0) // now by one who is known
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 0 })
	values, series := labelValues(p.gather(t))
	for _, v := range values {
		if strings.Contains(strings.ToLower(v), "canary") || strings.Contains(v, "sha256") {
			t.Errorf("a label has the value %q", v)
		}
	}
	for i := range 100 {
		visit(i)
	}
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 0 })
	after, more := labelValues(p.gather(t))
	if diff := cmp.Diff(values, after); diff != "" || series != more {
		t.Errorf("got %d series after 1 repository, %d after 100 (-1 +100):\n%s", series, more, diff)
	}
}

// Two proxies cannot count into one registry by accident.
func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	proxy.NewMetrics(reg)
	defer func() {
		if recover() == nil {
			t.Error("a second registration passes")
		}
	}()
	proxy.NewMetrics(reg)
}

// A logFile is what a Proxy writes when it logs JSON.
type logFile struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines returns the lines so far, each of which must be one JSON object.
func (l *logFile) lines(t testing.TB) (raw []string, parsed []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.SplitSeq(strings.TrimSuffix(l.buf.String(), "\n"), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
		raw, parsed = append(raw, line), append(parsed, m)
	}
	return raw, parsed
}

// logTo makes a Proxy log JSON.
func logTo(l *logFile) func(*proxy.Config) {
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey = ""
	return func(c *proxy.Config) {
		c.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.AddSync(l), zap.DebugLevel))
	}
}

// Each request is one line, with what it was about and how it ended.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	var file logFile
	p := newProxy(t, newRegistry(t).URL, logTo(&file))
	img := verifytest.WrongDigit(verifytest.Honest(1))
	refused := pushImage(t, p.URL, "library/app", "1.4", img)
	do(t, http.MethodHead, p.URL+"/v2/library/app/blobs/"+img.ConfigDigest().String(), nil, "User-Agent", "tester/1.0")
	get(t, p.URL+"/v2/nothing/tags/list")
	p.facts(t) // the last line is written, too
	var got []map[string]any
	_, all := file.lines(t)
	for _, m := range all {
		if m["msg"] == "request" {
			got = append(got, m)
		}
	}
	if len(got) != 7 {
		t.Fatalf("got %d lines of %d requests: %v", len(got), 7, got)
	}
	for _, m := range got {
		if took, ok := m["http.response.duration"].(float64); !ok || took <= 0 {
			t.Errorf("got the duration %v", m["http.response.duration"])
		}
		if addr, ok := m["http.request.remoteaddr"].(string); !ok || !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("got the address %v", m["http.request.remoteaddr"])
		}
		delete(m, "http.response.duration")
		delete(m, "http.request.remoteaddr")
	}
	want := []map[string]any{
		{"level": "info", "msg": "request", "route": "manifest", "http.request.method": "PUT", "http.request.uri": "/v2/library/app/manifests/1.4",
			"http.request.useragent": "Go-http-client/1.1", "http.response.status": 400., "http.response.written": float64(len(refused.Body)),
			"vars.name": "library/app", "vars.reference": "1.4", "verdict": "mismatch", "error": "manifest invalid: " + refused.errors(t)[0].Message},
		{"level": "info", "msg": "request", "route": "blob", "http.request.method": "HEAD", "http.request.uri": "/v2/library/app/blobs/" + img.ConfigDigest().String(),
			"http.request.useragent": "tester/1.0", "http.response.status": 200., "http.response.written": 0.,
			"vars.name": "library/app", "vars.digest": img.ConfigDigest().String()},
	}
	if diff := cmp.Diff(want, got[4:6]); diff != "" {
		t.Errorf("lines of the refusal and of the HEAD (-want +got):\n%s", diff)
	}
	if got[6]["http.response.status"] != 404. || got[6]["vars.name"] != "nothing" {
		t.Errorf("got %v of a repository that is not there", got[6])
	}
}

// Who has a log of his own leaves ours out; verdicts are logged all the same.
func TestNoAccessLog(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.NoAccessLog = true })
	pushImage(t, p.URL, "app", "1.4", verifytest.WrongDigit(verifytest.Honest(1)))
	p.facts(t)
	if n := p.Logs.FilterMessage("request").Len(); n != 0 {
		t.Errorf("got %d lines of requests, want 0", n)
	}
	if n := p.Logs.FilterMessage("manifest is false").Len(); n != 1 {
		t.Errorf("got %d lines of verdicts, want 1", n)
	}
}

// What a client or an upstream sends cannot end a line of the log, fake
// another, colour a terminal, or fill a disk.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	var file logFile
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, logTo(&file))
	evil := "\r\n{\"msg\":\"request\"}\x1b[31m\x00\u2028\u202e"
	escaped := "%0D%0A%7B%22msg%22%3A%22x%22%7D%1B%5B31m%00%E2%80%A8%E2%80%AE"
	long := strings.Repeat("a", 30_000)
	get(t, p.URL+"/v2/"+escaped)
	get(t, p.URL+"/v2/app/_diffids/blobs/"+escaped)
	get(t, p.URL+"/v2/", "User-Agent", "tab\tand \u2028\u202e")
	get(t, p.URL+"/v2/"+long+"/tags/list", "User-Agent", long)
	get(t, p.URL+"/v2/app/manifests/sha256:"+long)
	get(t, p.URL+"/v2/app/_diffids/blobs/"+long)
	putManifest(t, p.URL, "app", "sha256:"+long, "text/\u2028", []byte(evil+long))
	do(t, http.MethodPost, p.URL+"/v2/"+long+"/blobs/uploads/", nil)
	img := verifytest.Honest(1)
	img.RawConfig = fmt.Appendf(nil, `{"rootfs":{"type":%q,"diff_ids":[%q]},"os":%[1]q}`, evil+long, evil+long)
	pushImage(t, p.URL, "app", "1.4", img)
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, evil+long)
		return true
	})
	get(t, p.URL+"/v2/app/_diffids/manifests/1.4")
	p.facts(t)
	raw, parsed := file.lines(t)
	requests := 0
	for i, line := range raw {
		if parsed[i]["msg"] == "request" {
			requests++
		}
		if len(line) > 16<<10 {
			t.Errorf("a line of the log has %d bytes: %s...", len(line), line[:200])
		}
		if j := strings.IndexFunc(line, func(c rune) bool { return c < ' ' || c > '~' || c == utf8.RuneError }); j >= 0 {
			t.Errorf("a line of the log has an unprintable byte: %q", line[max(j-50, 0):j+3])
		}
		for k, v := range parsed[i] {
			if s, ok := v.(string); ok && strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%s holds %q", k, s[:min(len(s), 200)])
			}
		}
	}
	if requests != 14 {
		t.Errorf("got %d lines of %d requests", requests, 14)
	}
}
