package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/index"
)

func newIndexExport(at *indexPlace) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print all facts for another DiffID index",
		Long: `Export prints the facts as JSON, one on each line, and {"count":N} on the
last. A running proxy gives out the same:

  curl -H 'Accept: application/x-ndjson' http://HOST/v2/_diffids

Judgements, links and marks of wrong blobs are not exported; they are learned
again. A fact that is damaged is left out and named.`,
		Example: "  proxy index export >export.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.read(cmd, func(_ string, s index.Store) error {
				out := bufio.NewWriter(cmd.OutOrStdout())
				w := api.NewExportWriter(out)
				if err := eachFact(cmd.Context(), s, "", 0, w.Write); err != nil {
					return err
				}
				return cmp.Or(w.Close(), out.Flush())
			})
		},
	}
}

func newIndexImport(at *indexPlace) *cobra.Command {
	var out indexOutput
	cmd := &cobra.Command{
		Use:   "import [FILE|-]",
		Short: "Add the facts of an export to the DiffID index",
		Long: `Import reads an export, from standard input without FILE, and adds its facts
with their evidence: how and when each was learned. It makes the DiffID index
if there is none.

Whoever can write an export can make the gate believe it: an image that lies
passes if the facts about its layers lie too. Import only what you trust as
you trust the proxy that wrote it, and keep it as you keep the DiffID index.

A fact that contradicts a known one is refused and named, and the others are
added; import then exits 1. A line that is no record ends it, and so does an
export whose last line does not count the others, as it was cut; what came
before stays added. To import an export again is no error.`,
		Example: "  proxy index import export.jsonl\n" +
			"  curl -fsS -H 'Accept: application/x-ndjson' http://HOST/v2/_diffids | proxy index import",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			in, name := io.NopCloser(cmd.InOrStdin()), "standard input"
			if len(args) > 0 && args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				in, name = file, args[0]
			}
			defer in.Close()
			return importExport(cmd, at, &out, in, name)
		},
	}
	out.add(cmd, formatTable, formatJSON)
	return cmd
}

// importExport adds the facts that are read from in, which has a name for
// messages, and prints what became of them.
func importExport(cmd *cobra.Command, at *indexPlace, out *indexOutput, in io.Reader, name string) error {
	path, _, err := at.find()
	if err != nil {
		return err
	}
	s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: indexWait, OnDamage: tellDamage(cmd)})
	if err != nil {
		return indexAdvice(path, "", err)
	}
	tally, err := putExport(cmd.Context(), s, in, func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "proxy: refused: %v\n", err) })
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	// What was added is told whatever ended it.
	return cmp.Or(err, s.Close(), out.figures(cmd.OutOrStdout(), importTally(tally)), refusedError(name, tally.Refused))
}

// An importTally is an index.Tally as it is printed.
type importTally struct {
	Stored  int64 `json:"stored"`
	Known   int64 `json:"known"`
	Refused int64 `json:"refused"`
}

func refusedError(name string, n int64) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s: facts refused: %d, see above", name, n)
}

// putExport puts the facts of an export as far as it can be read.
func putExport(ctx context.Context, s index.Store, in io.Reader, refused func(error)) (index.Tally, error) {
	r := api.NewExportReader(in)
	var ended error
	tally, err := s.PutAll(ctx, func(yield func(verify.Fact) bool) {
		for {
			f, err := r.Next()
			if err != nil {
				ended = err
				return
			}
			if !yield(f) {
				return
			}
		}
	}, refused)
	if err == nil && !errors.Is(ended, io.EOF) {
		err = ended
	}
	return tally, err
}
