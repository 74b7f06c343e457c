package index

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// leafOf returns a page of one record.
func leafOf(key, value []byte) []byte {
	page := make([]byte, pageHeader+elementLen)
	order := binary.NativeEndian
	order.PutUint16(page[8:], flagLeaf)
	order.PutUint16(page[10:], 1)
	order.PutUint32(page[pageHeader+4:], elementLen)
	order.PutUint32(page[pageHeader+8:], uint32(len(key)))
	order.PutUint32(page[pageHeader+12:], uint32(len(value)))
	return append(append(page, key...), value...)
}

func sampleLeaf() []byte {
	key, record := encodeFact(verify.Fact{Digest: digest.FromString("blob"), Unpacked: digest.FromString("tar"), Parts: 1, Source: verify.Pushed, LearnedAt: time.Unix(1, 0)})
	return leafOf(key, record)
}

// A fact proves whose file it is; one with a wrong bit does not.
func TestHoldsFact(t *testing.T) {
	t.Parallel()
	page := sampleLeaf()
	if !holdsFact(page) {
		t.Error("a page with a fact proves nothing")
	}
	for i := pageHeader + elementLen; i < len(page); i++ {
		spoiled := bytes.Clone(page)
		spoiled[i] ^= 1
		if holdsFact(spoiled) {
			t.Errorf("a fact with a wrong bit in byte %d proves something", i)
		}
	}
}

// FuzzIsOurs reads any file without a panic, and takes none for a DiffID index that
// holds neither record.
func FuzzIsOurs(f *testing.F) {
	f.Add(sampleLeaf())
	f.Add(signature())
	f.Add(append(make([]byte, 4090), signature()...))
	f.Fuzz(func(t *testing.T, file []byte) {
		ours, err := isOurs(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(file, signature()) != ours && !holdsFactAnywhere(file) {
			t.Errorf("is ours: %t", ours)
		}
	})
}

func holdsFactAnywhere(file []byte) bool {
	for len(file) > 0 {
		n := min(len(file), 4<<10)
		if holdsFact(file[:n]) {
			return true
		}
		file = file[n:]
	}
	return false
}
