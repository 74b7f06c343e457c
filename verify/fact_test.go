package verify_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"diffgate/verify"
)

// What a DiffID index that holds one fact does with another about the same
// bytes.
func TestFactSupersede(t *testing.T) {
	t.Parallel()
	known := hash(gz(p1))
	corrupt := hash(short(gz(p1), 1))
	corrupt.Digest, corrupt.Size = known.Digest, known.Size
	limit := func(decoded int64) verify.Fact {
		f := known
		f.Problem, f.Unpacked, f.UnpackedSize = verify.Limit, "", decoded
		return f
	}
	unsupported := limit(0)
	unsupported.Problem = verify.Unsupported
	other := known
	other.Unpacked = hash(gz(p2)).Unpacked
	for _, test := range []struct {
		is       string
		old, new verify.Fact
		store    bool
		err      error
	}{
		{is: "the same again", old: known, new: known},
		{is: "the same, learned in another way at another time", old: known, new: known.Learned(verify.Scanned, time.Now())},
		{is: "what was beyond a limit is decoded", old: limit(10), new: known, store: true},
		{is: "what was beyond a limit is corrupt", old: limit(10), new: corrupt, store: true},
		{is: "what was not supported is decoded", old: unsupported, new: known, store: true},
		{is: "a limit was raised", old: limit(10), new: limit(20), store: true},
		{is: "a limit was lowered", old: limit(20), new: limit(10)},
		{is: "what is known is beyond a limit now", old: known, new: limit(10)},
		{is: "other content", old: known, new: other, err: verify.ErrConflict},
		{is: "what was decoded is corrupt now", old: known, new: corrupt, err: verify.ErrConflict},
		{is: "what was corrupt is decoded now", old: corrupt, new: known, err: verify.ErrConflict},
	} {
		store, err := test.new.Supersede(test.old)
		if store != test.store || !errors.Is(err, test.err) {
			t.Errorf("%s: got %v, %v, want %v, %v", test.is, store, err, test.store, test.err)
		}
	}
}

// The names are part of the HTTP API.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value fmt.Stringer
		want  string
	}{
		{verify.Identity, "identity"},
		{verify.Gzip, "gzip"},
		{verify.Zstd, "zstd"},
		{verify.Bzip2, "bzip2"},
		{verify.XZ, "xz"},
		{verify.None, ""},
		{verify.Corrupt, "corrupt"},
		{verify.Ambiguous, "ambiguous"},
		{verify.Limit, "limit"},
		{verify.Unsupported, "unsupported"},
		{verify.Pushed, "push"},
		{verify.Pulled, "pull"},
		{verify.Fetched, "fetch"},
		{verify.Scanned, "scan"},
		{verify.Encoding(99), "unknown(99)"},
	} {
		if got := test.value.String(); got != test.want {
			t.Errorf("got name %q, want %q", got, test.want)
		}
	}
}
