// Package e2e runs the built program between real clients and real
// registries. The scripts under testdata read as the manual: each shows one
// thing that a user does and what comes of it.
//
// A script names the programs it needs. Where one is missing it is skipped,
// or fails if DIFFGATE_E2E=require is set; e2e/install installs them all.
package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sirupsen/logrus"
)

// program is the proxy under test. TestMain builds it.
var program string

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // distribution's handlers log each request
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "diffgate-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "proxy")
		args := []string{"build", "-o", program}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "../cmd/proxy")...)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", build, err, out)
			return 1
		}
		return m.Run()
	}())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, scripts(filepath.Join("testdata", "script")))
}

// scripts are those of a folder, and the commands that they have.
func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"need":        need,
			"start":       start,
			"terminate":   terminate,
			"unplug":      unplug,
			"registry2":   registry2,
			"freeport":    freePort,
			"files":       files,
			"issuer":      issuer,
			"debian":      debian,
			"dockerlie":   dockerLie,
			"dockertruth": dockerTruth,
			"rmi":         removeImages,
			"tamper":      tamperLayout,
			"incident":    incident,
			"says":        says,
			"containers":  containers,
			"agree":       agree,
			"manifest":    readManifest,
			"witnesses":   witnesses,
			"flip":        flip,
			"smaller":     smaller,
			"until":       until,
			"tool":        tool,
			"eventually":  eventually,
			"location":    location,
			"digest":      digestOf,
			"uploading":   uploading,
			"again":       again,
			"compose":     compose,
			"client":      client,
			"gocache":     goCache,
			"gate":        gate,
			"traffic":     traffic,
			"pairs":       pairs,
			"containerd":  containerd,
			"layout":      layout,
		},
	}
}

// setup lets every proxy of a script listen on a free port of this machine and
// keep its files in the script's folder.
func setup(env *testscript.Env) error {
	env.Values[skipper{}] = env.T()
	env.Values[processesKey{}] = map[string]*process{}
	env.Values[memoriesKey{}] = map[string][]byte{}
	env.Vars = append(env.Vars,
		"PATH="+filepath.Dir(program)+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"DIFFGATE_HTTP_ADDR=127.0.0.1:0",
		"DIFFGATE_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"DIFFGATE_LOG_FORMATTER=json",
		"UNIQUE="+strings.ToLower(strings.Map(alphanumeric, filepath.Base(filepath.Dir(env.WorkDir))+filepath.Base(env.WorkDir))),
		"DOCKER_CONFIG="+filepath.Join(env.WorkDir, ".docker"),
		"DOCKER_BUILDKIT=0",
	)
	return nil
}

func alphanumeric(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return -1
}

type skipper struct{}

// missing ends a test that cannot run on this machine: it is skipped, unless
// every test must run.
func missing(skip func(...any), fatalf func(string, ...any), what string) {
	if os.Getenv("DIFFGATE_E2E") == "require" {
		fatalf("%s", what)
	}
	skip(what)
}

// need PROGRAM...: the script needs these programs, for docker its engine, and
// root if it is among them.
func need(ts *testscript.TestScript, _ bool, programs []string) {
	for _, p := range programs {
		if what := lacks(p); what != "" {
			missing(ts.Value(skipper{}).(testscript.T).Skip, ts.Fatalf, what)
		}
	}
}

// lacks says why a program cannot be run, or nothing.
func lacks(name string) string {
	if name == "root" {
		if os.Geteuid() != 0 {
			return "not run by root"
		}
		return ""
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return "no " + name + " here; e2e/install installs it"
		}
	}
	if name == "docker" {
		if out, err := exec.Command(path, "info").CombinedOutput(); err != nil {
			return fmt.Sprintf("the docker engine does not answer, e2e/install starts it: %s", out)
		}
	}
	return ""
}
