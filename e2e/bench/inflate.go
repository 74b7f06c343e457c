package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	klauspost "github.com/klauspost/compress/gzip"

	"diffgate/verify/inflate"
)

// inflate decodes every corpus with every decoder and drops what comes of it.
func (b *bench) inflate(ctx context.Context) error {
	names := decoderNames()
	speed := matrix(names, b.corpora)
	cpu := matrix(names, b.corpora)
	plot := plot{File: "inflate.svg", Title: "Decoding gzip", Axis: "decoded MB/s (more is better)"}
	for c, corpus := range b.corpora {
		if err := warm(corpus.gz); err != nil {
			return err
		}
		var entrants []entrant
		for _, name := range names {
			entrants = append(entrants, decoder(name, corpus))
		}
		took, err := b.inTurns(ctx, "inflate "+corpus.name, entrants)
		if err != nil {
			return err
		}
		group := group{Name: corpus.name}
		for i, name := range names {
			speed[i][c+1] = float64(corpus.size) / 1e6 / median(took[i].wall)
			cpu[i][c+1] = median(took[i].cpu) / (float64(corpus.size) / 1e9)
			group.Bars = append(group.Bars, bar{name, speed[i][c+1].(float64)})
		}
		plot.Groups = append(plot.Groups, group)
	}
	b.inflateReport(names, speed, cpu, plot)
	return nil
}

func (b *bench) inflateReport(names []string, speed, cpu [][]any, p plot) {
	ratios := matrix(names[1:], b.corpora)
	columns := []string{"decoder"}
	for c, corpus := range b.corpora {
		columns = append(columns, fmt.Sprintf("%s, %s in %s", corpus.name, megabytes(corpus.size), megabytes(corpus.packed)))
		for i, name := range names[1:] {
			ratio := speed[0][c+1].(float64) / speed[i+1][c+1].(float64)
			ratios[i][c+1] = ratio
			switch name {
			case "klauspost":
				b.report.goal(corpus.name+": decoding, times as fast as klauspost", ratio, 2, false)
			case "igzip -dc":
				b.report.goal(corpus.name+": decoding, times as fast as igzip", ratio, 0.75, false)
			}
		}
	}
	b.report.add(table{Title: "Decoding gzip: decoded MB/s", Columns: columns, Rows: speed,
		Note: "Wall time to decode a file of `gzip -6` and drop what comes of it, checksums compared. Programs run as `gzip -dc FILE >/dev/null`; starting them counts. pigz uses threads of its own for reading, writing and checksums."})
	b.report.add(table{Title: "Decoding gzip: how many times as fast Diffgate is", Columns: columns, Rows: ratios})
	b.report.add(table{Title: "Decoding gzip: CPU seconds for each decoded GB", Columns: columns, Rows: cpu})
	b.report.plot(p)
}

// matrix returns rows that begin with a name and have a cell for each corpus.
func matrix(names []string, corpora []corpus) [][]any {
	var rows [][]any
	for _, name := range names {
		row := make([]any, 1+len(corpora))
		row[0] = name
		rows = append(rows, row)
	}
	return rows
}

const ours = "Diffgate"

// decoderNames are the decoders that this machine has; ours is the first.
func decoderNames() []string {
	names := []string{ours, "compress/gzip", "klauspost"}
	for _, program := range []string{"gzip", "pigz", "igzip"} {
		if lookPath(program) != "" {
			names = append(names, program+" -dc")
		}
	}
	return names
}

// decoder returns how a decoder is run over a corpus.
func decoder(name string, c corpus) entrant {
	decode := func(ctx context.Context) error {
		var program string
		if _, err := fmt.Sscanf(name, "%s -dc", &program); err != nil {
			return err
		}
		return command(ctx, nil, program, "-dc", c.gz) // a nil writer is /dev/null
	}
	switch name {
	case ours:
		decode = reading(c, func(r io.Reader) (int64, error) {
			var n counter
			_, err := inflate.Gunzip(&pieces{r: r}, &n)
			return int64(n), err
		})
	case "compress/gzip":
		decode = reading(c, func(r io.Reader) (int64, error) {
			z, err := gzip.NewReader(bufio.NewReaderSize(r, sliceSize))
			if err != nil {
				return 0, err
			}
			return io.Copy(io.Discard, z)
		})
	case "klauspost":
		decode = reading(c, func(r io.Reader) (int64, error) {
			z, err := klauspost.NewReader(bufio.NewReaderSize(r, sliceSize))
			if err != nil {
				return 0, err
			}
			return io.Copy(io.Discard, z)
		})
	}
	return entrant{name, decode}
}

// reading runs a decoder over the file of a corpus and insists that it decodes
// all of it.
func reading(c corpus, decode func(io.Reader) (int64, error)) func(context.Context) error {
	return func(context.Context) error {
		f, err := os.Open(c.gz)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := decode(f)
		if err == nil && n != c.size {
			err = fmt.Errorf("got %d bytes of %d", n, c.size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.gz, err)
		}
		return nil
	}
}

// sliceSize is how many bytes of a file are read at once.
const sliceSize = 64 << 10

// pieces is a file as an inflate.Source.
type pieces struct {
	r   io.Reader
	buf [sliceSize]byte
}

// Next implements inflate.Source.
func (s *pieces) Next() ([]byte, error) {
	n, err := io.ReadAtLeast(s.r, s.buf[:], 1)
	if n > 0 {
		err = nil
	}
	return s.buf[:n], err
}

// counter is an inflate.Sink that counts bytes.
type counter int64

// Take implements inflate.Sink.
func (n *counter) Take(p []byte) error { *n += counter(len(p)); return nil }

// Done implements inflate.Sink.
func (n *counter) Done() {}
