package verify_test

import "math/rand/v2"

// mutateBzip2 returns some bzip2 streams and other things in a row, of which
// some are damaged.
func mutateBzip2(r *rand.Rand) []byte {
	var (
		blob   []byte
		places []int
	)
	for n := 1 + r.IntN(3); n > 0; n-- {
		part := bz(someBytes(r, pick(r, 0, 3, 300, 3000)))
		if oneIn(r, 4) {
			part = level(byte(r.IntN(10)), part)
		}
		if len(blob) > 0 {
			switch r.IntN(12) {
			case 0:
				part = make([]byte, 1+r.IntN(9))
			case 1:
				part = part[:r.IntN(min(len(part), 40))]
			case 2:
				part = someBytes(r, 20)
			}
		}
		places = append(places, len(blob), len(blob)+10, len(blob)+len(part)-10)
		blob = append(blob, part...)
	}
	for n := pick(r, 0, 0, 0, 0, 1, 2); n > 0; n-- {
		blob = damage(r, blob, places)
	}
	if len(blob) < 3 || oneIn(r, 20) {
		return blob
	}
	return append([]byte("BZh"), blob[3:]...) // else no runtime takes it for bzip2
}
