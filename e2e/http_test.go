package e2e

import (
	"bufio"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// location FILE NAME: the variable NAME is the Location in a header that curl
// saved.
func location(ts *testscript.TestScript, _ bool, args []string) {
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(ts.ReadFile(args[0]))))
	_, err := r.ReadLine() // the status
	ts.Check(err)
	h, err := r.ReadMIMEHeader()
	ts.Check(err)
	ts.Setenv(args[1], h.Get("Location"))
}

// digest FILE NAME: the variable NAME is the digest of a file.
func digestOf(ts *testscript.TestScript, _ bool, args []string) {
	setDigest(ts, args[1], digest.FromString(ts.ReadFile(args[0])))
}

// setDigest makes a digest the variable of that name, and the one whose name is
// in small letters what messages show of it where they are brief.
func setDigest(ts *testscript.TestScript, name string, d digest.Digest) {
	ts.Setenv(name, d.String())
	ts.Setenv(strings.ToLower(name), d.String()[:len("sha256:")+12])
}

// uploading NAME: wait until a request is in flight at a proxy.
func uploading(ts *testscript.TestScript, _ bool, args []string) {
	for until := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		metrics := command(ts, "curl", "-sf", "http://"+ts.Getenv(args[0]+"_DEBUG")+"/metrics")
		if regexp.MustCompile(`(?m)^diffid_http_requests_in_flight [1-9]`).MatchString(metrics) {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("no request in flight:\n%s", metrics)
		}
	}
}

// again NAME DIR: run registry:2 once more, under the address it had.
func again(ts *testscript.TestScript, _ bool, args []string) {
	config := filepath.Join(ts.Getenv("WORK"), args[0]+".yml")
	text := strings.Replace(string(registryConfig(ts.MkAbs(args[1]))), "127.0.0.1:0", ts.Getenv(args[0]), 1)
	ts.Check(os.WriteFile(config, []byte(text), 0o644))
	path, err := exec.LookPath("docker-registry")
	ts.Check(err)
	run(ts, args[0], `listening on ([0-9.:]+)`, path, "serve", config)
}

// compose ARG...: docker-compose over deployments/docker-compose.yml, as a
// project of the script's own, which is taken down when the script ends.
func compose(ts *testscript.TestScript, _ bool, args []string) {
	docker := func(args ...string) ([]byte, error) {
		project := []string{"--project-name", ts.Getenv("UNIQUE"), "--file", "../deployments/docker-compose.yml"}
		cmd := exec.Command("docker-compose", append(project, args...)...)
		cmd.Env = os.Environ()
		for _, k := range []string{"DIFFGATE_IMAGE", "DIFFGATE_PORT", "DIFFGATE_DEBUG_PORT"} {
			cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
		}
		return cmd.CombinedOutput()
	}
	if args[0] == "up" {
		ts.Defer(func() {
			if out, err := docker("down", "--volumes", "--timeout", "1"); err != nil {
				ts.Logf("docker-compose down: %v\n%s", err, out)
			}
		})
	}
	out, err := docker(args...)
	fmt.Fprintf(ts.Stdout(), "%s", out)
	if err != nil {
		ts.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
