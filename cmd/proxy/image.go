package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
	"diffgate/verify"
)

// imageFlags are those of proxy image.
type imageFlags struct {
	registries
	format   show.Format
	platform string
	read     bool
	noTrunc  bool
}

func newImage() *cobra.Command {
	f := imageFlags{format: show.Table}
	cmd := &cobra.Command{
		Use:   "image REF",
		Short: "Show the layers of an image with both their digests",
		Long: `Image shows what the manifest, the config and the layers of an image say of each
other: a table for each platform, and the verdict below.

It asks the DiffID index of a Diffgate in front of the registry; where there is
none, or where the index does not know all layers, it reads the layers.

  STORED, UNPACKED  bytes of the blob, and of the tar in it
  RATIO             of the two
  CONFIG DIFF_ID    what the config says that the layer unpacks to
  DIFF_ID           what it does unpack to
  CHAIN_ID          of this layer and those below it, computed

` + credentialsHelp + `

It exits 0 if all is right, 1 if an image is false, and 2 if something could not
be decided.`,
		Example: `  proxy image localhost:5000/app:1.4
  proxy image --platform linux/arm64 debian:12
  proxy image -o json localhost:5000/app:1.4 | jq '.images[].layers[].created_by'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.flags.add(cmd)
	cmd.Flags().VarP(&f.format, "output", "o", "table, json or jsonl")
	cmd.Flags().StringVar(&f.platform, "platform", "", "of an image index, show this image alone: os/arch[/variant]")
	cmd.Flags().BoolVar(&f.read, "read", false, "read the layers even if a DiffID index knows them")
	cmd.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "show all of digests and commands on a terminal, too")
	return judging(cmd)
}

// A shownImage is an image with what its config tells of its layers, in JSON too.
type shownImage struct {
	judged
	Source string       `json:"source,omitempty"` // index or layers
	Layers []shownLayer `json:"layers,omitempty"` // in place of those of the report
}

type shownLayer struct {
	api.Layer
	Ratio     float64 `json:"ratio,omitempty"`      // of the unpacked to the stored size
	CreatedBy string  `json:"created_by,omitempty"` // from the config's history
}

// The sources of what is shown.
const (
	sourceIndex  = "index"
	sourceLayers = "layers"
)

func (f *imageFlags) run(cmd *cobra.Command, ref string) error {
	m, err := f.begin(cmd)
	if err != nil {
		return err
	}
	defer m.end()
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	images, absent, err := f.images(ctx, ref)
	if err != nil {
		images, absent = nil, []judged{undecided(ref, err)}
	}
	var all []judged
	var shown []shownImage
	style := show.StyleFor(out, f.noTrunc)
	for n := range len(images) + len(absent) {
		var s shownImage
		if n < len(images) {
			s = f.show(ctx, images[n])
		} else {
			s.judged = absent[n-len(images)]
		}
		all, shown = append(all, s.judged), append(shown, s)
		if n == len(images)+len(absent)-1 {
			m.end()
		}
		switch f.format {
		case show.JSONL:
			err = show.WriteLine(out, s)
		case show.Table:
			err = s.write(out, style, n)
		}
		if err != nil {
			return err
		}
	}
	if f.format == show.JSON {
		if err := show.WriteJSON(out, map[string][]shownImage{"images": shown}); err != nil {
			return err
		}
	}
	return exitWith(all)
}

// images returns the images to show: one, or those of an image index; and what is
// to be said of those that cannot be read. Image indexes in an image index are
// shown as what they are.
func (f *imageFlags) images(ctx context.Context, ref string) (all []image, absent []judged, err error) {
	top, err := f.image(ctx, ref)
	if err == nil && f.platform != "" {
		top, err = top.forPlatform(ctx, f.platform)
	}
	if err != nil {
		return nil, nil, err
	}
	children := top.children()
	if len(children) == 0 {
		return []image{top}, nil, nil
	}
	for _, d := range children {
		i, err := top.child(ctx, d)
		if err != nil {
			absent = append(absent, undecided(ref, err))
			continue
		}
		all = append(all, i)
	}
	return all, absent, nil
}

func (f *imageFlags) show(ctx context.Context, i image) shownImage {
	s := shownImage{Source: sourceIndex}
	var known bool
	if !f.read {
		s.judged, known = i.known(ctx)
	}
	if !known {
		s.Source = sourceLayers
		s.judged, _ = i.judge(ctx)
	}
	commands := i.commands(ctx)
	for n, l := range s.judged.Layers {
		layer := shownLayer{Layer: l}
		if l.UnpackedSize != nil && l.Size > 0 {
			layer.Ratio = math.Round(100*float64(*l.UnpackedSize)/float64(l.Size)) / 100
		}
		if n < len(commands) {
			layer.CreatedBy = commands[n]
		}
		s.Layers = append(s.Layers, layer)
	}
	return s
}

// known asks the Diffgate in front of the registry. It returns false if there is
// none, or if it does not know all.
func (i image) known(ctx context.Context) (judged, bool) {
	if i.remote == nil {
		return judged{}, false
	}
	r, err := i.remote.Report(ctx, i.subject.Digest.String(), false)
	if err != nil || r.Verdict == verify.Unverified {
		return judged{}, false // the layers tell, or why they cannot be read
	}
	return judged{Image: i.name, Report: r, code: exitCode(r.Verdict)}, true
}

// commands returns what the config's history says made each layer. It is for
// show: where there is no history, or no sense in it, there is nothing.
func (i image) commands(ctx context.Context) []string {
	m, err := verify.ParseManifest(i.subject.MediaType, i.body)
	if err != nil || !m.MayBeImage() {
		return nil
	}
	body := m.Config.Data
	if body == nil {
		if body, err = i.repo.Config(ctx, m.Config); err != nil {
			return nil
		}
	}
	var config struct{ History []ocispec.History }
	if json.Unmarshal(body, &config) != nil {
		return nil
	}
	var out []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			out = append(out, strings.TrimPrefix(h.CreatedBy, "/bin/sh -c #(nop) "))
		}
	}
	return out
}

// write prints the image as the n-th.
func (s shownImage) write(w io.Writer, style show.Style, n int) error {
	if n > 0 {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	verdict := verdictCell(s.Verdict, s.Error)
	head := []string{show.Printable(s.Image), show.Printable(style.Digest(s.Digest.String()))}
	if s.Platform != "" {
		head = append(head, show.Printable(s.Platform))
	}
	if _, err := fmt.Fprintf(w, "%s  %s\n", strings.Join(head, "  "), style.Paint(verdict.Color, show.Printable(verdict.Text)+s.howMany())); err != nil {
		return err
	}
	if len(s.Layers) > 0 {
		rows := show.Rows{Header: []string{"#", "DIGEST", "ENCODING", "STORED", "UNPACKED", "RATIO", "CONFIG DIFF_ID", "DIFF_ID", "CHAIN_ID", "STATUS", "CREATED BY"}}
		for _, l := range s.Layers {
			l.add(&rows, style)
		}
		if err := rows.Write(w, style); err != nil {
			return err
		}
	}
	for _, said := range sentences(s.judged) {
		if _, err := fmt.Fprintln(w, show.Printable(said)); err != nil {
			return err
		}
	}
	return nil
}

// howMany says how many layers are not as the config says.
func (s shownImage) howMany() string {
	bad := 0
	for _, l := range s.Layers {
		if l.Status != verify.StatusMatch {
			bad++
		}
	}
	if bad == 0 || s.Verdict == verify.NotAnImage {
		return ""
	}
	return fmt.Sprintf(" (%d of %d layers)", bad, len(s.Layers))
}

func (l shownLayer) add(rows *show.Rows, style show.Style) {
	unpacked, ratio := "-", "-"
	if l.UnpackedSize != nil {
		unpacked = show.Size(*l.UnpackedSize)
		if l.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", l.Ratio)
		}
	}
	color, status := show.Green, string(l.Status)
	switch l.Status {
	case verify.StatusMatch:
	case verify.StatusMismatch, verify.StatusAmbiguous, verify.StatusCorrupt:
		color, status = show.Red, strings.ToUpper(status)
	default:
		color = show.Yellow
	}
	rows.Add(l.Index+1, style.Digest(l.Digest.String()), dash(l.Encoding), show.Size(l.Size), unpacked, ratio,
		dash(style.Digest(l.ConfigDiffID)), show.Cell{Text: dash(style.Digest(l.DiffID.String())), Color: color},
		dash(style.Digest(l.ChainID.String())), show.Cell{Text: status, Color: color}, dash(l.CreatedBy))
}
