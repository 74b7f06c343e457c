package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// indexFigures runs the benchmarks of the DiffID index.
func (b *bench) indexFigures(ctx context.Context) error {
	runs := [][]string{
		{"-bench=Scale", "-benchtime=1x", "-timeout=10m"},
		{"-bench=Benchmark(Put|Get)", "-benchtime=1s"},
	}
	if b.short {
		runs = [][]string{{"-bench=Put$", "-benchtime=1x"}}
	}
	t := table{
		Title:   "The DiffID index",
		Columns: []string{"benchmark", "runs", "figures"},
	}
	var commands []string
	for _, run := range runs {
		args := append([]string{"test", "-run=^$"}, append(run, "./verify/index")...)
		commands = append(commands, "`go "+strings.Join(args, " ")+"`")
		rows, err := b.benchmarks(ctx, args)
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, rows...)
	}
	t.Note = "As printed by " + strings.Join(commands, " and ") + "."
	b.report.add(t)
	return nil
}

// benchmarks runs go test and returns a row for each benchmark.
func (b *bench) benchmarks(ctx context.Context, args []string) (rows [][]any, err error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = b.root, b.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var all strings.Builder
	err = lines(io.TeeReader(out, &all), func(line string) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			return
		}
		b.say("%s", line)
		var figures []string
		for i := 2; i+1 < len(f); i += 2 {
			figures = append(figures, f[i]+" "+f[i+1])
		}
		rows = append(rows, []any{strings.TrimPrefix(f[0], "Benchmark"), f[1], strings.Join(figures, ", ")})
	})
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, all.String())
	}
	return rows, nil
}
