package settings

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
)

// Size is a number of bytes, written as docker writes memory: 4MiB, 512k, or a
// plain number. KB and KiB are both 1024 bytes.
type Size int64

// Units of Size.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// maxSize keeps clear of where the parser's floating point leaves int64.
const maxSize = 1 << 20 * TiB

// UnmarshalText sets s to the size that text says.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := units.RAMInBytes(string(text))
	if err != nil || n < 0 || Size(n) > maxSize {
		return fmt.Errorf("%q is not a size; write one such as 4MiB", text)
	}
	*s = Size(n)
	return nil
}

// MarshalText returns the text of String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns the size exactly, in the largest unit that divides it.
func (s Size) String() string {
	unit := ""
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if s == 0 || s%KiB != 0 {
			break
		}
		s, unit = s/KiB, next
	}
	return strconv.FormatInt(int64(s), 10) + unit
}
