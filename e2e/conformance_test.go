package e2e

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"diffgate/cmd/proxy/embedded"
	"diffgate/cmd/proxy/settings"
)

// A profile is what the conformance suite is told to ask for.
type profile struct {
	name    string
	version string   // of the distribution specification
	more    []string // variables of the suite
	slow    bool     // run if CONFORMANCE is all
}

var profiles = []profile{
	{name: "1.1", version: "1.1"},
	{name: "1.0", version: "1.0", slow: true},
	{name: "dev", version: "dev", more: []string{"OCI_DATA_SPARSE=true"}, slow: true}, // manifests of blobs that nobody pushed
}

// The OCI conformance suite gives the same result, line by line, through the
// proxy as without it. The stock suite writes the digest of nothing into every
// config, so the gate must not enforce on it; a suite without that defect
// passes a gate that does.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"docker-registry", "go"} {
		if what := lacks(p); what != "" {
			missing(t.Skip, t.Fatalf, what)
		}
	}
	fixed := tools(t.Fatalf, "conformance")
	stock := strings.TrimSuffix(fixed, "-fixed")
	for _, upstream := range []struct {
		name  string
		start func(*testing.T) string
	}{
		{"registry 2.8.2", startRegistry2},
		{"distribution v3", startRegistry3},
	} {
		for _, p := range profiles {
			if p.slow && os.Getenv("CONFORMANCE") != "all" {
				continue
			}
			t.Run(upstream.name+" "+p.name, func(t *testing.T) {
				t.Parallel()
				direct := p.run(t, stock, upstream.start(t))
				t.Logf("stock suite, without proxy:          %s", direct.summary)
				audited := p.run(t, stock, startWatched(t, upstream.start(t), settings.Audit))
				t.Logf("stock suite, through proxy, audit:   %s", audited.summary)
				if diff := cmp.Diff(direct.lines, audited.lines); diff != "" {
					t.Errorf("the stock suite differs through a proxy that audits (-without +through):\n%s", diff)
				}
				audited = p.run(t, fixed, startWatched(t, upstream.start(t), settings.Audit))
				t.Logf("fixed suite, through proxy, audit:   %s", audited.summary)
				enforced := p.run(t, fixed, startWatched(t, upstream.start(t), settings.Enforce))
				t.Logf("fixed suite, through proxy, enforce: %s", enforced.summary)
				if diff := cmp.Diff(audited.lines, enforced.lines); diff != "" {
					t.Errorf("the fixed suite differs when the proxy enforces (-audit +enforce):\n%s", diff)
				}
			})
		}
	}
}

// A conformance is what one run of the suite printed.
type conformance struct {
	lines   []string // "test: Pass", sorted: their order varies
	summary string
}

var (
	resultLine  = regexp.MustCompile(`: (Pass|FAIL|Skip|Disabled|Error)$`)
	summaryLine = regexp.MustCompile(`^\s*(Pass|FAIL|Skip|Disabled|Error|Total)\.+:\s+(\d+)$`)
)

// run runs a build of the suite against a registry.
func (p profile) run(t *testing.T, suite, addr string) conformance {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(suite)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+addr, "OCI_TLS=disabled", "OCI_REPO1=conf/repo1", "OCI_REPO2=conf/repo2",
		"OCI_VERSION="+p.version, "OCI_RESULTS_DIR="+dir)
	cmd.Env = append(cmd.Env, p.more...)
	// The suite fails on both registries: its exit code is not the question.
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	var c conformance
	var sums []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case resultLine.MatchString(line):
			c.lines = append(c.lines, line)
		case summaryLine.MatchString(line):
			m := summaryLine.FindStringSubmatch(line)
			sums = append(sums, m[2]+" "+m[1])
		}
	}
	slices.Sort(c.lines)
	c.summary = strings.Join(sums, ", ")
	if len(c.lines) < 500 {
		t.Fatalf("the suite printed %d results; it did not run:\n%s", len(c.lines), out)
	}
	return c
}

func startRegistry2(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "registry.yml")
	writeFile(t, config, registryConfig(t.TempDir()))
	return startProcess(t, nil, `listening on ([0-9.:]+)`, "docker-registry", "serve", config)
}

func startRegistry3(t *testing.T) string {
	t.Helper()
	addr, stop, err := serveRegistry3(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return addr
}

// serveRegistry3 runs distribution v3 over dir until it is stopped.
func serveRegistry3(dir string) (addr string, stop func() error, err error) {
	registry, err := embedded.Open(dir, zap.NewNop())
	if err != nil {
		return "", nil, err
	}
	srv := httptest.NewServer(registry.Handler())
	return srv.Listener.Addr().String(), func() error {
		srv.Close()
		return registry.Close()
	}, nil
}

// startWatched runs the proxy in front of a registry, with a watcher between
// them that fails the test unless every write came through the proxy.
func startWatched(t *testing.T, registry, mode string) string {
	t.Helper()
	var through, round atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	forward.ErrorLog = log.New(io.Discard, "", 0) // registry 2.8.2 cuts some of its own answers short
	watcher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if r.Header.Get("X-Forwarded-Host") != "" {
				through.Add(1)
			} else {
				round.Add(1)
			}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		watcher.Close()
		if through.Load() == 0 || round.Load() != 0 {
			t.Errorf("%d writes came through the proxy, %d round it; want all through it", through.Load(), round.Load())
		}
	})
	return startProcess(t, []string{
		"DIFFGATE_HTTP_ADDR=127.0.0.1:0",
		"DIFFGATE_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"DIFFGATE_LOG_FORMATTER=json",
		"DIFFGATE_UPSTREAM_URL=" + watcher.URL,
		"DIFFGATE_VERIFY_MODE=" + mode,
		"DIFFGATE_INDEX_BOLT_PATH=" + filepath.Join(t.TempDir(), "index.db"),
	}, `"msg":"serving","addr":"([^"]*)"`, program, "serve")
}

// startProcess runs a program until the test ends and returns the address that
// its log tells.
func startProcess(t *testing.T, env []string, matches, name string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch(dir, append(os.Environ(), env...), file, matches, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-p.end
		file.Close()
	})
	m, err := p.listening()
	if err != nil {
		said, _ := os.ReadFile(file.Name()) // there is nothing better to show
		t.Fatalf("%v\n%s", err, bytes.TrimSpace(said))
	}
	return m[0]
}
