package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/settings"
	"diffgate/cmd/proxy/show"
	"diffgate/proxy/remote"
	"diffgate/proxy/scan"
	"diffgate/verify/index"
)

// scanFlags are those of proxy scan.
type scanFlags struct {
	registry registryFlags
	repos    []string
	jobs     int
	rate     settings.Size
	since    string
	index    string
	dryRun   bool
	direct   bool
	all      bool
	noTrunc  bool
	format   show.Format
	report   string

	interval time.Duration // of progress; 0 is what suits stderr
}

func newScan() *cobra.Command {
	f := scanFlags{format: show.Table}
	cmd := &cobra.Command{
		Use:   "scan REGISTRY",
		Short: "Judge all images of a registry and list what is wrong",
		Long: `Scan walks the catalog of a registry, judges what every tag names, and lists the
images that are wrong, or that nothing could be found out about. REGISTRY is
HOST[:PORT], or its URL.

What it learns it keeps in a DiffID index, the file of --index: a scan that was
interrupted goes on where it was, and one over a registry that did not change
reads no layer. Images that were judged are not looked at again; for that, begin
with another file. Whoever can write to the file can hide a false image.

Where a Diffgate stands in front of the registry it is asked to judge, and to hash
what it does not know, so that it knows from then on; --direct reads the layers
here.

A PATTERN is the name of a repository, or has *, ? and [...] in it, which end at a
slash: team/* is team/app. team/** is all below team. Where no name is a pattern,
the catalog, which not every registry has, is not asked.

TIME is a duration (30d, 12h), a date (2026-01-31) or a time as in RFC 3339. Images
whose config was created then or before are left out. One whose config does not
say when is looked at; an image index is if one of its images is. Builds that are
reproducible often say 1970.

` + credentialsHelp + `

It exits 0 if all is right, 1 if an image is false, and 2 if something could not
be decided and nothing is false.`,
		Example: `  proxy scan registry.example.com
  proxy scan registry.example.com --repo 'team/**' --since 30d --report scan.html
  proxy scan registry.example.com --dry-run
  proxy scan localhost:5000 --jobs 4 --rate 20MiB -o jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.registry.add(cmd)
	cmd.Flags().StringArrayVar(&f.repos, "repo", nil, "look at repositories that match this `PATTERN` only; may be repeated")
	cmd.Flags().IntVar(&f.jobs, "jobs", 2, "layers read at once")
	cmd.Flags().TextVar(&f.rate, "rate", settings.Size(0), "most `BYTES` to read in a second, such as 20MiB; 0 for as many as come")
	cmd.Flags().StringVar(&f.since, "since", "", "leave out images that were created at this `TIME` or before")
	cmd.Flags().StringVar(&f.index, "index", "scan.db", "keep what is learned in this `FILE`")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "read no layers, and list which images have layers to read")
	cmd.Flags().BoolVar(&f.direct, "direct", false, "read layers here even if a Diffgate stands in front of the registry")
	cmd.Flags().BoolVar(&f.all, "all", false, "list what is right, too")
	cmd.Flags().VarP(&f.format, "output", "o", "table, json or jsonl")
	cmd.Flags().StringVar(&f.report, "report", "", "write a page to mail to this `FILE`, which ends in .md or .html")
	cmd.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "show whole messages on a terminal, too")
	return judging(cmd)
}

func (f *scanFlags) run(cmd *cobra.Command, registry string) (err error) {
	cfg, err := f.config(registry, time.Now())
	if err != nil {
		return err
	}
	var page *scanPage
	if f.report != "" {
		if page, err = newScanPage(f.report); err != nil {
			return err
		}
	}
	if err := f.registry.read(cmd.InOrStdin()); err != nil {
		return err
	}
	cfg.Registry.Username, cfg.Registry.Password = f.registry.username, f.registry.password
	store, err := f.store(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer closing(&err, store.Close)
	cfg.Store = store
	return f.scan(cmd, cfg, page)
}

// config returns what the flags say.
func (f *scanFlags) config(registry string, now time.Time) (cfg scan.Config, err error) {
	host, plain, err := registryHost(registry)
	if err != nil {
		return cfg, err
	}
	if f.jobs < 1 {
		return cfg, fmt.Errorf("--jobs %d: at least 1 layer must be read at once", f.jobs)
	}
	cfg = scan.Config{
		Registry: remote.Config{
			Host:     host,
			Insecure: f.registry.insecure || plain,
			Jobs:     f.jobs,
			Rate:     int64(f.rate),
		},
		Repositories: f.repos,
		Direct:       f.direct,
		DryRun:       f.dryRun,
	}
	if err := cfg.Repositories.Check(); err != nil {
		return cfg, fmt.Errorf("--repo: %w", err)
	}
	cfg.Since, err = parseSince(f.since, now)
	return cfg, err
}

func (f *scanFlags) store(stderr io.Writer) (index.Store, error) {
	if _, err := os.Stat(f.index); f.dryRun && errors.Is(err, fs.ErrNotExist) {
		return index.NewMemory(), nil // what only looks makes no file
	}
	store, err := index.OpenBolt(index.BoltConfig{Path: f.index, OnDamage: func(d index.Damage) { writeDamage(stderr, d) }})
	if err != nil {
		return nil, fmt.Errorf("--index: %w", err)
	}
	fmt.Fprintf(stderr, "what is learned is kept in %s\n", f.index)
	return store, nil
}

// scan runs to the end and prints.
func (f *scanFlags) scan(cmd *cobra.Command, cfg scan.Config, page *scanPage) error {
	out := newScanOutput(cmd.OutOrStdout(), f)
	status := newScanStatus(cmd.ErrOrStderr(), f.interval)
	cfg.Interval, cfg.OnProgress = status.interval, status.progress
	cfg.OnResult = func(r scan.Result) error {
		if page != nil {
			page.add(r)
		}
		if !f.listed(r) {
			return nil
		}
		status.clear()
		return out.result(r)
	}
	sum, err := scan.Run(cmd.Context(), cfg)
	status.clear()
	if err == nil && sum.Repositories == 0 && len(f.repos) > 0 {
		err = fmt.Errorf("no repository matches --repo %s", strings.Join(f.repos, " --repo "))
	}
	began := sum.Tags > 0 || sum.Undecided > 0 || err == nil
	if began {
		err = firstError(err, out.end(sum))
		fmt.Fprintln(cmd.ErrOrStderr(), summaryLine(sum))
	}
	if page != nil && began {
		err = firstError(err, page.write(sum))
	}
	return scanExit(sum, err)
}

// listed reports whether a result is to be shown.
func (f *scanFlags) listed(r scan.Result) bool {
	switch r.Outcome {
	case scan.Right:
		return f.all
	case scan.Planned:
		return f.all || r.ToRead != nil && r.ToRead.Layers > 0
	}
	return true
}

// firstError returns the first that is one: errors have one line.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// scanExit returns how to exit.
func scanExit(sum scan.Summary, err error) error {
	switch {
	case sum.False > 0:
		return &exitError{exitMismatch, err}
	case err != nil || sum.Undecided > 0:
		return &exitError{exitUndecided, err}
	}
	return nil
}

// registryHost returns the host of a registry, and whether its URL says plain
// HTTP.
func registryHost(arg string) (host string, plain bool, err error) {
	text := arg
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return "", false, fmt.Errorf("%q is not a registry; write HOST[:PORT] or its URL", arg)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", false, fmt.Errorf("%q is more than a registry; choose its repositories with --repo", arg)
	}
	return u.Host, u.Scheme == "http", nil
}

// parseSince returns the time that --since says.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("--since: %q is not a time; write one such as 30d, 12h, 2026-01-31 or 2026-01-31T08:00:00Z", text)
}
