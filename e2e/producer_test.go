package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// containers: buildah and podman keep all that they have in the script's
// folder. They need no user namespace and mount nothing.
func containers(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.MkAbs("containers")
	ts.Check(os.Mkdir(dir, 0o755))
	storage, engine, err := writeContainers(dir)
	ts.Check(err)
	ts.Setenv("CONTAINERS_STORAGE_CONF", storage)
	ts.Setenv("CONTAINERS_CONF", engine)
	ts.Setenv("BUILDAH_ISOLATION", "chroot")
	// They insist that there are credentials where they are told to look.
	writeFile(ts, filepath.Join(ts.Getenv("DOCKER_CONFIG"), "config.json"), []byte("{}"))
}

// writeContainers writes the settings of podman, skopeo and buildah that make
// them keep everything in a folder.
func writeContainers(dir string) (storage, engine string, err error) {
	storage, engine = filepath.Join(dir, "storage.conf"), filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(storage, fmt.Appendf(nil, `[storage]
driver = "vfs"
graphroot = %q
runroot = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "run")), 0o644); err != nil {
		return "", "", err
	}
	return storage, engine, os.WriteFile(engine, fmt.Appendf(nil, `[engine]
tmp_dir = %q
static_dir = %q
volume_path = %q
events_logger = "none"
cgroup_manager = "cgroupfs"
lock_type = "file"
[network]
network_config_dir = %q
`, filepath.Join(dir, "tmp"), filepath.Join(dir, "static"), filepath.Join(dir, "volumes"), filepath.Join(dir, "net")), 0o644)
}

// wholeDigest finds DiffIDs in what programs print.
var wholeDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// agree PROXY REPO REFERENCE: the last program printed the DiffIDs of an image,
// in order. Print what the proxy found in each layer, and fail unless the
// report on the image and the DiffID index say the same.
func agree(ts *testscript.TestScript, _ bool, args []string) {
	said := wholeDigest.FindAllString(ts.ReadFile("stdout"), -1)
	r := askReport(ts, args[0], args[1], args[2])
	if r.Verdict != "match" {
		ts.Fatalf("the verdict is %s: %s", r.Verdict, r.Message)
	}
	var found []string
	for i, l := range r.Layers {
		fmt.Fprintf(ts.Stdout(), "layer %d: %s %s -> %s\n", i+1, l.Encoding, l.Digest, l.DiffID)
		found = append(found, l.DiffID)
		if l.Status != "match" || l.ConfigDiffID != l.DiffID {
			ts.Fatalf("layer %d is %s: the config says %s", i+1, l.Status, l.ConfigDiffID)
		}
		if id := askDiffID(ts, args[0], l.Digest); id != l.DiffID {
			ts.Fatalf("the DiffID index says %s of layer %d", id, i+1)
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(ts.Stdout(), "warning: %s\n", w)
	}
	if diff := cmp.Diff(said, found); diff != "" {
		ts.Fatalf("the program and the proxy differ (-program +proxy):\n%s", diff)
	}
}

// A report is what these tests read of the report on an image.
type report struct {
	Verdict  string
	Message  string
	Warnings []string
	Layers   []struct {
		Digest       digest.Digest
		Encoding     string
		ConfigDiffID string `json:"config_diff_id"`
		DiffID       string `json:"diff_id"`
		TOC          string `json:"toc_digest"`
		Status       string
	}
	Manifests []struct{ Platform, Verdict string } // of an image index
}

func askReport(t failer, proxy, repo, reference string) (r report) {
	ask(t, "http://"+proxy+"/v2/"+repo+"/_diffids/manifests/"+reference, &r)
	return r
}

var (
	// logLine matches a line of skopeo's, buildah's or podman's log.
	logLine = regexp.MustCompile(`(?m)^time="[^"]*" level=(?:fatal|error) msg=("(?:[^"\\]|\\.)*")$`)
	// warning matches one of regctl's.
	warning = regexp.MustCompile(`(?m)^time=\S+ level=WARN .*\n`)
)

// anyDigest is in a golden file for a digest that cannot be known.
const anyDigest = "sha256:..."

// says FILE: the last program complained in exactly these words, whatever it
// told before of its progress. In FILE, variables stand for what is different
// each time.
func says(ts *testscript.TestScript, _ bool, args []string) {
	got := warning.ReplaceAllString(ts.ReadFile("stderr"), "")
	if m := logLine.FindStringSubmatch(got); m != nil {
		var err error
		got, err = strconv.Unquote(m[1])
		ts.Check(err)
	} else if at := strings.Index(got, "\nError: "); at >= 0 {
		got = got[at:]
	}
	want, got := strings.TrimSpace(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), strings.TrimSpace(got)
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), regexp.QuoteMeta(anyDigest), "sha256:[0-9a-f]+")
	if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
		ts.Fatalf("other words than in %s (-want +got):\n%s\nin full:\n%s", args[0], cmp.Diff(want, got), got)
	}
}

// condition is [before:PROGRAM:VERSION]: the program is older than that version;
// docker's is that of the engine.
func condition(cond string) (bool, error) {
	word, rest, _ := strings.Cut(cond, ":")
	program, version, ok := strings.Cut(rest, ":")
	if word != "before" || !ok {
		return false, fmt.Errorf("unknown condition %s", cond)
	}
	ask := []string{"--version"}
	if program == "docker" {
		ask = []string{"version", "--format", "{{.Server.Version}}"}
	}
	out, err := exec.Command(program, ask...).Output()
	if err != nil {
		return false, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	return slices.Compare(numbers(versionNumber.FindString(string(out))), numbers(version)) < 0, nil
}

// versionNumber finds what a program says of itself.
var versionNumber = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

func numbers(version string) (ns []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part) // versionNumber has digits alone
		ns = append(ns, n)
	}
	return ns
}
