package inflate

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// BenchmarkGunzip decodes 16 MiB of made-up words, gzip -6, with this package,
// klauspost/compress and compress/gzip. MB/s is of the decoded bytes. `make
// bench` has real files and other programs.
func BenchmarkGunzip(b *testing.B) {
	var words bytes.Buffer
	for random := rand.New(rand.NewPCG(1, 2)); words.Len() < 16<<20; {
		fmt.Fprintf(&words, "%x ", int(random.ExpFloat64()*500))
	}
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	if _, err := w.Write(words.Bytes()); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct {
		name   string
		decode func([]byte) error
	}{
		{"ours", func(p []byte) error {
			_, err := Gunzip(&inSlices{p}, discard{})
			return err
		}},
		{"klauspost", func(p []byte) error {
			z, err := gzip.NewReader(bytes.NewReader(p))
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, struct{ io.Reader }{z})
			return err
		}},
		{"compress-gzip", func(p []byte) error {
			z, err := stdgzip.NewReader(bytes.NewReader(p))
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, z)
			return err
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(words.Len()))
			for b.Loop() {
				if err := bm.decode(file.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// inSlices is a Source of slices of 32 KiB that are not copied.
type inSlices struct{ rest []byte }

// Next implements Source.
func (s *inSlices) Next() ([]byte, error) {
	if len(s.rest) == 0 {
		return nil, io.EOF
	}
	p := s.rest[:min(len(s.rest), 32<<10)]
	s.rest = s.rest[len(p):]
	return p, nil
}
