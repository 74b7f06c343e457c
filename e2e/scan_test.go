package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/scan"
	"diffgate/proxy/scan/scantest"
)

// scanProgram is the command in a folder of its own, where it keeps scan.db.
func scanProgram(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"scan"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dir)
	return cmd
}

// A scanOutput is what proxy scan -o json prints.
type scanOutput struct {
	Results []scan.Result
	Summary scan.Summary
}

func runScan(t *testing.T, dir string, code int, args ...string) (out scanOutput) {
	t.Helper()
	cmd := scanProgram(dir, append(args, "-o", "json")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("exit code %d (%v), want %d\n%s", got, err, code, stderr.Bytes())
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatalf("%v\n%s", err, stdout.Bytes())
	}
	return out
}

// found returns the first finding of each result, in the order of repositories.
func (o scanOutput) found() (out []scantest.Wrong) {
	for _, r := range o.Results {
		w := scantest.Wrong{Repository: r.Repository, Tag: r.Tag, Cause: r.Error}
		if len(r.Findings) > 0 {
			w.Platform, w.Cause = r.Findings[0].Platform, r.Findings[0].What()
			if at := r.Findings[0].Layer; at != nil {
				w.Layer = *at + 1
			}
		}
		out = append(out, w)
	}
	return inOrder(out)
}

func inOrder(w []scantest.Wrong) []scantest.Wrong {
	slices.SortFunc(w, func(a, b scantest.Wrong) int { return cmp.Compare(a.Repository, b.Repository) })
	return w
}

// A scan that was killed half-way is begun again: it finds the ten images of 200
// that are wrong, reads hardly a layer that it had read, and writes the page.
// After that it reads none.
func TestScanKilled(t *testing.T) {
	t.Parallel()
	registry, dir := scantest.Start(t), t.TempDir()
	want := inOrder(registry.Fill(t))

	killed := scanProgram(dir, registry.Host)
	half := make(chan struct{})
	registry.OnRead(func(reads int) {
		if reads == 100 {
			close(half)
		}
	})
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	<-half
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait() // which says that it was killed
	registry.OnRead(nil)
	first := registry.Reads()

	out := runScan(t, dir, 1, registry.Host, "--report", "page.html")
	if diff := gocmp.Diff(want, out.found()); diff != "" {
		t.Errorf("what is wrong (-want +got):\n%s", diff)
	}
	again := 0
	for d, n := range registry.Reads() {
		if first[d]+n > 1 {
			again++
		}
	}
	// Two were under way; one is read once more in search of a reason, and one
	// comes wrong each time.
	if again > 4 || out.Summary.Known == 0 {
		t.Errorf("%d layers were read twice, %d manifests were known", again, out.Summary.Known)
	}
	page, err := os.ReadFile(filepath.Join(dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !strings.Contains(string(page), "<td>"+w.Repository+"</td>") {
			t.Errorf("the page does not name %s", w.Repository)
		}
	}

	out = runScan(t, dir, 1, registry.Host)
	rotten := scantest.Image(199).Layers[2].Digest()
	if diff := gocmp.Diff(map[digest.Digest]int{rotten: 1}, registry.Reads()); diff != "" {
		t.Errorf("layers read of a registry that did not change (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(want, out.found()); diff != "" {
		t.Errorf("what is wrong, once more (-want +got):\n%s", diff)
	}
}

// A Diffgate in front of the registry judges, and knows the layers from then on.
func TestScanThroughDiffgate(t *testing.T) {
	t.Parallel()
	registry := scantest.Start(t)
	registry.Push(t, "right", "1", scantest.Image(1))
	lie := scantest.Image(2)
	slices.Reverse(lie.DiffIDs)
	registry.Push(t, "wrong", "1", lie)
	gate := startProcess(t, []string{
		"DIFFGATE_HTTP_ADDR=127.0.0.1:0",
		"DIFFGATE_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"DIFFGATE_LOG_FORMATTER=json",
		"DIFFGATE_UPSTREAM_URL=http://" + registry.Host,
	}, `"msg":"serving","addr":"([^"]*)"`, program, "serve")

	want := []scantest.Wrong{{Repository: "wrong", Tag: "1", Platform: "linux/amd64", Layer: 1, Cause: "reversed"}}
	for _, run := range []string{"first", "second"} {
		out := runScan(t, t.TempDir(), 1, gate)
		if diff := gocmp.Diff(want, out.found()); diff != "" {
			t.Errorf("%s scan (-want +got):\n%s", run, diff)
		}
		if !out.Summary.Diffgate || out.Summary.Right != 1 || out.Summary.Read.Bytes != 0 {
			t.Errorf("%s scan: %+v", run, out.Summary)
		}
		if reads := len(registry.Reads()); (reads == 0) != (run == "second") {
			t.Errorf("%s scan: Diffgate read %d layers", run, reads)
		}
	}
	if out := runScan(t, t.TempDir(), 1, gate, "--direct"); out.Summary.Diffgate || out.Summary.Read.Layers == 0 {
		t.Errorf("direct: %+v", out.Summary)
	}
}
