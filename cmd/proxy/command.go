package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/settings"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "proxy",
		Short: "Keep a container registry free of images whose config lies about their layers",
		Long: `Proxy stands in front of a container registry. It hashes every blob that
passes, remembers which digest unpacks to which diff_id, answers queries about
that under /v2/_diffids, and refuses manifests whose config does not match
their layers.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServe(), newImage(), newVerify(), newLookup(), newScan(), newRepair(), newIndex())
	root.AddCommand(newConfig(), newHealthcheck(), newVersion(), newMan())
	return root
}

// configHelp says where settings come from; several commands take them.
const configHelp = `CONFIG is a YAML file; without it, the file that DIFFGATE_CONFIGURATION_PATH
names, else config.yml in the working directory, else the defaults. Variables
override the file: DIFFGATE_UPSTREAM_URL sets upstream.url.`

// load reads the settings for a command that takes at most one argument.
func load(args []string) (settings.Settings, settings.Origin, error) {
	path := ""
	if len(args) > 0 {
		path = args[0]
	}
	return settings.Load(path)
}

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at settings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newConfigPrint(), &cobra.Command{
		Use:   "check [CONFIG]",
		Short: "Check a settings file without serving",
		Long:  "Check reads the settings as serve does and says what is wrong with them.\n\n" + configHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, origin, err := load(args)
			if err != nil {
				return err
			}
			name := origin.File
			if name == "" {
				name = "built-in defaults"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
			return nil
		},
	})
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			version, revision := buildVersion()
			fmt.Fprintf(cmd.OutOrStdout(), "diffgate %s %s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// buildVersion returns what the toolchain stamped into the program.
func buildVersion() (version, revision string) {
	version, revision = "(devel)", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}
