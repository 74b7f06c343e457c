package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/index"
)

// indexPage is how many facts are read at once.
const indexPage = 1000

func newIndexStat(at *indexPlace) *cobra.Command {
	var out indexOutput
	cmd := &cobra.Command{
		Use:     "stat",
		Short:   "Say how much the DiffID index holds",
		Long:    "Stat prints the number of facts, and the size of the file in bytes.",
		Example: "  proxy index stat\n  proxy index stat -o json --file data/diffids.db",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return at.read(cmd, func(path string, s index.Store) error {
				st, err := s.Stat(cmd.Context())
				if err != nil {
					return err
				}
				return out.figures(cmd.OutOrStdout(), struct {
					Path  string `json:"path"`
					Facts int64  `json:"facts"`
					Bytes int64  `json:"bytes"`
				}{path, st.Facts, st.SizeBytes})
			})
		},
	}
	out.add(cmd, formatTable, formatJSON)
	return cmd
}

func newIndexList(at *indexPlace) *cobra.Command {
	var out indexOutput
	var n int64
	var after string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the facts of the DiffID index",
		Long: `List prints the facts in the order of their digests: all of them, or -n of
them, beginning behind the digest --after. The JSON is that of /v2/_diffids.`,
		Example: "  proxy index list -n 20\n  proxy index list -o jsonl | jq -r 'select(.problem)|.digest'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("number") && n < 1 {
				return fmt.Errorf("-n %d: want at least 1", n)
			}
			return at.read(cmd, func(_ string, s index.Store) error {
				w := out.records(cmd.OutOrStdout())
				if err := eachFact(cmd.Context(), s, digest.Digest(after), n, func(f verify.Fact) error { return w.write(api.NewRecord(f)) }); err != nil {
					return err
				}
				return w.close(nil)
			})
		},
	}
	cmd.Flags().Int64VarP(&n, "number", "n", 0, "print at most this `NUMBER` of facts (default all)")
	cmd.Flags().StringVar(&after, "after", "", "begin behind this `DIGEST`, or the beginning of one")
	out.addRecords(cmd)
	return cmd
}

// eachFact calls fn with up to n facts behind after, or with all if n is 0.
func eachFact(ctx context.Context, s index.Store, after digest.Digest, n int64, fn func(verify.Fact) error) error {
	for left := n; n == 0 || left > 0; {
		page := indexPage
		if n > 0 {
			page = int(min(left, indexPage))
		}
		facts, err := s.List(ctx, after, page)
		if err != nil {
			return err
		}
		for _, f := range facts {
			if err := fn(f); err != nil {
				return err
			}
			after = f.Digest
		}
		if left -= int64(len(facts)); len(facts) < page {
			return nil
		}
	}
	return nil
}

func newIndexGet(at *indexPlace) *cobra.Command {
	var out indexOutput
	cmd := &cobra.Command{
		Use:   "get DIGEST...",
		Short: "Print the facts about some blobs",
		Long: `Get prints what is known about the blobs with these digests. It exits 1 if
one of them is unknown: that says nothing about the blob, only that nobody
hashed it yet. The JSON is that of /v2/_diffids?digest=DIGEST.`,
		Example: "  proxy index get -o json sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			for _, arg := range args {
				if _, err := digest.Parse(arg); err != nil {
					return fmt.Errorf("%q is not a digest; write one such as sha256:<64 hexadecimal digits>", arg)
				}
			}
			return at.read(cmd, func(_ string, s index.Store) error {
				return getFacts(cmd.Context(), s, args, out.records(cmd.OutOrStdout()))
			})
		},
	}
	out.addRecords(cmd)
	return cmd
}

func getFacts(ctx context.Context, s index.Store, digests []string, w recordWriter) error {
	var unknown []string
	for _, d := range digests {
		f, err := s.Get(ctx, digest.Digest(d))
		switch {
		case errors.Is(err, verify.ErrUnknown):
			unknown = append(unknown, d)
			continue
		case err != nil:
			return err
		}
		if err := w.write(api.NewRecord(f)); err != nil {
			return err
		}
	}
	if err := w.close(unknown); err != nil {
		return err
	}
	if len(unknown) > 0 {
		return fmt.Errorf("unknown: %s", strings.Join(unknown, ", "))
	}
	return nil
}
