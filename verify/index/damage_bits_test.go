package index_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
	"diffgate/verify/index/indextest"
)

// TestBitFlips flips the bits of the first records in a leaf page one by one:
// those of a record and its key while the file is open, those of the page's
// header and elements, which may cost the whole file, in a file of their own.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(30) // one leaf page
	base := compacted(t, makeFile(t, facts))
	leaf := findLeaf(t, base)
	count := int(binary.NativeEndian.Uint16(base[leaf+10:]))
	records := leaf + 16 + 16*count

	t.Run("of records and keys", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, base)
		s, seen := openBolt(t, path)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for bit := range 8 * 400 {
			at := records + bit/8
			if _, err := f.WriteAt([]byte{base[at] ^ 1<<(bit%8)}, int64(at)); err != nil {
				t.Fatal(err)
			}
			if n := countKnown(t, s, facts); n == len(facts) {
				t.Fatalf("bit %d flipped: all facts are known", bit)
			}
			if len(seen.take()) == 0 && len(listAll(t, s)) == len(facts) {
				t.Fatalf("bit %d flipped: all facts are listed", bit)
			}
			if _, err := f.WriteAt(base[at:at+1], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if n := countKnown(t, s, facts); n != len(facts) {
			t.Errorf("%d of %d facts are known after all", n, len(facts))
		}
	})

	t.Run("of elements", func(t *testing.T) {
		t.Parallel()
		for bit := range 8 * (16 + 2*16) {
			damaged := bytes.Clone(base)
			damaged[leaf+bit/8] ^= 1 << (bit % 8)
			s, _ := openBolt(t, writeFile(t, damaged))
			countKnown(t, s, facts)
			listAll(t, s)
			putAll(t, s, facts[:1])
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDamagedHint(t *testing.T) {
	t.Parallel()
	facts := []verify.Fact{indextest.Fact(0), indextest.Fact(0)}
	facts[1].Digest = indextest.Digest("twin", 0)
	slices.SortFunc(facts, func(a, b verify.Fact) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	hint := func(f verify.Fact) []byte {
		key, err := hex.DecodeString(f.Unpacked.Encoded()[:16] + f.Digest.Encoded()[:16])
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	tests := []struct {
		claim   string
		becomes []byte
	}{
		{"a hint that became another one does not show a fact twice", hint(facts[1])},
		{"a hint that leads nowhere is ignored", append(hint(facts[0])[:8], make([]byte, 8)...)},
	}
	file := makeFile(t, facts)
	for _, tt := range tests {
		s, _ := openBolt(t, writeFile(t, bytes.ReplaceAll(file, hint(facts[0]), tt.becomes)))
		got, err := s.ByDiffID(context.Background(), verify.DiffID(facts[0].Unpacked), 10)
		if diff := cmp.Diff(facts[1:], got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.claim, err, diff)
		}
	}
}

// findLeaf returns where the first leaf page with facts begins.
func findLeaf(t *testing.T, file []byte) (at int) {
	t.Helper()
	pagesWith(0x02, func(page []byte) {
		if keySize := binary.NativeEndian.Uint32(page[24:]); keySize == 33 && at == 0 {
			at = int(binary.NativeEndian.Uint64(page)) * pageSize
		}
	})(file)
	if at == 0 {
		t.Fatal("no leaf page")
	}
	return at
}
