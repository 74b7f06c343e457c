package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// A cost is what one transfer took, in seconds.
type cost struct {
	blobs, manifest float64
	proxy, registry float64 // of processor time
	client          float64 // of it too
}

func (c cost) wall() float64 { return c.blobs + c.manifest }

// A transfer is an operation that all fronts do in every round.
type transfer struct {
	name   string
	layers int
	run    func(context.Context, *client, string) (blobs, manifest time.Duration, err error)
}

// lanes are how transfers through each front are made.
type lanes struct {
	mould   *mould
	clients []*client
	all     []front
	images  map[string]image // of this round, by repository
}

// transfers pushes and pulls images of one layer and of four through every
// front.
func (b *bench) transfers(ctx context.Context) (err error) {
	all, storage, stop, err := b.fronts(ctx, ours, "ReverseProxy", "nginx")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	l := lanes{all: all}
	if l.mould, err = newMould(b.corpora[0]); err != nil {
		return err
	}
	for _, f := range all {
		c := newClient(f.addr)
		defer c.close()
		l.clients = append(l.clients, c)
	}
	operations := l.operations()
	costs := make([][][]cost, len(operations)) // by operation, front and round
	for i := range costs {
		costs[i] = make([][]cost, len(all))
	}
	for round := range b.rounds {
		b.say("transfers, round %d of %d", round+1, b.rounds)
		if err := l.mint(ctx); err != nil {
			return err
		}
		for i, op := range operations {
			for k := range all {
				f := (k + round) % len(all)
				c, err := l.measure(ctx, op, f)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", all[f].name, op.name, err)
				}
				costs[i][f] = append(costs[i][f], c)
			}
		}
		// What was pushed is of no use in the next round, and large.
		if err := os.RemoveAll(storage); err != nil {
			return err
		}
	}
	b.transferReport(l, operations, costs)
	return nil
}

func repoOf(front string, layers int) string {
	names := map[string]string{direct: "direct", ours: "gate", "ReverseProxy": "reverse", "nginx": "nginx", unseen: "unseen"}
	return fmt.Sprintf("%s/layers%d", names[front], layers)
}

// unseen are images that were pushed round all proxies.
const unseen = "unseen"

// mint makes the images of a round, and pushes those that are pulled unseen.
func (l *lanes) mint(ctx context.Context) error {
	l.images = map[string]image{}
	names := []string{unseen}
	for _, f := range l.all {
		names = append(names, f.name)
	}
	for _, name := range names {
		for _, n := range []int{1, 4} {
			img, err := l.mould.image(repoOf(name, n), n)
			if err != nil {
				return err
			}
			l.images[img.repo] = img
			if name != unseen {
				continue
			}
			if _, _, err := l.clients[0].push(ctx, img, "1"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lanes) operations() []transfer {
	var all []transfer
	for _, n := range []int{1, 4} {
		all = append(all, transfer{fmt.Sprintf("push %d", n), n, func(ctx context.Context, c *client, front string) (time.Duration, time.Duration, error) {
			return c.push(ctx, l.images[repoOf(front, n)], "1")
		}})
	}
	pull := func(ctx context.Context, c *client, repo string) (time.Duration, time.Duration, error) {
		began := time.Now()
		err := c.pull(ctx, repo, "1")
		return time.Since(began), 0, err
	}
	for _, n := range []int{1, 4} {
		all = append(all, transfer{fmt.Sprintf("pull %d", n), n, func(ctx context.Context, c *client, front string) (time.Duration, time.Duration, error) {
			return pull(ctx, c, repoOf(front, n))
		}})
	}
	for _, n := range []int{1, 4} {
		all = append(all, transfer{fmt.Sprintf("first pull %d", n), n, func(ctx context.Context, c *client, _ string) (time.Duration, time.Duration, error) {
			return pull(ctx, c, repoOf(unseen, n))
		}})
	}
	return all
}

// measure does an operation through a front.
func (l *lanes) measure(ctx context.Context, op transfer, f int) (cost, error) {
	proxy, registry := l.all[f].process, l.all[0].process
	proxyBefore, err1 := proxy.cpu()
	registryBefore, err2 := registry.cpu()
	clientBefore := cpuUsed()
	blobs, manifest, err3 := op.run(ctx, l.clients[f], l.all[f].name)
	client := cpuUsed() - clientBefore
	proxyAfter, err4 := proxy.cpu()
	registryAfter, err5 := registry.cpu()
	c := cost{blobs.Seconds(), manifest.Seconds(), proxyAfter - proxyBefore, registryAfter - registryBefore, client}
	if f == 0 {
		c.proxy = 0 // there is none
	}
	return c, errors.Join(err1, err2, err3, err4, err5)
}

func (b *bench) transferReport(l lanes, operations []transfer, costs [][][]cost) {
	t := table{
		Title: "Push and pull",
		Note: fmt.Sprintf("Images of 1 and of 4 layers in parallel, each of %s that are %s unpacked, new in every round; config and manifest count. "+
			"The client pushes each layer with POST, PATCH and PUT, and hashes what it pulls; it shares the machine with the servers. "+
			"A pull is of what was pushed through the same proxy, a first pull of what Diffgate never saw. ratio: to the registry alone.",
			megabytes(l.mould.size), megabytes(l.mould.unpacked)),
		Columns: []string{"", "through", "seconds", "ratio", "of it blobs", "of it manifest", "MB/s", "CPU s of the proxy", "of the registry", "of the client"},
	}
	p := plot{File: "transfer.svg", Title: "Push and pull, compared with the registry alone", Axis: "time, as a multiple of the registry's (less is better)", Mark: 1}
	for i, op := range operations {
		alone := medianOf(costs[i][0], cost.wall)
		group := group{Name: op.name + " layer(s)"}
		for f, front := range l.all {
			c := costs[i][f]
			wall := medianOf(c, cost.wall)
			ratio := wall / alone
			mb := float64(op.layers) * float64(l.mould.size) / 1e6
			t.Rows = append(t.Rows, []any{op.name, front.name, wall, ratio,
				medianOf(c, func(c cost) float64 { return c.blobs }), medianOf(c, func(c cost) float64 { return c.manifest }), mb / wall,
				medianOf(c, func(c cost) float64 { return c.proxy }), medianOf(c, func(c cost) float64 { return c.registry }),
				medianOf(c, func(c cost) float64 { return c.client })})
			if f > 0 {
				group.Bars = append(group.Bars, bar{front.name, ratio})
			}
			if front.name == ours {
				b.transferGoal(op.name, ratio)
			}
		}
		p.Groups = append(p.Groups, group)
	}
	b.report.add(t)
	b.report.plot(p)
}

// transferGoal notes what a transfer may cost.
func (b *bench) transferGoal(name string, ratio float64) {
	want := map[string]float64{"push 4": 1.25, "pull 1": 1.15, "pull 4": 1.15}[name]
	if want != 0 {
		b.report.goal(name+" layer(s), to the registry alone", ratio, want, true)
	}
}

func medianOf(all []cost, of func(cost) float64) float64 {
	var v []float64
	for _, c := range all {
		v = append(v, of(c))
	}
	return median(v)
}
