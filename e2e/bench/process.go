package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long a program may take to listen, and to stop.
const startTimeout = 30 * time.Second

// A process is a server that is being measured.
type process struct {
	cmd  *exec.Cmd
	addr string
	end  chan struct{} // closed when it has exited
}

// serve starts a program and waits until it listens: at addr, or where its log
// tells by a line that matches. Its log is kept in a file of b.dir.
func (b *bench) serve(ctx context.Context, name, addr, matches string, env []string, program string, args ...string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, name)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(program, args...), addr: addr, end: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DIFFGATE_") && !strings.HasPrefix(kv, "REGISTRY_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// How it ended is of no interest: it is killed, or its log says why.
		_ = p.cmd.Wait()
		close(p.end)
	}()
	if err := p.listening(ctx, log.Name(), matches); err != nil {
		said, _ := os.ReadFile(log.Name()) // there is nothing better to show
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", p.cmd, err, said), p.stop())
	}
	return p, nil
}

// listening waits until the process listens.
func (p *process) listening(ctx context.Context, log, matches string) error {
	want := regexp.MustCompile(matches)
	for until := time.Now().Add(startTimeout); time.Now().Before(until); {
		if p.addr == "" {
			said, err := os.ReadFile(log)
			if err != nil {
				return err
			}
			if m := want.FindSubmatch(said); m != nil {
				p.addr = string(m[1])
			}
		}
		if p.addr != "" {
			if conn, err := net.Dial("tcp", p.addr); err == nil {
				return conn.Close()
			}
		}
		select {
		case <-p.end:
			return errors.New("it ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // between tries
		}
	}
	return errors.New("it does not listen")
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.cmd, err)
	}
	select {
	case <-p.end:
		return nil
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("%s does not stop", p.cmd), p.cmd.Process.Kill())
	}
}

// clockTicks of processor time are a second in /proc, on every machine that Go
// runs on.
const clockTicks = 100

// cpu returns the seconds of processor time that the process and its children
// have used.
func (p *process) cpu() (float64, error) {
	pid := p.cmd.Process.Pid
	pids := []string{strconv.Itoa(pid)}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err == nil { // a kernel may lack it; then only nginx, which has children, looks idle
		pids = append(pids, strings.Fields(string(children))...)
	}
	ticks := 0
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return 0, err
		}
		// Fields are counted from behind the name, which may have spaces.
		f := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		user, err1 := strconv.Atoi(f[11])
		system, err2 := strconv.Atoi(f[12])
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("/proc/%s/stat: %w", pid, err)
		}
		ticks += user + system
	}
	return float64(ticks) / clockTicks, nil
}

// kib returns a value of /proc/PID/status that is in KiB: VmRSS, VmHWM.
func (p *process) kib(name string) (float64, error) {
	path := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	n, err := strconv.Atoi(strings.TrimSuffix(field(path, name), " kB"))
	if err != nil {
		return 0, fmt.Errorf("%s of %s: %w", name, path, err)
	}
	return float64(n), nil
}

// freeAddr returns an address that is free now, for programs that cannot choose
// one.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// lines calls each for every line of r.
func lines(r io.Reader, each func(string)) error {
	in := bufio.NewScanner(r)
	for in.Scan() {
		each(in.Text())
	}
	return in.Err()
}
