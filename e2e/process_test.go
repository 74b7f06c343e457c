package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// startTimeout is how long a program may take to listen, and to stop.
const startTimeout = 30 * time.Second

// A process is a program that a script runs in the background.
type process struct {
	cmd *exec.Cmd
	log *watchedLog
	end chan struct{} // closed when the program has exited
	err error         // how; set before end is closed
}

// A watchedLog writes a program's log to a file and looks for the line that
// tells where it listens.
type watchedLog struct {
	file  *os.File
	want  *regexp.Regexp
	found chan []string // receives the submatches, once

	mu   sync.Mutex
	part []byte
}

func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, whole := bytes.Cut(l.part, []byte("\n"))
		if !whole {
			break
		}
		if m := l.want.FindStringSubmatch(string(line)); m != nil {
			select {
			case l.found <- m[1:]:
			default: // told before
			}
		}
		l.part = bytes.Clone(rest)
	}
	return l.file.Write(p)
}

// launch starts a program that tells in its log, by a line that matches, where
// it listens.
func launch(dir string, env []string, log *os.File, matches, name string, args ...string) (*process, error) {
	p := &process{
		log: &watchedLog{file: log, want: regexp.MustCompile(matches), found: make(chan []string, 1)},
		end: make(chan struct{}),
	}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.end)
	}()
	return p, nil
}

// listening waits for the line and returns its submatches.
func (p *process) listening() ([]string, error) {
	select {
	case m := <-p.log.found:
		return m, nil
	case <-p.end:
		return nil, fmt.Errorf("%s ended: %w", p.cmd, p.err)
	case <-time.After(startTimeout):
		return nil, fmt.Errorf("%s does not listen", p.cmd)
	}
}

// run starts a program whose log goes to NAME.log and returns where it listens.
// The program is stopped with the script at the latest.
func run(ts *testscript.TestScript, name, matches string, program string, args ...string) []string {
	file, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	ts.Check(err)
	p, err := launch(ts.Getenv("WORK"), environ(ts), file, matches, program, args...)
	ts.Check(err)
	ts.Defer(func() {
		if err := p.stop(syscall.SIGKILL); err != nil && !strings.Contains(err.Error(), "killed") {
			ts.Logf("%s: %v", name, err)
		}
		file.Close()
	})
	processes(ts)[name] = p
	m, err := p.listening()
	if err != nil {
		ts.Fatalf("%v\n%s", err, ts.ReadFile(name+".log"))
	}
	return m
}

// environ is the script's environment.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(k, "DIFFGATE_") {
			env = append(env, kv)
		}
	}
	for _, k := range []string{"PATH", "HOME", "DOCKER_CONFIG",
		"DIFFGATE_HTTP_ADDR", "DIFFGATE_HTTP_DEBUG_ADDR", "DIFFGATE_LOG_FORMATTER", "DIFFGATE_UPSTREAM_URL", "DIFFGATE_VERIFY_MODE",
		"DIFFGATE_VERIFY_CODE", "DIFFGATE_VERIFY_PULLS", "DIFFGATE_INDEX_BOLT_PATH", "DIFFGATE_HTTP_DRAINTIMEOUT", "REGISTRY_MIDDLEWARE", "REGISTRY_AUTH", "REGISTRY_HTTP_PREFIX"} {
		if v := ts.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

type processesKey struct{}

// processes are the running programs of a script, by name.
func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processesKey{}).(map[string]*process)
}

func (p *process) stop(sig os.Signal) error {
	select {
	case <-p.end:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-p.end:
		return p.err
	case <-time.After(startTimeout):
		return fmt.Errorf("%s does not stop", p.cmd)
	}
}

// start NAME: run the proxy in the background until it listens. The variable
// NAME is then its address, NAME_DEBUG that of its admin listener, and
// NAME.log its log. Settings come from the script's environment.
func start(ts *testscript.TestScript, _ bool, args []string) {
	m := run(ts, args[0], `"msg":"serving","addr":"([^"]*)","debug.addr":"([^"]*)"`, program, append([]string{"serve"}, args[1:]...)...)
	ts.Setenv(args[0], m[0])
	ts.Setenv(args[0]+"_DEBUG", m[1])
}

// terminate NAME: end a program with SIGTERM and insist on exit code 0.
func terminate(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(processes(ts)[args[0]].stop(syscall.SIGTERM))
}

// unplug NAME: end a program as a power cut would.
func unplug(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	ts.Check(p.cmd.Process.Kill())
	<-p.end
}

// registry2 NAME [DIR]: run registry:2 over DIR, by default NAME, without a
// descriptor cache. The variable NAME is then its address.
func registry2(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[len(args)-1])
	config := filepath.Join(ts.Getenv("WORK"), args[0]+".yml")
	ts.Check(os.WriteFile(config, registryConfig(dir), 0o644))
	path, err := exec.LookPath("docker-registry")
	ts.Check(err)
	m := run(ts, args[0], `listening on ([0-9.:]+)`, path, "serve", config)
	ts.Setenv(args[0], m[0])
}

// registryConfig is registry:2 on a free port.
func registryConfig(dir string) []byte {
	return fmt.Appendf(nil, `version: 0.1
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: "127.0.0.1:0", secret: for-tests}
`, dir)
}

// files NAME DIR: serve a folder, which need not exist yet, as a storage service
// does. The variable NAME is its address.
func files(ts *testscript.TestScript, _ bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.Listener.Addr().String())
}

// freeport NAME: a port that is free now, for programs that cannot choose one.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// tool NAME [ARG...]: run a script of this folder and put the last line that it
// prints into the variable NAME, in capitals.
func tool(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(strings.ToUpper(filepath.Base(args[0])), tools(ts.Fatalf, args...))
}

// tools runs a script of this folder and returns the last line it prints.
func tools(fatalf func(string, ...any), args ...string) string {
	cmd := exec.Command("./"+args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	last := ""
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		last = lines.Text()
	}
	return last
}

// eventually PROGRAM ARG...: run a program until it succeeds.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	until := time.Now().Add(startTimeout)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("%s never succeeded: %v", strings.Join(args, " "), err)
		}
		time.Sleep(100 * time.Millisecond) // between tries
	}
}

// until FILE TEXT: wait until a file holds a text.
func until(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, false, []string{"grep", "-qF", args[1], args[0]})
}
