package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallLayer makes a layer that is pushed in no time: what is measured does not depend
// on its size.
func smallLayer(i int) (blob, error) {
	text := fmt.Appendf(nil, "layer %d, from %d", i, time.Now().UnixNano())
	gz, err := gzipped(text)
	if err != nil {
		return blob{}, err
	}
	l := smallBlob(ocispec.MediaTypeImageLayerGzip, gz)
	l.diffID = smallBlob("", text).desc.Digest
	return l, nil
}

func smallLayers(n int) ([]blob, error) {
	var all []blob
	for i := range n {
		l, err := smallLayer(i)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// manifests pushes manifests of layers that are known.
func (b *bench) manifests(ctx context.Context) (err error) {
	all, _, stop, err := b.fronts(ctx, ours)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	count := 300
	if b.short {
		count = 10
	}
	t := table{
		Title:   "Manifest PUT",
		Note:    fmt.Sprintf("Milliseconds, of %d pushes each, one at a time. An image of 4 layers that are known; its config was pushed before. ratio: of the medians.", count),
		Columns: []string{"manifest", "through", "median", "99th percentile", "ratio"},
	}
	took, err := pushManifests(ctx, all, count)
	if err != nil {
		return err
	}
	for i, what := range []string{"new config and tag", "the same again, new tag"} {
		alone := median(took[0][i])
		for k, f := range all {
			m := median(took[k][i])
			t.Rows = append(t.Rows, []any{what, f.name, m, percentile(took[k][i], 99), m / alone})
			if f.name == ours {
				b.report.goal("manifest PUT, "+what+", to the registry alone", m/alone, 1.25, true)
			}
		}
	}
	b.report.add(t)
	return nil
}

// pushManifests pushes in turns through each front, and returns the milliseconds
// that manifests took there: those of a new config, and the same again.
func pushManifests(ctx context.Context, all []front, count int) ([][2][]float64, error) {
	took := make([][2][]float64, len(all))
	var clients []*client
	var layers [][]blob
	for _, f := range all {
		c := newClient(f.addr)
		defer c.close()
		set, err := smallLayers(4)
		if err != nil {
			return nil, err
		}
		for _, l := range set {
			if err := c.pushBlob(ctx, repoOf(f.name, 4), l); err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
		}
		clients, layers = append(clients, c), append(layers, set)
	}
	for i := range count {
		for k := range all {
			f := (k + i) % len(all)
			img, err := newImage(repoOf(all[f].name, 4), fmt.Sprint("author ", i), layers[f])
			if err != nil {
				return nil, err
			}
			if err := clients[f].pushBlob(ctx, img.repo, img.config); err != nil {
				return nil, fmt.Errorf("%s: %w", all[f].name, err)
			}
			for again := range took[f] {
				began := time.Now()
				if err := clients[f].pushManifest(ctx, img, fmt.Sprintf("t%d-%d", i, again)); err != nil {
					return nil, fmt.Errorf("%s: %w", all[f].name, err)
				}
				took[f][again] = append(took[f][again], time.Since(began).Seconds()*1e3)
			}
		}
	}
	return took, nil
}
