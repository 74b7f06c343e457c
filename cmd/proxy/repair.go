package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/repair"
)

// repairFlags are those of proxy repair.
type repairFlags struct {
	registries
	format   show.Format
	platform string
	push     string
	inPlace  bool
	force    bool
}

func newRepair() *cobra.Command {
	f := repairFlags{format: show.Table, platform: thisPlatform()}
	cmd := &cobra.Command{
		Use:   "repair REF",
		Short: "Correct the config of an image whose layers are sound",
		Long: `Repair reads the layers of an image, computes the config that tells the truth
about them and the manifest that names it, and shows the differences. Nothing is
changed unless --push names a tag, in the same repository, to push the image
under; a tag that there is already is replaced only with --in-place.

A repaired image is true to the layers that it has. Whether those are the layers
that it should have, only its author can say: build it again if you can.
Signatures and attestations are of the old digest.

` + credentialsHelp + `

It exits 0 if the image is right or has been repaired, 1 if it is to be repaired
and was not pushed, and 2 if it cannot be repaired.`,
		Example: `  proxy repair localhost:5000/app:1.4
  proxy repair --push 1.4-repaired localhost:5000/app:1.4`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.flags.add(cmd)
	cmd.Flags().VarP(&f.format, "output", "o", "table, json or jsonl")
	cmd.Flags().StringVar(&f.platform, "platform", f.platform, "the image of an image index to repair: os/arch[/variant]")
	cmd.Flags().StringVar(&f.push, "push", "", "push the repaired image under this tag")
	cmd.Flags().BoolVar(&f.force, "force", false, "push even what has a placeholder or a copy of another layer for a layer")
	cmd.Flags().BoolVar(&f.inPlace, "in-place", false, "let --push replace a tag")
	return judging(cmd)
}

// repaired is the result, in JSON too.
type repaired struct {
	Image    string         `json:"image"`
	Platform string         `json:"platform,omitempty"`
	Before   digest.Digest  `json:"before"` // of the manifest
	After    digest.Digest  `json:"after"`  // the same if nothing is wrong
	Config   digest.Digest  `json:"config,omitempty"`
	Causes   []string       `json:"causes,omitempty"` // what was wrong, as the gate says it
	Changes  []repairChange `json:"changes"`
	Notes    []string       `json:"notes,omitempty"`
	Pushed   string         `json:"pushed,omitempty"` // reference

	missing bool // what stands for a layer is not it
}

type repairChange struct {
	Document string `json:"document"` // config or manifest
	Path     string `json:"path"`
	Old      string `json:"old,omitempty"`
	New      string `json:"new,omitempty"`
}

func (f *repairFlags) run(cmd *cobra.Command, ref string) error {
	if f.inPlace && f.push == "" {
		return errors.New("--in-place needs --push TAG")
	}
	if f.push != "" && reference.TagRegexp.FindString(f.push) != f.push {
		return fmt.Errorf("--push %q is not a tag", f.push)
	}
	m, err := f.begin(cmd)
	if err != nil {
		return err
	}
	defer m.end()
	ctx := cmd.Context()
	i, err := f.image(ctx, ref)
	if err == nil {
		i, err = i.forPlatform(ctx, f.platform)
	}
	if err != nil {
		return err
	}
	out, fixed, err := i.repair(ctx)
	if err == nil && f.push != "" && out.missing && !f.force {
		err = errors.New("a layer is missing: the blob in its place is empty or another layer; build the image again, or push it as it is with --force")
	}
	if err == nil && f.push != "" && len(out.Changes) > 0 {
		out.Pushed, err = f.pushed(ctx, i, fixed)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	m.end()
	if err := f.print(cmd.OutOrStdout(), out); err != nil {
		return err
	}
	if len(out.Changes) > 0 && out.Pushed == "" {
		return &exitError{code: exitMismatch}
	}
	return nil
}

// repair computes the image that is right.
func (i image) repair(ctx context.Context) (repaired, repair.Fixed, error) {
	out := repaired{Image: i.name, Before: i.subject.Digest, After: i.subject.Digest, Changes: []repairChange{}}
	judged, _ := i.judge(ctx)
	out.Platform = judged.Platform
	if judged.Message != "" {
		out.Causes = append(out.Causes, judged.Message)
	}
	if judged.Error != "" {
		return out, repair.Fixed{}, errors.New(judged.Error)
	}
	out.missing = layerMissing(judged.Layers)
	img, err := i.evidence(ctx)
	if err != nil {
		return out, repair.Fixed{}, err
	}
	fixed, err := repair.Fix(img)
	if errors.Is(err, repair.ErrNothing) {
		return out, fixed, nil
	}
	if err != nil {
		return out, fixed, err
	}
	out.After, out.Config, out.Notes = fixed.ManifestDigest, fixed.ConfigDigest, fixed.Notes
	for _, c := range fixed.Changes {
		out.Changes = append(out.Changes, repairChange(c))
	}
	return out, fixed, nil
}

// layerMissing reports whether an empty blob, or another layer of the image,
// stands where the config wants something else.
func layerMissing(layers []api.Layer) bool {
	times := map[verify.DiffID]int{}
	for _, l := range layers {
		times[l.DiffID]++
	}
	empty := verify.DiffID(digest.FromString(""))
	return slices.ContainsFunc(layers, func(l api.Layer) bool {
		return l.Status == verify.StatusMismatch && (l.DiffID == empty || times[l.DiffID] > 1)
	})
}

// evidence reads the config and the layers.
func (i image) evidence(ctx context.Context) (repair.Image, error) {
	out := repair.Image{Manifest: i.body, MediaType: i.subject.MediaType}
	m, err := verify.ParseManifest(i.subject.MediaType, i.body)
	if err != nil {
		return out, err
	}
	if m.Kind != verify.ImageKind {
		return out, fmt.Errorf("%s is not the manifest of an image", i.subject.MediaType)
	}
	if out.Config = m.Config.Data; out.Config == nil {
		if out.Config, err = i.repo.Config(ctx, m.Config); err != nil {
			return out, fmt.Errorf("config %s: %w", m.Config.Digest, err)
		}
	}
	out.Layers = make([]verify.Evidence, len(m.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16) // the client reads fewer at once
	for n, d := range m.Layers {
		g.Go(func() error {
			fact, err := i.repo.Fact(ctx, d)
			if err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", n+1, len(m.Layers), d.Digest, err)
			}
			out.Layers[n].Fact = &fact
			return nil
		})
	}
	return out, g.Wait()
}

// pushed pushes the image that is right and returns its reference.
func (f *repairFlags) pushed(ctx context.Context, i image, fixed repair.Fixed) (string, error) {
	if !f.inPlace {
		switch _, err := i.remote.Head(ctx, f.push); {
		case err == nil:
			return "", fmt.Errorf("tag %s exists already: take another, or add --in-place", f.push)
		case !errors.Is(err, verify.ErrNotFound):
			return "", fmt.Errorf("look whether tag %s exists: %w", f.push, err)
		}
	}
	if f.inPlace { // an image index would lose its other platforms
		m, err := i.remote.Resolve(ctx, f.push)
		switch {
		case err == nil && verify.KindOf(m.MediaType) == verify.IndexKind:
			return "", fmt.Errorf("tag %s is an image index, which one image cannot take the place of: push under another tag", f.push)
		case err != nil && !errors.Is(err, verify.ErrNotFound):
			return "", fmt.Errorf("look what tag %s is: %w", f.push, err)
		}
	}
	if err := i.remote.PushConfig(ctx, fixed.ConfigDigest, fixed.Config); err != nil {
		return "", fmt.Errorf("push config: %w", err)
	}
	if err := i.remote.PushManifest(ctx, f.push, i.subject.MediaType, fixed.Manifest); err != nil {
		return "", fmt.Errorf("push manifest: %w", err)
	}
	named, err := reference.ParseNormalizedNamed(i.name)
	if err != nil {
		return "", err
	}
	return reference.FamiliarName(named) + ":" + f.push, nil
}

func (f *repairFlags) print(w io.Writer, r repaired) error {
	switch f.format {
	case show.JSON:
		return show.WriteJSON(w, r)
	case show.JSONL:
		return show.WriteLine(w, r)
	}
	var lines []string
	if len(r.Changes) == 0 {
		lines = append(lines, r.Image+": nothing to repair")
	}
	for _, c := range r.Causes {
		lines = append(lines, r.Image+": "+c)
	}
	for _, c := range r.Changes {
		lines = append(lines, c.Document+" "+c.Path, "  - "+dash(c.Old), "  + "+dash(c.New))
	}
	for _, n := range r.Notes {
		lines = append(lines, "note: "+n)
	}
	switch {
	case r.Pushed != "":
		lines = append(lines, "pushed "+r.Pushed+"@"+r.After.String())
	case len(r.Changes) > 0:
		lines = append(lines, "nothing was pushed; --push TAG pushes "+r.After.String())
	}
	for i, l := range lines {
		lines[i] = show.Printable(l)
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}
