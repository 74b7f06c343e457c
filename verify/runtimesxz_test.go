package verify_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// mutateXZ returns some xz streams and other things in a row, of which some
// are damaged.
func mutateXZ(r *rand.Rand) []byte {
	var (
		blob   []byte
		places []int
	)
	for n := 1 + r.IntN(3); n > 0; n-- {
		part := randomXZ(r)
		if len(blob) > 0 {
			switch r.IntN(12) {
			case 0, 1:
				part = make([]byte, 4*r.IntN(5))
			case 2:
				part = make([]byte, r.IntN(9))
			case 3:
				part = part[:r.IntN(min(len(part), 40))]
			case 4:
				part = someBytes(r, 20)
			}
		}
		places = append(places, len(blob), len(blob)+12, len(blob)+len(part)-12, len(blob)+len(part)-24)
		blob = append(blob, part...)
	}
	for n := pick(r, 0, 0, 0, 0, 1, 2); n > 0; n-- {
		blob = damage(r, blob, places)
	}
	if len(blob) < 6 || oneIn(r, 20) {
		return blob
	}
	return append([]byte("\xfd7zXZ\x00"), blob[6:]...) // else no runtime takes it for xz
}

// randomXZ returns a stream with any fields, which are mostly right and whose
// checksums always are.
func randomXZ(r *rand.Rand) []byte {
	check := pick[byte](r, checkNone, checkNone, checkCRC32, checkCRC64, checkSHA256)
	if oneIn(r, 40) {
		check = byte(r.UintN(16))
	}
	blocks := make([]xzBlock, r.IntN(4))
	out := xzHead(check)
	var records [][]byte
	for i := range blocks {
		blocks[i] = randomXZBlock(r)
		out = append(out, blocks[i].bytes(check)...)
		records = append(records, blocks[i].record(check))
	}
	number := binary.AppendUvarint(nil, uint64(len(blocks)))
	switch r.IntN(60) {
	case 0:
		number = longer(number)
	case 1:
		records = append(records, binary.AppendUvarint(binary.AppendUvarint(nil, 20), 0))
	case 2:
		if len(records) > 0 {
			records[0] = longer(records[0])
		}
	case 3:
		if len(records) > 0 {
			records = records[1:]
		}
	}
	list := xzList(number, records...)
	return cat(out, list, xzFoot(check, len(list)))
}

// longer returns a number in 7 bits a byte that takes one byte more.
func longer(number []byte) []byte {
	number = slices.Clone(number)
	number[len(number)-1] |= 0x80
	return append(number, 0)
}

func randomXZBlock(r *rand.Rand) xzBlock {
	b := xzBlock{content: someBytes(r, pick(r, 0, 3, 300, 3000)), dictionary: byte(8 + r.IntN(8))}
	b.data = randomLZMA2(r, b.content)
	if oneIn(r, 2) {
		b.content, b.data = damagedLZMA2(r, b.content, b.data)
	}
	if oneIn(r, 3) {
		packed, unpacked := len(b.data), len(b.content)
		if oneIn(r, 8) {
			packed += r.IntN(9) - 4
		}
		if oneIn(r, 8) {
			unpacked += r.IntN(3) - 1
		}
		if oneIn(r, 2) {
			b.sizeFlags |= 0x40
			b.sizes = binary.AppendUvarint(b.sizes, uint64(packed))
		}
		if oneIn(r, 2) {
			b.sizeFlags |= 0x80
			b.sizes = binary.AppendUvarint(b.sizes, uint64(unpacked))
		}
		if len(b.sizes) > 0 && oneIn(r, 10) {
			b.sizes = longer(b.sizes)
		}
	}
	if oneIn(r, 20) {
		b.padding = r.IntN(4)
	}
	if oneIn(r, 40) {
		b.dictionary = byte(r.UintN(31)) // up to 128 MiB
	}
	if oneIn(r, 40) {
		b.count, b.filters = 1, []byte{pick[byte](r, 3, 4, 9, 0x21), 0, 0x21, 1, b.dictionary}
	}
	return b
}

// randomLZMA2 returns content as chunks, stored or not.
func randomLZMA2(r *rand.Rand, content []byte) []byte {
	var data []byte
	for control := byte(1); len(content) > 0; control = 2 {
		n := 1 + r.IntN(len(content))
		if data == nil && oneIn(r, 2) {
			m := r.IntN(n)
			data = short(chunks(64<<10, content[:m], content[m:n]), 1)
		} else {
			data = append(data, storedChunk(control, content[:n])...)
		}
		content = content[n:]
	}
	return append(data, 0)
}

// damagedLZMA2 returns LZMA2 data with an error that the library does not see,
// and the content that it reads there.
func damagedLZMA2(r *rand.Rand, content, data []byte) (_, _ []byte) {
	for range 10 {
		bad := bytes.Clone(cat(reordered(r, split(data))...))
		for n := pick(r, 0, 0, 1, 2); n > 0 && len(bad) > 0; n-- {
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		}
		in := bytes.NewReader(bad)
		z, err := lzma.Reader2Config{DictCap: 64 << 10}.NewReader2(in)
		if err != nil {
			continue
		}
		got, err := io.ReadAll(io.LimitReader(z, 1<<20))
		if err == nil && len(got) < 1<<20 {
			return got, bad[:len(bad)-in.Len()]
		}
	}
	return content, data
}

// split returns the chunks of LZMA2 data, with the zero at the end.
func split(data []byte) [][]byte {
	var out [][]byte
	for {
		size := 1
		switch control := data[0]; {
		case control == 0:
			return append(out, data[:1])
		case control < 0x80:
			size = 3 + int(binary.BigEndian.Uint16(data[1:])) + 1
		case control < 0xc0:
			size = 5 + int(binary.BigEndian.Uint16(data[3:])) + 1
		default:
			size = 6 + int(binary.BigEndian.Uint16(data[3:])) + 1
		}
		out, data = append(out, data[:size]), data[size:]
	}
}

// reordered changes chunks and their order.
func reordered(r *rand.Rand, chunks [][]byte) [][]byte {
	out := slices.Clone(chunks)
	i := r.IntN(len(out))
	c := slices.Clone(out[i])
	switch r.IntN(7) {
	case 0: // other resets
		if c[0] >= 0x80 {
			c[0] = c[0]&0x1f | byte(0x80+r.UintN(4)<<5)
		} else if c[0] > 0 {
			c[0] ^= 3
		}
		out[i] = c
	case 1: // other properties, or a byte of them less or more
		if c[0] >= 0xc0 {
			c[5] = byte(r.UintN(225))
			out[i] = c
		}
	case 2:
		out = slices.Insert(out, i, storedChunk(pick[byte](r, 1, 2), someBytes(r, 5)))
	case 3:
		out = slices.Insert(out, r.IntN(len(out)), c)
	case 4:
		out = slices.Delete(out, i, i+1)
	case 5: // a size that counts what follows too
		if c[0] >= 0x80 && i+1 < len(out) {
			binary.BigEndian.PutUint16(c[3:], binary.BigEndian.Uint16(c[3:])+uint16(len(out[i+1])))
			out[i] = c
		}
	case 6:
		if len(c) > 5 {
			c[2] += byte(r.IntN(3))
			c[4] += byte(r.IntN(3))
			out[i] = c
		}
	}
	return out
}
