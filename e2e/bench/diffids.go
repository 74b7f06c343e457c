package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// askers are the clients that ask for DiffIDs at once, each over a connection
// that it keeps.
const askers = 8

// diffIDs asks for the DiffIDs of known layers as fast as it is answered.
func (b *bench) diffIDs(ctx context.Context) (err error) {
	all, _, stop, err := b.fronts(ctx, ours)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c := newClient(all[1].addr)
	defer c.close()
	layers, err := smallLayers(64)
	if err != nil {
		return err
	}
	img, err := newImage("asked", "bench", layers)
	if err != nil {
		return err
	}
	if _, _, err := c.push(ctx, img, "1"); err != nil {
		return err
	}
	length := 5 * time.Second
	if b.short {
		length = 300 * time.Millisecond
	}
	before, err := cpuOf(all)
	if err != nil {
		return err
	}
	began := time.Now()
	took, err := ask(ctx, c, layers, began.Add(length))
	if err != nil {
		return err
	}
	wall := time.Since(began).Seconds()
	after, err := cpuOf(all)
	if err != nil {
		return err
	}
	each := func(front int) float64 { return (after[front] - before[front]) / float64(len(took)) * 1e6 }
	rate := float64(len(took)) / wall
	b.report.add(table{
		Title:   "GET /v2/_diffids/<digest>",
		Note:    fmt.Sprintf("%d clients on connections that they keep ask for %d known layers, one after the other, for %s. They share the machine with Diffgate.", askers, len(layers), length),
		Columns: []string{"requests/s", "median ms", "99th percentile ms", "CPU microseconds of Diffgate each", "of the registry"},
		Rows:    [][]any{{rate, median(took), percentile(took, 99), each(1), each(0)}},
	})
	b.report.goal("GET /v2/_diffids/<digest>, a second", rate, 20_000, false)
	return nil
}

// cpuOf returns the seconds of processor time that each front has used.
func cpuOf(all []front) ([]float64, error) {
	var used []float64
	for _, f := range all {
		seconds, err := f.cpu()
		if err != nil {
			return nil, err
		}
		used = append(used, seconds)
	}
	return used, nil
}

// ask returns the milliseconds that each answer took.
func ask(ctx context.Context, c *client, layers []blob, until time.Time) ([]float64, error) {
	took := make([][]float64, askers)
	group, ctx := errgroup.WithContext(ctx)
	for a := range took {
		group.Go(func() error {
			for i := a; time.Now().Before(until); i++ {
				began := time.Now()
				res, err := c.do(ctx, http.MethodGet, c.base.JoinPath("v2", "_diffids", layers[i%len(layers)].desc.Digest.String()), "", 0, nil, http.StatusOK)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, res.Body)
				if err := errors.Join(err, res.Body.Close()); err != nil {
					return err
				}
				took[a] = append(took[a], time.Since(began).Seconds()*1e3)
			}
			return nil
		})
	}
	err := group.Wait()
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return all, err
}
