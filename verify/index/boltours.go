package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// errOther marks a file that bbolt can read, or a later bbolt could, and that this
// version does not.
var errOther = errors.New("a file that this version does not read")

// signature returns bytes that stand in every file of a DiffID index and in no other
// file: the record of its format with the checksum.
func signature() []byte {
	return append([]byte(metaFormat), seal([]byte(metaFormat), []byte(strconv.Itoa(fileFormat)))...)
}

// isOurs reports whether a file is provably that of a DiffID index, however damaged:
// it holds the record of the format, or a fact with its checksum. It reads the file
// until it finds the proof.
func isOurs(r io.Reader) (bool, error) {
	const page = 4 << 10 // pages are as long, or some times as long
	want := signature()
	var buf [page + 32]byte
	kept := 0 // bytes of the page before, as the record may be cut
	for {
		n, err := io.ReadFull(r, buf[kept:kept+page])
		have := buf[:kept+n]
		switch {
		case bytes.Contains(have, want), holdsFact(buf[kept : kept+n]):
			return true, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return false, nil
		case err != nil:
			return false, err
		}
		kept = copy(buf[:], have[len(have)-len(want)+1:])
	}
}

// holdsFact reports whether a page is a leaf with a whole fact.
func holdsFact(page []byte) bool {
	order := binary.NativeEndian
	if len(page) < pageHeader || order.Uint16(page[8:]) != flagLeaf {
		return false
	}
	for i := range int(order.Uint16(page[10:])) {
		at := pageHeader + i*elementLen
		if at+elementLen > len(page) {
			return false
		}
		e := page[at:]
		key, size, value := uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		if key+size+value > uint64(len(e)) {
			continue
		}
		if _, err := decodeFact(e[key:key+size], e[key+size:key+size+value]); err == nil {
			return true
		}
	}
	return false
}

// proveOurs returns nil if the file may be moved aside because of cause, and otherwise
// the error that says why it is left as it is.
func (f *boltFile) proveOurs(path string, cause error) error {
	ours, err := isOurs(io.NewSectionReader(f.raw, 0, 1<<62))
	switch {
	case err != nil:
		return fmt.Errorf("open DiffID index %s: %w", path, err)
	case !ours:
		return fmt.Errorf("open DiffID index: %s is not provably a DiffID index (%w), so it was left as it is: choose another file, or remove it", path, cause)
	}
	return nil
}

// otherFormat returns an error for a file that a later version of bbolt wrote, or whose
// freelist was abandoned. Neither is damage.
func otherFormat(r io.ReaderAt) error {
	for _, offset := range []int64{0, 4 << 10, 16 << 10, 64 << 10} {
		if _, v, ok := readAnyMeta(r, offset); ok && v > metaVersion {
			return fmt.Errorf("%w: it has version %d of bbolt's format, and version %d is read", errOther, v, metaVersion)
		}
	}
	if m, err := latestMeta(r); err == nil && m.freelist == ^uint64(0) {
		return fmt.Errorf("%w: its freelist was abandoned; rebuild it with 'bbolt surgery freelist rebuild'", errOther)
	}
	return nil
}
