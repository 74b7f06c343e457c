package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/settings"
	"diffgate/verify/index"
)

// indexWait is how long the commands of index wait for another process that has
// the file: one like them may be about to end, a proxy is not.
const indexWait = 500 * time.Millisecond

func newIndex() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Look at the DiffID index, copy, check or compact it",
		Long: `The commands of index work on the file of the DiffID index while no proxy
serves: on index.bolt.path of the settings that serve would read, or on --file.
One that runs has the file to itself, and answers under /v2/_diffids:

  curl -H 'Accept: application/x-ndjson' http://HOST/v2/_diffids >export.jsonl

Only import makes a file, and only import and compact change one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var at indexPlace
	cmd.PersistentFlags().StringVar(&at.file, "file", "", "the `FILE` of the DiffID index, in place of that of the settings")
	cmd.PersistentFlags().StringVar(&at.config, "config", "", "read the settings in `CONFIG`, as serve CONFIG does")
	cmd.MarkFlagsMutuallyExclusive("file", "config")
	cmd.AddCommand(newIndexStat(&at), newIndexList(&at), newIndexGet(&at), newIndexExport(&at), newIndexImport(&at),
		newIndexCheck(&at), newIndexCompact(&at))
	return cmd
}

// An indexPlace says where the DiffID index is.
type indexPlace struct {
	file, config string // flags
}

// find returns the path of the file, and the URL of the proxy that would have it.
func (p *indexPlace) find() (path, url string, err error) {
	if p.file != "" {
		return p.file, "http://HOST", nil
	}
	s, _, err := settings.Load(p.config)
	if err != nil {
		return "", "", err
	}
	scheme := "http://"
	if s.HTTP.TLS.Certificate != "" {
		scheme = "https://"
	}
	return s.Index.Bolt.Path, scheme + local(s.HTTP.Addr), nil
}

// read runs fn on a store that is only read.
func (p *indexPlace) read(cmd *cobra.Command, fn func(path string, s index.Store) error) error {
	path, url, err := p.find()
	if err != nil {
		return err
	}
	s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: indexWait, ReadOnly: true, OnDamage: tellDamage(cmd)})
	if err != nil {
		return indexAdvice(path, url, err)
	}
	err = indexAdvice(path, url, fn(path, s))
	return cmp.Or(err, s.Close())
}

// tellDamage returns what tells of damage to a DiffID index.
func tellDamage(cmd *cobra.Command) func(index.Damage) {
	return func(d index.Damage) { writeDamage(cmd.ErrOrStderr(), d) }
}

func writeDamage(w io.Writer, d index.Damage) {
	about := ""
	if d.Digest != "" {
		about = " " + d.Digest.String() + ":"
	}
	fmt.Fprintf(w, "proxy: damage in %s:%s %v\n", d.Path, about, d.Err)
	if d.Moved != "" {
		fmt.Fprintf(w, "proxy: all of %s was moved to %s, and an empty DiffID index took its place\n", d.Path, d.Moved)
	}
}

// indexAdvice adds what to do to an error about the file. With an empty url, the
// proxy that has it cannot be asked instead.
func indexAdvice(path, url string, err error) error {
	used, isUsed := errors.AsType[*index.InUseError](err)
	switch {
	case isUsed && url != "":
		return fmt.Errorf("%s is in use by %s; ask the running proxy: curl -H 'Accept: application/x-ndjson' %s/v2/_diffids",
			path, used.Holder(), url)
	case isUsed:
		return fmt.Errorf("%s is in use by %s; stop it first", path, used.Holder())
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no DiffID index at %s; name it with --file, or the settings with --config", path)
	case errors.Is(err, index.ErrDamaged):
		return fmt.Errorf("%w; it was left as it is, and proxy serve will move it aside and start afresh", err)
	}
	return err
}
