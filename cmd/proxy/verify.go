package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/show"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/layout"
)

// verifyFlags are those of proxy verify.
type verifyFlags struct {
	registries
	format       show.Format
	platform     string
	allPlatforms bool
	index        string
	layouts      []string
	archives     []string
	noTrunc      bool
	quiet        bool
}

func newVerify() *cobra.Command {
	f := verifyFlags{format: show.Table, platform: thisPlatform()}
	cmd := &cobra.Command{
		Use:   "verify [REF...]",
		Short: "Judge images in any registry or file",
		Long: `Verify reads the layers of images, in any registry, OCI layout or docker archive,
and says whether their configs tell the truth. It needs no proxy, and keeps
nothing on disk.

Of an image index it judges the image for --platform; with --all-platforms all
that it names.

` + credentialsHelp + `

It exits 0 if all is right, 1 if an image is false, and 2 if something could not
be decided.`,
		Example: `  proxy verify debian:12
  proxy verify --all-platforms -o json registry.example.com/app:1.4
  proxy verify --oci-layout out:1.4
  docker save app:1.4 | proxy verify --docker-archive -
  proxy verify --index facts.db localhost:5000/app:1 localhost:5000/app:2`,
		Args: func(_ *cobra.Command, refs []string) error {
			if len(refs)+len(f.layouts)+len(f.archives) == 0 {
				return errors.New("name an image, or a file with --oci-layout or --docker-archive")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.flags.add(cmd)
	cmd.Flags().StringArrayVar(&f.layouts, "oci-layout", nil, "judge the images of this OCI layout: DIR, DIR:TAG or DIR@DIGEST")
	cmd.Flags().StringArrayVar(&f.archives, "docker-archive", nil, "judge the images of this file, which docker save or the like wrote; - is standard input")
	cmd.Flags().VarP(&f.format, "output", "o", "table, json or jsonl")
	cmd.Flags().StringVar(&f.platform, "platform", f.platform, "the image of an image index to judge: os/arch[/variant]")
	cmd.Flags().BoolVar(&f.allPlatforms, "all-platforms", false, "judge all images of an image index")
	cmd.Flags().StringVar(&f.index, "index", "", "keep facts in this DiffID index; layers that it knows are not read")
	cmd.Flags().IntVar(&f.cfg.Jobs, "jobs", 4, "layers read at once")
	cmd.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "show whole digests on a terminal, too")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print nothing, only exit")
	return judging(cmd)
}

func (f *verifyFlags) run(cmd *cobra.Command, refs []string) (err error) {
	if f.flags.passwordStdin && slices.Contains(f.archives, layout.Stdin) {
		return errors.New("--password-stdin: standard input has the password, so name a file for --docker-archive")
	}
	if f.cfg.Jobs < 1 {
		return fmt.Errorf("--jobs %d: at least 1", f.cfg.Jobs)
	}
	if err := f.flags.read(cmd.InOrStdin()); err != nil {
		return err
	}
	facts, err := openFacts(f.index, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() {
		if cerr := facts.Close(); err == nil {
			err = cerr
		}
	}()
	f.cfg.Facts = facts
	out := cmd.OutOrStdout()
	if f.quiet {
		out = io.Discard
	}
	progress := cmd.ErrOrStderr()
	if f.quiet {
		progress = io.Discard
	}
	m := startMeter(progress)
	f.cfg.OnRead = m.add
	defer m.end()
	var all []judged
	judge := func(j judged) error {
		all = append(all, j)
		if f.format == show.JSONL {
			return show.WriteLine(out, j)
		}
		return nil
	}
	if err := f.judgeAll(cmd.Context(), refs, cmd.InOrStdin(), judge); err != nil {
		return err
	}
	m.end()
	switch f.format {
	case show.JSON:
		err = show.WriteJSON(out, map[string][]judged{"images": all})
	case show.Table:
		err = writeVerdicts(out, show.StyleFor(out, f.noTrunc), all)
	}
	if err != nil {
		return err
	}
	return exitWith(all)
}

// judgeAll judges what the command names, in order, and tells each answer.
func (f *verifyFlags) judgeAll(ctx context.Context, refs []string, stdin io.Reader, tell func(judged) error) error {
	for _, ref := range refs {
		i, err := f.image(ctx, ref)
		if err := tell(f.judge(ctx, ref, i, err)); err != nil {
			return err
		}
	}
	for _, dir := range f.layouts {
		images, open, err := layoutImages(dir)
		err = errors.Join(f.judgeFile(ctx, dir, images, err, tell), closed(open))
		if err != nil {
			return err
		}
	}
	for _, file := range f.archives {
		images, err := archiveImages(ctx, file, stdin)
		if err := f.judgeFile(ctx, file, images, err, tell); err != nil {
			return err
		}
	}
	return nil
}

// judgeFile judges the images of a file that may not have been read.
func (f *verifyFlags) judgeFile(ctx context.Context, name string, images []image, err error, tell func(judged) error) error {
	if err != nil {
		return tell(undecided(name, err))
	}
	for _, i := range images {
		if err := tell(f.judge(ctx, i.name, i, nil)); err != nil {
			return err
		}
	}
	return nil
}

func closed(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// judge judges an image that may not have been found.
func (f *verifyFlags) judge(ctx context.Context, name string, i image, err error) judged {
	if err == nil && !f.allPlatforms {
		i, err = i.forPlatform(ctx, f.platform)
	}
	if err != nil {
		return undecided(name, err)
	}
	j, _ := i.judge(ctx)
	return j
}

// undecided is the answer about an image that cannot be read.
func undecided(name string, err error) judged {
	j := judged{Image: name}
	j.fail(err)
	return j
}

// openFacts opens the DiffID index that facts are kept in; without a file, one
// that lives as long as the command. It tells of damage on stderr.
func openFacts(file string, stderr io.Writer) (index.Store, error) {
	if file == "" {
		return index.NewMemory(), nil
	}
	store, err := index.OpenBolt(index.BoltConfig{Path: file, OnDamage: func(d index.Damage) { writeDamage(stderr, d) }})
	if err != nil {
		return nil, fmt.Errorf("--index: %w", err)
	}
	return store, nil
}

// exitWith returns nil if all is right, and otherwise the gravest exit code:
// what is false counts more than what could not be decided.
func exitWith(all []judged) error {
	code := 0
	for _, j := range all {
		if j.code == exitMismatch || code == 0 {
			code = j.code
		}
	}
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// writeVerdicts prints a line for each image, and below what is to be said.
func writeVerdicts(w io.Writer, s show.Style, all []judged) error {
	rows := show.Rows{Header: []string{"IMAGE", "DIGEST", "PLATFORM", "LAYERS", "VERDICT"}}
	for _, j := range all {
		rows.Add(j.Image, dash(s.Digest(j.Digest.String())), dash(j.Platform), dash(count(len(j.Layers))), verdictCell(j.Verdict, j.Error))
		for _, c := range j.Manifests {
			rows.Add("  "+dash(c.Platform), s.Digest(c.Digest.String()), dash(c.Platform), "-", verdictCell(c.Verdict, ""))
		}
	}
	if err := rows.Write(w, s); err != nil {
		return err
	}
	for _, j := range all {
		for _, said := range sentences(j) {
			if _, err := fmt.Fprintln(w, show.Printable(said)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sentences returns what is to be said of an image besides its verdict.
func sentences(j judged) []string {
	var out []string
	if j.Error != "" {
		out = append(out, "could not decide: "+j.Error)
	}
	warned := map[string]bool{}
	for _, w := range j.Warnings {
		warned[w] = true
		out = append(out, j.Image+": warning: "+w)
	}
	for _, f := range j.Findings {
		if !warned[f.Message] {
			out = append(out, j.Image+": "+f.Message)
		}
	}
	return out
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// verdictCell shows a verdict; what is false is also in capitals, for those who
// see no colours.
func verdictCell(v verify.Verdict, failed string) show.Cell {
	switch {
	case failed != "":
		return show.Cell{Text: "could not decide", Color: show.Yellow}
	case v == verify.Mismatch:
		return show.Cell{Text: "MISMATCH", Color: show.Red}
	case v == verify.Match:
		return show.Cell{Text: string(v), Color: show.Green}
	case v == verify.NotAnImage:
		return show.Cell{Text: "not an image"}
	}
	return show.Cell{Text: string(v), Color: show.Yellow}
}
