package main

import (
	"github.com/spf13/cobra"
)

func newConfigPrint() *cobra.Command {
	return &cobra.Command{
		Use:   "print [CONFIG]",
		Short: "Print the settings that serve would use",
		Long: `Print prints every setting as YAML, and behind each what set it: a line of the
file, a variable, or nothing, for a default. What may be a secret is masked as
***; the rest can be read as a settings file again.

` + configHelp,
		Example: "  proxy config print\n  DIFFGATE_LOG_LEVEL=debug proxy config print config.yml | grep -v '# default'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, origin, err := load(args)
			if err != nil {
				return err
			}
			return s.Print(cmd.OutOrStdout(), origin)
		},
	}
}
