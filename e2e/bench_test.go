package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// What measures the program (make bench) runs, over inputs too small for its
// figures to mean anything. Each part has its table, and fronts and decoders are
// all there. The benchmarks of the DiffID index are run by go test alone.
func TestBench(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"docker-registry", "nginx", "gzip", "pigz", "igzip", "go"} {
		if what := lacks(p); what != "" {
			missing(t.Skip, t.Fatalf, what)
		}
	}
	cmd := exec.Command("go", "run", "./bench", "-short", "-n", "1", "-o", "json", "-diffgate", program,
		"-only", "inflate,verify,transfer,manifest,diffids,memory")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	var report struct {
		Goals  []struct{ Name string }
		Tables []struct {
			Title string
			Rows  [][]any
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	rows := map[string]int{}
	for _, table := range report.Tables {
		rows[table.Title] = len(table.Rows)
	}
	for title, want := range map[string]int{
		"Decoding gzip: decoded MB/s":      6,     // decoders
		"Verifying a layer in a file":      2,     // corpora
		"Verifying an image in a registry": 1,     // image
		"Push and pull":                    6 * 4, // operations through fronts
		"Manifest PUT":                     2 * 2, // kinds through fronts
		"GET /v2/_diffids/<digest>":        1,
		"Memory":                           2 * 2, // loads, up and down
	} {
		if rows[title] != want {
			t.Errorf("%q has %d rows, want %d", title, rows[title], want)
		}
	}
	if len(report.Goals) == 0 {
		t.Error("no targets are reported")
	}
}
