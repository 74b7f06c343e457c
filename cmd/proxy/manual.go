package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man [DIR]",
		Short: "Write the manual pages",
		Long: `Man writes a manual page for each command to the folder DIR, which it makes if
there is none; without DIR, that of proxy to standard output. The pages bear
the date of today, or that in SOURCE_DATE_EPOCH.`,
		Example: "  proxy man | man -l -\n  proxy man /usr/local/share/man/man1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, _ := buildVersion()
			header := &doc.GenManHeader{Section: "1", Source: "Diffgate " + version, Manual: "Diffgate Manual"}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if len(args) == 0 {
				return doc.GenMan(root, header, cmd.OutOrStdout())
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return doc.GenManTree(root, header, args[0])
		},
	}
}
