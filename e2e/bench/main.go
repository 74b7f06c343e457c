// Bench measures Diffgate beside what there is to compare it with: decoders of
// gzip, programs that verify an image, the registry alone and other proxies in
// front of it. Everything runs on one machine in one run, in turns, so that what
// disturbs one disturbs all; what is reported are medians and their ratios.
//
//	go run ./e2e/bench                              # everything, as markdown
//	go run ./e2e/bench -only inflate,verify -n 3    # some of it
//	go run ./e2e/bench -report docs/performance.md  # into the page, with plots
//
// Its inputs are real: see corpora.go. What e2e/install installs must be there;
// a decoder or a proxy that is not is left out, and the report shows that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A bench is one run.
type bench struct {
	rounds int
	short  bool   // tiny inputs, to see that everything runs
	root   string // of the module
	cache  string // where corpora are kept
	dir    string // temporary
	stderr io.Writer
	began  time.Time

	program string   // Diffgate
	corpora []corpus // once they are made
	report  report
}

// A part measures one thing and adds what it finds to the report.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

var parts = []part{
	{"inflate", (*bench).inflate},
	{"verify", (*bench).verifyLayers},
	{"transfer", (*bench).transfers},
	{"manifest", (*bench).manifests},
	{"diffids", (*bench).diffIDs},
	{"memory", (*bench).memory},
	{"index", (*bench).indexFigures},
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == reverseProxyCommand {
		fail(reverseProxy(os.Args[2]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(run(ctx, os.Args[1:]))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	only    string
	rounds  int
	output  string
	page    string
	program string
	short   bool
}

func parse(args []string) (options, []part, error) {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	all := strings.Join(names, ",")
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.only, "only", all, "the `parts` to run")
	flags.IntVar(&o.rounds, "n", 5, "`rounds` of which the median is taken")
	flags.StringVar(&o.output, "o", "markdown", "markdown or json, to standard output")
	flags.StringVar(&o.page, "report", "", "a markdown `file`: the report replaces what is between its markers, and plots are put beside it")
	flags.StringVar(&o.program, "diffgate", "", "the `program` to measure; it is built if none is named")
	flags.BoolVar(&o.short, "short", false, "tiny inputs, to see that everything runs; the figures mean nothing")
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.output != "markdown" && o.output != "json" {
		return o, nil, fmt.Errorf("want flags only, -n of at least 1 and -o markdown or json, got %q", args)
	}
	var chosen []part
	for name := range strings.SplitSeq(o.only, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			return o, nil, fmt.Errorf("no part is called %q; there are %s", name, all)
		}
		chosen = append(chosen, parts[i])
	}
	return o, chosen, nil
}

func run(ctx context.Context, args []string) (err error) {
	o, chosen, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{rounds: o.rounds, short: o.short, program: o.program, stderr: os.Stderr, began: time.Now()}
	if b.dir, err = os.MkdirTemp("", "diffgate-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.prepare(ctx, args); err != nil {
		return err
	}
	for _, p := range chosen {
		b.say("%s", p.name)
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.say("done")
	if o.page != "" {
		if err := b.report.writeTo(o.page); err != nil {
			return err
		}
	}
	if o.output == "json" {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(b.report)
	}
	_, err = io.WriteString(os.Stdout, b.report.markdown())
	return err
}

// prepare finds the module and its inputs, and builds Diffgate.
func (b *bench) prepare(ctx context.Context, args []string) error {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	b.root = root
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.cache = filepath.Join(cache, "diffgate", "bench")
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return err
	}
	if err := b.makeCorpora(ctx); err != nil {
		return err
	}
	if b.program == "" {
		b.say("building Diffgate")
		b.program = filepath.Join(b.dir, "proxy")
		if _, err := output(ctx, root, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", b.program, "./cmd/proxy"); err != nil {
			return err
		}
	}
	b.report.describe(ctx, b, args)
	return nil
}

// say tells how far the run is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, "%4.0fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
