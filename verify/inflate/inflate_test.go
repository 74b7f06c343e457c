package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kflate "github.com/klauspost/compress/flate"
)

// pieces is a Source of bytes in pieces of the sizes given in turn. Each piece
// is overwritten when the next is asked for, as a Source may do.
type pieces struct {
	data  []byte
	sizes []int
	last  []byte
	next  int
	err   error // at the end; nil means io.EOF
}

// Next implements Source.
func (s *pieces) Next() ([]byte, error) {
	for i := range s.last {
		s.last[i] = 0xaa
	}
	if len(s.data) == 0 {
		if s.err == nil {
			return nil, io.EOF
		}
		return nil, s.err
	}
	n := min(s.sizes[s.next%len(s.sizes)], len(s.data))
	s.next++
	s.last = slices.Clone(s.data[:n])
	s.data = s.data[n:]
	return s.last, nil
}

// collector is a Sink that looks at each piece as late as it may.
type collector struct {
	got     []byte
	waiting [][]byte
	err     error // of the next Take
	done    int
}

// Take implements Sink.
func (c *collector) Take(p []byte) error {
	c.waiting = append(c.waiting, p)
	if len(c.waiting) > 2 {
		c.got = append(c.got, c.waiting[0]...)
		c.waiting = c.waiting[1:]
	}
	return c.err
}

// Done implements Sink.
func (c *collector) Done() {
	c.got = append(c.got, bytes.Join(c.waiting, nil)...)
	c.waiting = nil
	c.done++
}

// A result is what decoding one DEFLATE stream came to.
type result struct {
	Content string // when it is whole
	Taken   int64  // bytes of the stream
	Fails   string
}

// ours decodes the stream at the start of data.
func ours(data []byte, sizes ...int) result {
	d, c := new(decoder), new(collector)
	src := &pieces{data: slices.Clone(data), sizes: sizes}
	d.in = input{src: src}
	d.out.reset(c)
	err := d.stream()
	if err == nil {
		err = d.out.flush()
	}
	c.Done()
	return resultOf(string(c.got), d.in.offset(), err)
}

func resultOf(content string, taken int64, err error) result {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errCut):
		return result{Fails: "cut"}
	case err != nil:
		return result{Fails: "corrupt"}
	}
	return result{content, taken, ""}
}

// theirs decodes the stream at the start of data with another decoder, which
// takes no byte too many of a bytes.Reader.
func theirs(data []byte, open func(io.Reader) io.ReadCloser) result {
	in := bytes.NewReader(data)
	content, err := io.ReadAll(open(in))
	return resultOf(string(content), int64(len(data)-in.Len()), err)
}

// agree holds a stream against compress/flate, in pieces of several sizes.
func agree(t *testing.T, what string, data []byte, sizes ...int) result {
	t.Helper()
	want := theirs(data, flate.NewReader)
	for _, size := range append(sizes, 1<<20) {
		got := ours(data, size)
		if fallback && got.Fails != "" && want.Fails != "" {
			continue // it says otherwise why
		}
		if want.Fails == "cut" && got.Fails == "corrupt" {
			continue // it never looks at less than an end of block takes; what is wrong may be in those bits
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, in pieces of %d (-compress/flate +ours):\n%.2000s", what, size, diff)
		}
	}
	return want
}

// Streams of every level of two compressors decode to what went in, however
// they come in pieces.
func TestLevels(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var words strings.Builder
	for words.Len() < 500_000 {
		fmt.Fprintf(&words, "%x ", random.ExpFloat64())
	}
	for name, content := range map[string]string{
		"nothing": "", "one byte": "a", "noise": string(noise), "words": words.String(),
		"zeros": strings.Repeat("\x00", 1_000_000), "three bytes over and over": strings.Repeat("abc", 200_000),
		"far repetitions": strings.Repeat(string(noise[:32768]), 4),
	} {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			var std, klauspost bytes.Buffer
			w, err := flate.NewWriter(&std, level)
			if err != nil {
				t.Fatal(err)
			}
			kw, err := kflate.NewWriter(&klauspost, level)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range []io.WriteCloser{w, kw} {
				if _, err := io.WriteString(w, content); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for _, stream := range [][]byte{std.Bytes(), klauspost.Bytes()} {
				for _, size := range []int{1, 15, 16, 17, 24, 4096, 1 << 20} {
					if size == 1 && len(stream) > 10_000 {
						continue
					}
					got := ours(append(stream, "behind it"...), size)
					if got.Content != content || got.Taken != int64(len(stream)) || got.Fails != "" {
						t.Errorf("%s, level %d, pieces of %d: got %d bytes of %d, %d of %d taken, %s",
							name, level, size, len(got.Content), len(content), got.Taken, len(stream), got.Fails)
					}
				}
			}
		}
	}
}

// A stream that is cut is never taken for whole, wherever it is cut.
func TestCutStream(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		stream := randomStream(rand.New(rand.NewPCG(seed, 3)), 300)
		for n := range stream {
			want := theirs(stream[:n], flate.NewReader)
			if want.Fails == "" {
				t.Fatalf("seed %d: whole at %d of %d bytes", seed, n, len(stream))
			}
			if got := ours(stream[:n], 1+n%7); got.Fails != "cut" {
				t.Errorf("seed %d: cut to %d of %d bytes: %q", seed, n, len(stream), got.Fails)
			}
		}
	}
}

