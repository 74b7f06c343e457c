package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// describe notes on what machine, with what programs and how the run was made.
func (r *report) describe(ctx context.Context, b *bench, args []string) {
	note := func(name, value string) {
		if value == "" {
			value = "not here"
		}
		r.About = append(r.About, fact{name, value})
	}
	note("date", b.began.UTC().Format(time.DateOnly))
	note("command", "`"+strings.Join(append([]string{"go run ./e2e/bench"}, args...), " ")+"`")
	note("rounds", strconv.Itoa(b.rounds))
	note("processor", field("/proc/cpuinfo", "model name"))
	note("cores", strconv.Itoa(runtime.NumCPU()))
	if kib, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		note("memory", cell(float64(kib)/(1<<20))+" GiB")
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		note("kernel", strings.TrimSpace(string(kernel)))
	}
	if kind, err := output(ctx, "", "stat", "-f", "-c", "%T", b.dir); err == nil {
		note("the registry's files are on", kind)
	}
	note("Go", runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	for _, program := range []struct{ name, flag string }{
		{"docker-registry", "--version"}, {"nginx", "-v"}, {"gzip", "--version"}, {"pigz", "--version"}, {"igzip", "--version"},
	} {
		note(program.name, versionOf(ctx, lookPath(program.name), program.flag))
	}
	note("crane", versionOf(ctx, b.crane(ctx), "version"))
}

var versionNumber = regexp.MustCompile(`\d+\.\d+[.\d]*\S*`)

// versionOf asks a program for its version.
func versionOf(ctx context.Context, path, flag string) string {
	if path == "" {
		return ""
	}
	out, err := exec.CommandContext(ctx, path, flag).CombinedOutput() // nginx tells it on stderr
	if err != nil {
		return ""
	}
	return versionNumber.FindString(string(out))
}

// lookPath finds a program, in /usr/sbin too; it returns "" if there is none.
func lookPath(name string) string {
	for _, name := range []string{name, filepath.Join("/usr/sbin", name)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// crane finds the crane that e2e/install builds; it returns "" if there is none.
func (b *bench) crane(ctx context.Context) string {
	dir, err := output(ctx, b.root, "e2e/clients/build", "-n", "crane")
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "crane")
}

// field returns the first value of a name in a file of /proc, or "".
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
