package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"diffgate/verify"
)

// verifyLayers verifies whole layers from files, and whole images from a
// registry.
func (b *bench) verifyLayers(ctx context.Context) error {
	for _, c := range b.corpora {
		if err := warm(c.gz); err != nil {
			return err
		}
	}
	if err := b.verifyFiles(ctx); err != nil {
		return err
	}
	return b.verifyImages(ctx)
}

// verifyFiles compares what computes both digests of a layer.
func (b *bench) verifyFiles(ctx context.Context) error {
	t := table{
		Title: "Verifying a layer in a file",
		Note: "Seconds, and in brackets how many times as fast Diffgate is. Diffgate computes both digests, `verify.Hash`; " +
			"`gzip -dc FILE | sha256sum` computes the DiffID alone, and with `sha256sum FILE` after it both.",
		Columns: []string{"layer", ours, "gzip -dc | sha256sum", "and then sha256sum", "igzip -dc | sha256sum"},
	}
	for _, c := range b.corpora {
		entrants := []entrant{
			{ours, hashing(c.gz)},
			{"gzip", shell(`gzip -dc "$1" | sha256sum`, c.gz)},
			{"gzip, sha256sum", shell(`gzip -dc "$1" | sha256sum; sha256sum "$1"`, c.gz)},
		}
		if lookPath("igzip") != "" {
			entrants = append(entrants, entrant{"igzip", shell(`igzip -dc "$1" | sha256sum`, c.gz)})
		}
		took, err := b.inTurns(ctx, "verify "+c.name, entrants)
		if err != nil {
			return err
		}
		row := []any{fmt.Sprintf("%s, %s in %s", c.name, megabytes(c.size), megabytes(c.packed))}
		mine := median(took[0].wall)
		for i := range t.Columns[1:] {
			switch {
			case i >= len(took):
				row = append(row, "")
			case i == 0:
				row = append(row, mine)
			default:
				seconds := median(took[i].wall)
				row = append(row, fmt.Sprintf("%s (%s)", cell(seconds), cell(seconds/mine)))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	b.report.add(t)
	return nil
}

// shell runs a pipeline over files, and fails if a part of it does.
func shell(script string, files ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		return command(ctx, nil, "bash", append([]string{"-ec", "set -o pipefail; " + script, "bash"}, files...)...)
	}
}

// hashing computes the digests of a file.
func hashing(path string) func(context.Context) error {
	return func(context.Context) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		fact, err := verify.Hash(f, verify.Limits{}, verify.Fetched, time.Time{})
		if err == nil && fact.Problem != verify.None {
			err = fmt.Errorf("%s: %s", fact.Problem, fact.Reason)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
}

// verifyImages compares what verifies an image that is in a registry: one of one
// layer, and one of two that are decoded beside each other.
func (b *bench) verifyImages(ctx context.Context) (err error) {
	all, _, stop, err := b.fronts(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c := newClient(all[0].addr)
	defer c.close()
	t := table{
		Title: "Verifying an image in a registry",
		Note: "Seconds, and in brackets how many times as fast Diffgate is. Diffgate reads the manifest, the config and the layers, two at once, and compares all digests and DiffIDs, " +
			"in one process as the gate does; crane is started for it. The shell has the layers in files and computes the DiffIDs alone, one layer after the other.",
		Columns: []string{"image", ours, "crane validate --remote", "gzip -dc | sha256sum"},
	}
	crane := b.crane(ctx)
	sets := [][]corpus{b.corpora[:1], {b.corpora[0], b.corpora[len(b.corpora)-2]}}
	if b.short {
		sets = sets[:1]
	}
	for i, set := range sets {
		img, err := b.imageOf(fmt.Sprintf("verify/%d", i), set)
		if err != nil {
			return err
		}
		if _, _, err := c.push(ctx, img, "1"); err != nil {
			return err
		}
		row, err := b.verifyImage(ctx, c, crane, img, set)
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	b.report.add(t)
	return nil
}

func (b *bench) verifyImage(ctx context.Context, c *client, crane string, img image, set []corpus) ([]any, error) {
	var size int64
	var files []string
	for _, c := range set {
		size += c.size
		files = append(files, c.gz)
	}
	name := fmt.Sprintf("%d layer(s), %s unpacked", len(set), megabytes(size))
	entrants := []entrant{
		{ours, func(ctx context.Context) error { return c.verify(ctx, img.repo, "1") }},
		{"shell", shell(`for f; do gzip -dc "$f" | sha256sum; done`, files...)},
	}
	if crane != "" {
		ref := c.base.Host + "/" + img.repo + ":1"
		entrants = append(entrants, entrant{"crane", func(ctx context.Context) error {
			return command(ctx, nil, crane, "validate", "--remote", ref)
		}})
	}
	took, err := b.inTurns(ctx, "verify "+name, entrants)
	if err != nil {
		return nil, err
	}
	mine, theirs := median(took[0].wall), median(took[1].wall)
	row := []any{name, mine, "", fmt.Sprintf("%s (%s)", cell(theirs), cell(theirs/mine))}
	if crane != "" {
		validate := median(took[2].wall)
		row[2] = fmt.Sprintf("%s (%s)", cell(validate), cell(validate/mine))
		b.report.goal(name+": verifying, times as fast as crane validate", validate/mine, 5, false)
	}
	b.report.goal(name+": verifying, times as fast as gzip -dc | sha256sum", theirs/mine, 2, false)
	return row, nil
}

// imageOf makes an image of corpora as they are.
func (b *bench) imageOf(repo string, set []corpus) (image, error) {
	var layers []blob
	for _, c := range set {
		m, err := newMould(c)
		if err != nil {
			return image{}, err
		}
		l := blob{desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Size: m.size}, pieces: [][]byte{m.gz}}
		if l.desc.Digest, err = m.stored.with(nil); err != nil {
			return image{}, err
		}
		if l.diffID, err = m.plain.with(nil); err != nil {
			return image{}, err
		}
		layers = append(layers, l)
	}
	return newImage(repo, "bench", layers)
}

// verify reads an image and verifies it whole.
func (c *client) verify(ctx context.Context, repo, tag string) error {
	m, err := c.manifest(ctx, repo, tag)
	if err != nil {
		return err
	}
	var config ocispec.Image
	err = c.read(ctx, repo, "blobs", m.Config.Digest.String(), m.Config.Digest, func(r io.Reader) error { return json.NewDecoder(r).Decode(&config) })
	if err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return fmt.Errorf("%s: %d DiffIDs for %d layers", repo, len(config.RootFS.DiffIDs), len(m.Layers))
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, d := range m.Layers {
		group.Go(func() error { return c.verifyLayer(ctx, repo, d.Digest, config.RootFS.DiffIDs[i]) })
	}
	return group.Wait()
}

// verifyLayer compares both digests of a layer.
func (c *client) verifyLayer(ctx context.Context, repo string, want, diffID digest.Digest) error {
	res, err := c.do(ctx, http.MethodGet, c.base.JoinPath("v2", repo, "blobs", want.String()), "", 0, nil, http.StatusOK)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fact, err := verify.Hash(res.Body, verify.Limits{}, verify.Fetched, time.Time{})
	if err != nil {
		return fmt.Errorf("%s: %w", want, err)
	}
	if fact.Problem != verify.None || fact.Digest != want || fact.Unpacked != diffID {
		return fmt.Errorf("%s: it is %s with the DiffID %s %s", want, fact.Digest, fact.Unpacked, fact.Reason)
	}
	return nil
}