// Any code of any shape, any length and distance: what compress/flate decodes
// is what comes out, and what it refuses is refused.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	for seed := range many(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		stream := randomStream(random, 1+random.IntN(60_000))
		if got := agree(t, fmt.Sprintf("seed %d", seed), stream, 1+random.IntN(40)); got.Fails != "" {
			t.Fatalf("seed %d: the test made a stream that is none: %s", seed, got.Fails)
		}
		for range 10 {
			spoiled := slices.Clone(stream)
			for range 1 + random.IntN(3) {
				spoiled[random.IntN(min(len(spoiled), 200))] ^= 1 << random.IntN(8)
			}
			agree(t, fmt.Sprintf("seed %d, spoiled", seed), spoiled, 1+random.IntN(40))
		}
	}
}

// The error of the Source is returned as it is, in whatever part of the file;
// that of the Sink too, and the Sink is told that nothing more comes.
func TestErrorsOfOthers(t *testing.T) {
	t.Parallel()
	broken := errors.New("the line is broken")
	file := gzipOf(randomStream(rand.New(rand.NewPCG(5, 5)), 2000))
	for n := range len(file) + 1 {
		c := new(collector)
		if _, err := Gunzip(&pieces{data: file[:n], sizes: []int{64}, err: broken}, c); !errors.Is(err, broken) || c.done != 1 {
			t.Fatalf("broken behind %d of %d bytes: %v, done %d times", n, len(file), err, c.done)
		}
	}
	c := &collector{err: broken}
	if _, err := Gunzip(&pieces{data: file, sizes: []int{64}}, c); !errors.Is(err, broken) || c.done != 1 {
		t.Errorf("a sink that takes no more: %v, done %d times", err, c.done)
	}
}

// An Error says how far into the file it is.
func TestOffset(t *testing.T) {
	t.Parallel()
	first := gzipOf(deflate(strings.Repeat("first ", 1000)))
	for _, tt := range []struct {
		is     string
		file   []byte
		offset int64
		kind   Kind
	}{
		{"cut in its header", first[:7], 7, Corrupt},
		{"cut in its data", first[:25], 25, Corrupt},
		{"cut in its trailer", first[:len(first)-1], int64(len(first)) - 1, Corrupt},
		{"junk behind it", append(slices.Clone(first), "junk"...), int64(len(first)), Ambiguous},
		{"a second member with a reserved flag", append(slices.Clone(first), 0x1f, 0x8b, 8, 0x80, 0, 0, 0, 0, 0, 0), int64(len(first)) + 10, Ambiguous},
	} {
		_, err := Gunzip(&pieces{data: tt.file, sizes: []int{11}}, new(collector))
		var e *Error
		if !errors.As(err, &e) || e.Offset != tt.offset || e.Kind != tt.kind {
			t.Errorf("%s: %v, want kind %d at byte %d", tt.is, err, tt.kind, tt.offset)
		}
	}
}

// Gunzip uses its memory again, and nothing of one file is seen in the next.
func TestMemoryIsUsedAgain(t *testing.T) {
	file := gzipOf(deflate(strings.Repeat("content ", 100_000)))
	if _, err := Gunzip(&pieces{data: file, sizes: []int{1 << 20}}, new(discard)); err != nil {
		t.Fatal(err)
	}
	src := &pieces{sizes: []int{1 << 20}}
	if n := testing.AllocsPerRun(50, func() {
		src.data, src.last = file, nil
		if _, err := Gunzip(src, discard{}); err != nil {
			t.Fatal(err)
		}
	}); n > 4 && !raceEnabled && !fallback {
		t.Errorf("%v allocations a file, want a few", n)
	}
	stale := gzipOf(packBits("1 10 0000001 00000 0000000")) // a match one byte back, of nothing
	if _, err := Gunzip(&pieces{data: stale, sizes: []int{99}}, discard{}); err == nil || !strings.Contains(err.Error(), "bad DEFLATE data") {
		t.Errorf("a distance into the file before: %v", err)
	}
}

// many is n, or fewer where the race detector makes each one slow.
func many(n uint64) uint64 {
	if raceEnabled {
		return n / 10
	}
	return n
}

// discard is a Sink that looks at nothing.
type discard struct{}

// Take implements Sink.
func (discard) Take([]byte) error { return nil }

// Done implements Sink.
func (discard) Done() {}

func deflate(content string) []byte {
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, 6)
	_, _ = io.WriteString(w, content)
	_ = w.Close()
	return buf.Bytes()
}

// gzipOf returns a gzip file of one member around a stream that compress/flate
// decodes.
func gzipOf(stream []byte) []byte {
	content, _ := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	return member(stream, content)
}

// member returns a gzip file of one member around a stream with that content.
func member(stream, content []byte) []byte {
	file := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, stream...)
	for _, v := range []uint32{crc32.ChecksumIEEE(content), uint32(len(content))} {
		file = append(file, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return file
}
