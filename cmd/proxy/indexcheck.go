package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"diffgate/verify/index"
)

func newIndexCheck(at *indexPlace) *cobra.Command {
	var out indexOutput
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read all of the DiffID index and name what is damaged",
		Long: `Check reads every record, tries its checksum and that it is found where it
belongs: facts by digest and by DiffID, judgements by manifest and by config,
other digests of blobs, marks of wrong blobs. It names each that is damaged on
standard error, exits 1 if there is one, and changes nothing.

What is damaged counts as unknown and is learned again when it is needed. To be
rid of it, compact the DiffID index, or export it and import that into a new
file. STRAYS are entries that lead nowhere, which an interrupted import or a
compaction leaves; FOREIGN are records of another version. Both are harmless.`,
		Example: "  proxy index check\n  proxy index check --file backup/diffids.db",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			path, _, err := at.find()
			if err != nil {
				return err
			}
			tally, err := index.Check(cmd.Context(), index.BoltConfig{Path: path, LockTimeout: indexWait}, tellDamage(cmd))
			if err != nil {
				return indexAdvice(path, "", err)
			}
			if err := out.figures(cmd.OutOrStdout(), checkTally(tally)); err != nil {
				return err
			}
			if tally.Damaged > 0 {
				return fmt.Errorf("%s is damaged: %d reports, see above", path, tally.Damaged)
			}
			return nil
		},
	}
	out.add(cmd, formatTable, formatJSON)
	return cmd
}

// A checkTally is an index.CheckTally as it is printed.
type checkTally struct {
	Facts      int64 `json:"facts"`
	DiffIDs    int64 `json:"diff_ids"`
	Judgements int64 `json:"judgements"`
	Twins      int64 `json:"twins"`
	Links      int64 `json:"links"`
	Wrong      int64 `json:"wrong"`
	Strays     int64 `json:"strays"`
	Foreign    int64 `json:"foreign"`
	Damaged    int64 `json:"damaged"`
}

func newIndexCompact(at *indexPlace) *cobra.Command {
	var out indexOutput
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Write the DiffID index anew, without free space and damage",
		Long: `Compact writes the file anew, without free pages and without records that are
damaged, which it names, and prints its size in bytes before and after. It needs
room for both. Should it be interrupted, the old file is in place or the new.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			path, _, err := at.find()
			if err != nil {
				return err
			}
			before, after, err := index.Compact(cmd.Context(),
				index.BoltConfig{Path: path, LockTimeout: indexWait, OnDamage: tellDamage(cmd)})
			if err != nil {
				return indexAdvice(path, "", err)
			}
			return out.figures(cmd.OutOrStdout(), struct {
				Path   string `json:"path"`
				Before int64  `json:"bytes_before"`
				After  int64  `json:"bytes_after"`
			}{path, before, after})
		},
	}
	out.add(cmd, formatTable, formatJSON)
	return cmd
}
