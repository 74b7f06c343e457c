package verify

import (
	"bytes"
	"testing"

	"github.com/ulikunitz/xz/lzma"
)

// lzma2Size reads the lengths of all chunks, and says nothing of what it does not see
// whole.
func TestLZMA2Size(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 100, 5000, 70_000, 3 << 20} {
		for is, content := range map[string][]byte{"zeros": make([]byte, size), "noise": noise(size)} {
			var packed bytes.Buffer
			w, err := lzma.NewWriter2(&packed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := lzma2Size(append(packed.Bytes(), "more"...)); got != uint64(size) {
				t.Errorf("%d bytes of %s: got %d", size, is, got)
			}
			if got := lzma2Size(packed.Bytes()[:packed.Len()-1]); got != unknownSize {
				t.Errorf("%d bytes of %s without their end: got %d", size, is, got)
			}
		}
	}
}
