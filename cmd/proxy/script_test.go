package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sirupsen/logrus"
)

// The test binary is the program when it is called proxy.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // distribution's handlers log each request
	testscript.Main(m, map[string]func(){"proxy": main})
}

// The scripts show what needs no registry; those under e2e, the rest.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":    start,
			"stop":     stop,
			"download": download,
			"flip":     flip,
			"cut":      cut,
		},
		Setup: func(env *testscript.Env) error {
			env.Values[servingKey{}] = new(*exec.Cmd)
			env.Vars = append(env.Vars, "DIFFGATE_HTTP_ADDR=127.0.0.1:0", "DIFFGATE_HTTP_DEBUG_ADDR=127.0.0.1:0", "DIFFGATE_LOG_FORMATTER=json")
			return nil
		},
	})
}

// servingKey leads to the proxy that a script has started.
type servingKey struct{}

// start: run proxy serve until it listens at $ADDR; its process is $PID.
func start(ts *testscript.TestScript, _ bool, _ []string) {
	cmd := exec.Command("proxy", "serve")
	cmd.Dir = ts.Getenv("WORK")
	for _, k := range []string{"PATH", "HOME", "DIFFGATE_HTTP_ADDR", "DIFFGATE_HTTP_DEBUG_ADDR", "DIFFGATE_LOG_FORMATTER"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	log, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	*ts.Value(servingKey{}).(**exec.Cmd) = cmd
	ts.Defer(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Msg == "serving" {
			ts.Setenv("ADDR", line.Addr)
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the program
			return
		}
		ts.Logf("%s", lines.Text())
	}
	ts.Fatalf("proxy serve ended: %v", cmd.Wait())
}

// stop: end the proxy that start started.
func stop(ts *testscript.TestScript, _ bool, _ []string) {
	cmd := *ts.Value(servingKey{}).(**exec.Cmd)
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(cmd.Wait())
}

// download PATH FILE: keep what the proxy answers to who asks for lines of JSON.
func download(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+ts.Getenv("ADDR")+args[0], nil)
	ts.Check(err)
	req.Header.Set("Accept", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if res.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", res.Status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

// flip FILE DIGEST: flip a bit of each record under that digest.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.ReadFile(args[0])
	_, digits, _ := strings.Cut(args[1], ":")
	key, err := hex.DecodeString(digits)
	ts.Check(err)
	damaged := []byte(file)
	for at := 0; ; {
		next := bytes.Index(damaged[at:], key)
		if next < 0 {
			break
		}
		at += next + len(key)
		damaged[at+2] ^= 1
	}
	if string(damaged) == file {
		ts.Fatalf("%s is not in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), damaged, 0o600))
}

// cut FILE: cut off the second half.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	info, err := os.Stat(file)
	ts.Check(err)
	ts.Check(os.Truncate(file, info.Size()/2))
}
