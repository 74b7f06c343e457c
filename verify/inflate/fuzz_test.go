package inflate

import (
	"compress/flate"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	kflate "github.com/klauspost/compress/flate"
)

// FuzzStream holds any bytes against compress/flate and klauspost: the same are
// streams, they decode to the same, and end at the same byte; in whatever pieces
// they come. Only where klauspost takes what compress/flate and zlib call corrupt,
// an invalid distance code (370ce64c5da2f778), it is not followed.
func FuzzStream(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomStream(rand.New(rand.NewPCG(seed, 9)), 200), uint16(seed))
	}
	for _, bits := range []string{
		"1 00", "1 10 0000000", "1 11", "1 10 0000001 00000 0000000", "1 10 01010101 0000001 00000 0000000",
	} {
		f.Add(packBits(bits), uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		got := ours(data, 1+int(size))
		want, lax := theirs(data, flate.NewReader), theirs(data, kflate.NewReader)
		if want.Fails != "" && lax.Fails == "" {
			if got.Fails == "" && !fallback {
				t.Fatalf("compress/flate says %q, we take it", want.Fails)
			}
			return
		}
		for name, want := range map[string]result{"compress/flate": want, "klauspost": lax} {
			if (want.Fails == "") != (got.Fails == "") {
				t.Fatalf("%s says %q, we %q", name, want.Fails, got.Fails)
			}
			if diff := cmp.Diff(want, got); want.Fails == "" && diff != "" {
				t.Fatalf("-%s +ours:\n%s", name, diff)
			}
		}
	})
}

// FuzzShapes makes streams of its own, which bytes alone hardly become: codes of
// every shape, matches of every length and distance, and then spoils a few bits.
func FuzzShapes(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, a, b uint64, spoil, at uint32) {
		random := rand.New(rand.NewPCG(a, b))
		stream := randomStream(random, 1+random.IntN(5_000))
		if spoil != 0 {
			stream[int(at)%len(stream)] ^= byte(spoil)
		}
		agree(t, "stream", stream, 1+random.IntN(100))
	})
}
