package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
	"diffgate/proxy/remote"
)

// lookupFlags are those of proxy lookup.
type lookupFlags struct {
	registries
	host    string
	format  show.Format
	reverse bool
	quiet   bool
	noTrunc bool
}

func newLookup() *cobra.Command {
	f := lookupFlags{format: show.Table}
	cmd := &cobra.Command{
		Use:   "lookup [DIGEST...]",
		Short: "Ask a running proxy for the diff_id of a digest, or the reverse",
		Long: `Lookup asks the DiffID index of a running Diffgate what blobs unpack to; with
--reverse, which blobs unpack to a diff_id. It takes whole digests, with or
without "sha256:", and of the digests of blobs also their first 12 digits or
more. Without arguments, or for "-", it reads digests from standard input.

To ask is for those who may list the registry's catalog.

` + credentialsHelp + `

It exits 0 if all are known, 1 if one is not, and 2 if it could not ask.`,
		Example: `  proxy lookup sha256:04e4ca9eb744e67aecca16e96885f8ba10fbd5831472dbdf306c0882db4aea0c
  proxy lookup 04e4ca9eb744
  proxy lookup --reverse -q sha256:c51ca505f58b74e2f8d86f6fae4db7ff98e98547d68e311a8578289a1b71f1ba
  skopeo inspect docker://localhost:5000/app:1.4 | jq -r '.Layers[]' | proxy lookup -o jsonl`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.flags.add(cmd)
	cmd.Flags().StringVar(&f.host, "url", "localhost:5000", "the proxy: host[:port], or http(s)://host[:port]")
	cmd.Flags().VarP(&f.format, "output", "o", "table, json or jsonl")
	cmd.Flags().BoolVarP(&f.reverse, "reverse", "r", false, "the digests are diff_ids: find the blobs")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only the diff_ids, or in reverse the digests")
	cmd.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "show whole digests on a terminal, too")
	return judging(cmd)
}

func (f *lookupFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.flags.read(cmd.InOrStdin()); err != nil {
		return err
	}
	if f.flags.passwordStdin && (len(args) == 0 || slices.Contains(args, "-")) {
		return errors.New("--password-stdin: standard input has the password, so name the digests")
	}
	host, plain, err := hostOf(f.host)
	if err != nil {
		return err
	}
	f.flags.insecure = f.flags.insecure || plain
	client, err := f.client(cmd.Context(), host)
	if err != nil {
		return err
	}
	w := lookupWriter{f: f, out: cmd.OutOrStdout(), style: show.StyleFor(cmd.OutOrStdout(), f.noTrunc), page: api.Page{DiffIDs: []api.Record{}}}
	ask := func(batch []string) error {
		page, err := f.ask(cmd.Context(), client, batch)
		if err == nil {
			err = w.add(page)
		}
		return err
	}
	if err := inBatches(args, cmd.InOrStdin(), ask); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	for _, u := range w.page.Unknown {
		fmt.Fprintf(cmd.ErrOrStderr(), "proxy: %s: unknown\n", show.Printable(u))
	}
	if len(w.page.Unknown) > 0 {
		return &exitError{code: exitMismatch}
	}
	return nil
}

// hostOf returns the host and port of a URL, or what is one already. Plain is
// true when the URL asks for plain HTTP.
func hostOf(s string) (host string, plain bool, err error) {
	if !strings.Contains(s, "://") {
		return s, false, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" && u.Path != "/v2/" {
		return "", false, fmt.Errorf("%q is not the URL of a registry: want http://HOST[:PORT]", s)
	}
	return u.Host, u.Scheme == "http", nil
}

const (
	maxBatch = 100 // digests that are asked for at once
	maxLine  = 512 // bytes of one from standard input
)

