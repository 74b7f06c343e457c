package verify

import "time"

// Limits bound what decoding one blob may cost. A blob over a limit is refused by
// the limit's name (ReasonOverLimit), never as a mismatch, and its transfer is not
// affected.
type Limits struct {
	// Unpacked is the most bytes that a blob may decode to. Zero means 1 TiB.
	Unpacked int64
	// Ratio is the most decoded bytes for each stored byte, looked at only
	// once more than 1 GiB was decoded: 64 MiB of zeros in 64 KiB is an
	// ordinary layer. Zero means 40000.
	Ratio int64
	// Window is the largest zstd window or single segment, and the largest xz
	// dictionary, in bytes; a decoder holds one in memory. Zero means 512 MiB,
	// as in containerd.
	Window int64
	// Lag is how long hashing may hold up the transfer of a blob, in all. A blob
	// whose hashing held it up for longer is GivenUp. Zero means that it may as
	// long as it takes.
	Lag time.Duration
	// Memory is what windows of zstd and xz are taken from. A blob for which
	// there is none is GivenUp. Nil means that there always is.
	Memory Memory
	// Slow is the lane for blobs that are slow to decode or take much memory:
	// bzip2, xz, and zstd with a window over 128 MiB. Each takes 1 of it. A blob
	// that finds the lane taken is GivenUp. Nil means that there is no lane.
	Slow Memory
}

// commonWindow is the largest zstd window that zstd(1) and every runtime accept.
const commonWindow = 128 << 20

// ratioFloor is where Limits.Ratio starts to count.
const ratioFloor = 1 << 30

func (l Limits) withDefaults() Limits {
	if l.Unpacked == 0 {
		l.Unpacked = 1 << 40
	}
	if l.Ratio == 0 {
		l.Ratio = 40000
	}
	if l.Window == 0 {
		l.Window = 512 << 20
	}
	return l
}

// A decodeError ends the decoding of a blob and becomes Fact.Problem and
// Fact.Reason.
type decodeError struct {
	problem Problem
	reason  string
}

func (e *decodeError) Error() string { return e.problem.String() + ": " + e.reason }

func corrupt(reason string) error   { return &decodeError{Corrupt, reason} }
func ambiguous(reason string) error { return &decodeError{Ambiguous, reason} }
func overLimit(reason string) error { return &decodeError{Limit, reason} }
