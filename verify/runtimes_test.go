package verify_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// TestRuntimes makes blobs at random, damaged where decoders are known to part,
// and holds our answer against the decoders of the field, programs too, which
// are too slow for the fuzzer. The blob of a number is always the same.
//
// DIFFGATE_MUTANTS is how many blobs of each encoding it makes, in place of a
// few seconds' worth; DIFFGATE_MUTANT is the number of the first.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		encoding verify.Encoding
		columns  []column
		mutate   func(*rand.Rand) []byte
		count    int
	}{
		{verify.Gzip, gzipRuntimes, mutateGzip, 800},
		{verify.Zstd, zstdRuntimes, mutateZstd, 400},
		{verify.XZ, xzColumns, mutateXZ, 1000},
		{verify.Bzip2, bzip2Columns, mutateBzip2, 300},
	} {
		t.Run(test.encoding.String(), func(t *testing.T) {
			t.Parallel()
			for _, c := range test.columns {
				if c.program != nil {
					need(t, c.program[0])
				}
			}
			tally := map[string]int{}
			if raceEnabled {
				test.count /= 4 // what is raced here runs in other tests as well
			}
			first, count := environ(t, "DIFFGATE_MUTANT", 0), environ(t, "DIFFGATE_MUTANTS", test.count)
			for n := first; n < first+count; n++ {
				blob := test.mutate(rand.New(rand.NewPCG(uint64(n), 0)))
				f := hash(blob)
				if f.Encoding != test.encoding {
					tally["something else"]++
					continue
				}
				said, wrong := judgeMutant(f, readings(t.Context(), test.columns, blob))
				tally[said]++
				if wrong != "" {
					tally["WRONG"]++
					t.Errorf("mutant %d, %d bytes, %s %s: %s%s", n, len(blob), f.Encoding, f.Reason, wrong, excerpt(blob))
				}
			}
			t.Logf("%v", tally)
		})
	}
}

// environ returns the number in a variable of the environment, if it is set.
func environ(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func excerpt(blob []byte) string {
	if len(blob) > 2000 {
		return ""
	}
	return fmt.Sprintf("\n%x", blob)
}

// A reading is what a decoder makes of a blob.
type reading struct {
	by      column
	content digest.Digest
	err     error
}

func readings(ctx context.Context, columns []column, blob []byte) []reading {
	out := make([]reading, len(columns))
	for i, c := range columns {
		content, err := c.run(ctx, blob)
		out[i] = reading{c, content, err}
	}
	return out
}

// judgeMutant holds a fact against readings of the same blob. It returns what
// kind of blob it was, and what is wrong with the fact, if anything.
func judgeMutant(f verify.Fact, all []reading) (said, wrong string) {
	contents := map[digest.Digest]bool{}
	refused := ""
	for _, r := range all {
		if r.err != nil && r.by.aside {
			continue
		}
		if r.err != nil {
			refused = fmt.Sprintf("%s refuses it: %v", r.by.name, r.err)
			continue
		}
		contents[r.content] = true
		if f.Problem == verify.None && r.content != f.Unpacked {
			wrong = fmt.Sprintf("%s reads %s and we accept %s", r.by.name, r.content, f.Unpacked)
		}
	}
	said = f.Problem.String()
	switch {
	case f.Problem == verify.None && f.Quirks == 0:
		said = "accepted"
	case f.Problem == verify.None:
		said = "accepted with a quirk"
	}
	if len(contents) > 1 {
		said += ", split"
	}
	switch {
	case wrong != "":
	case f.Problem == verify.None && f.Quirks == 0 && refused != "":
		wrong = "we accept it without a quirk and " + refused
	case strings.Contains(f.Reason, "optional field"): // refused wherever igzip's buffer ends
	case (f.Problem == verify.Corrupt || f.Problem == verify.Ambiguous) && len(contents) == 1 && refused == "":
		wrong = "we refuse it and all read the same"
	}
	return said, wrong
}

// Helpers of those who mutate.

// pick returns one of several.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// oneIn is true once in n times.
func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// someBytes returns up to n bytes: zeros, noise, or text that shrinks.
func someBytes(r *rand.Rand, n int) []byte {
	out := make([]byte, r.IntN(n+1))
	switch r.IntN(3) {
	case 0:
		for i := range out {
			out[i] = byte(r.Uint32())
		}
	case 1:
		for i := range out {
			out[i] = "abcd"[r.IntN(4)]
		}
	}
	return out
}

// damage changes a byte, or removes, adds or repeats some, mostly near one of
// the places given.
func damage(r *rand.Rand, blob []byte, places []int) []byte {
	if len(blob) == 0 {
		return blob
	}
	at := r.IntN(len(blob))
	if len(places) > 0 && !oneIn(r, 4) {
		at = min(max(pick(r, places...)+r.IntN(24)-8, 0), len(blob)-1)
	}
	n := min(1+r.IntN(9), len(blob)-at)
	switch r.IntN(8) {
	case 0, 1:
		blob = slices.Clone(blob)
		blob[at] ^= 1 << r.IntN(8)
	case 2:
		blob = slices.Clone(blob)
		blob[at] = pick(r, 0, 1, 0xff, 0x1f, 0x8b, byte(r.Uint32()))
	case 3:
		blob = blob[:at]
	case 4:
		blob = cat(blob[:at], blob[at+n:])
	case 5:
		blob = cat(blob[:at], make([]byte, n), blob[at:])
	case 6:
		blob = cat(blob[:at+n], blob[at:])
	case 7:
		blob = cat(blob[:at], someBytes(r, 20), blob[at:])
	}
	return blob
}