// inBatches gives out digests: the arguments, and standard input where they say
// so.
func inBatches(args []string, stdin io.Reader, ask func([]string) error) error {
	if len(args) == 0 {
		args = []string{"-"}
	}
	var batch []string
	add := func(s string) error {
		if batch = append(batch, s); len(batch) < maxBatch {
			return nil
		}
		full := batch
		batch = nil
		return ask(full)
	}
	for _, a := range args {
		if a != "-" {
			if err := add(a); err != nil {
				return err
			}
			continue
		}
		words := bufio.NewScanner(stdin)
		words.Buffer(nil, maxLine)
		words.Split(bufio.ScanWords)
		for words.Scan() {
			if err := add(words.Text()); err != nil {
				return err
			}
		}
		if err := words.Err(); err != nil {
			return fmt.Errorf("read digests from standard input: %w", err)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return ask(batch)
}

// ask asks for whole digests at once and for prefixes one by one.
func (f *lookupFlags) ask(ctx context.Context, c *remote.Client, words []string) (api.Page, error) {
	var page api.Page
	var whole []digest.Digest
	for _, word := range words {
		d, prefix, err := parseDigest(word)
		switch {
		case err != nil:
			return page, err
		case prefix != "" && f.reverse:
			return page, fmt.Errorf("%s: --reverse takes whole diff_ids", word)
		case prefix != "":
			found, err := byPrefix(ctx, c, prefix)
			if err != nil {
				return page, err
			}
			if found.DiffIDs == nil {
				page.Unknown = append(page.Unknown, word)
			}
			page.DiffIDs = append(page.DiffIDs, found.DiffIDs...)
		default:
			whole = append(whole, d)
		}
	}
	if len(whole) == 0 {
		return page, nil
	}
	find := c.Records
	if f.reverse {
		find = c.RecordsOf
	}
	found, err := find(ctx, whole...)
	if err != nil {
		return page, err
	}
	page.DiffIDs, page.Unknown = append(page.DiffIDs, found.DiffIDs...), append(page.Unknown, found.Unknown...)
	if f.reverse {
		page.Unknown = missing(whole, found.DiffIDs)
	}
	return page, nil
}

// missing returns the diff_ids that no blob unpacks to.
func missing(asked []digest.Digest, found []api.Record) []string {
	has := map[digest.Digest]bool{}
	for _, r := range found {
		has[r.DiffID] = true
	}
	var out []string
	for _, d := range asked {
		if !has[d] {
			out = append(out, d.String())
		}
	}
	return out
}

// minPrefix is what docker cuts digests to.
const minPrefix = 12

// parseDigest returns a whole digest, or the first digits of one.
func parseDigest(word string) (whole digest.Digest, prefix string, err error) {
	algorithm, hex, ok := strings.Cut(word, ":")
	if !ok {
		algorithm, hex = "sha256", word
	}
	if d, err := digest.Parse(algorithm + ":" + hex); err == nil {
		return d, "", nil
	}
	if algorithm != "sha256" || len(hex) < minPrefix || len(hex) >= 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("%q is not a digest, nor the first 12 digits or more of one", word)
	}
	return "", algorithm + ":" + hex, nil
}

// maxAmbiguous is how many blobs may begin with the same digits.
const maxAmbiguous = 10

var errAmbiguous = errors.New("more than 10 digests begin so: give more digits")

// byPrefix returns the records whose digest begins with a prefix.
func byPrefix(ctx context.Context, c *remote.Client, prefix string) (api.Page, error) {
	page, err := c.RecordsAfter(ctx, prefix, maxAmbiguous+1)
	if err != nil {
		return page, err
	}
	var out api.Page
	for _, r := range page.DiffIDs {
		if strings.HasPrefix(r.Digest.String(), prefix) {
			out.DiffIDs = append(out.DiffIDs, r)
		}
	}
	if len(out.DiffIDs) > maxAmbiguous {
		return out, fmt.Errorf("%s: %w", prefix, errAmbiguous)
	}
	return out, nil
}

// A lookupWriter prints records: lines at once, a table or document at the end.
type lookupWriter struct {
	f     *lookupFlags
	out   io.Writer
	style show.Style
	page  api.Page
}

func (w *lookupWriter) add(page api.Page) error {
	w.page.Unknown = append(w.page.Unknown, page.Unknown...)
	if !w.f.quiet && w.f.format != show.JSONL {
		w.page.DiffIDs = append(w.page.DiffIDs, page.DiffIDs...)
		return nil
	}
	for _, r := range page.DiffIDs {
		var err error
		switch {
		case !w.f.quiet:
			err = show.WriteLine(w.out, r)
		case w.f.reverse:
			_, err = fmt.Fprintln(w.out, show.Printable(r.Digest.String()))
		default:
			_, err = fmt.Fprintln(w.out, show.Printable(dash(r.DiffID.String())))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *lookupWriter) end() error {
	switch {
	case w.f.quiet, w.f.format == show.JSONL:
		return nil
	case w.f.format == show.JSON:
		return show.WriteJSON(w.out, w.page)
	}
	rows := show.Rows{Header: []string{"DIGEST", "DIFF_ID", "ENCODING", "STORED", "UNPACKED", "LEARNED BY"}}
	for _, r := range w.page.DiffIDs {
		unpacked := "-"
		if r.UnpackedSize != nil {
			unpacked = show.Size(*r.UnpackedSize)
		}
		diffID := w.style.Digest(r.DiffID.String())
		if diffID == "" {
			diffID = r.Problem
		}
		rows.Add(w.style.Digest(r.Digest.String()), diffID, r.Encoding, show.Size(r.Size), unpacked, r.Source)
	}
	if len(w.page.DiffIDs) == 0 {
		return nil
	}
	return rows.Write(w.out, w.style)
}
