package verify

import (
	"crypto/sha256"
	"testing"
)

func TestSink(t *testing.T) {
	t.Parallel()
	aborted := func() error { return errAborted }
	for _, test := range []struct {
		is     string
		size   int64 // decoded bytes before
		stored int64
		limits Limits
		gaveUp func() error
		want   string
	}{
		{is: "an ordinary layer", size: 1 << 20, stored: 1 << 18},
		{is: "a ratio over the limit up to a GiB", size: ratioFloor - 1, stored: 1},
		{is: "a ratio at the limit over a GiB", size: ratioFloor, stored: ratioFloor / 40000},
		{is: "a ratio over the limit over a GiB", size: ratioFloor, stored: ratioFloor/40000 - 1, want: "limit: it unpacks to more than limits.ratio (40000) times its size"},
		{is: "a ratio over a limit of ten", size: ratioFloor, stored: ratioFloor/10 - 1, limits: Limits{Ratio: 10}, want: "limit: it unpacks to more than limits.ratio (10) times its size"},
		{is: "a size at the limit", size: 9, limits: Limits{Unpacked: 10}},
		{is: "a size over the limit", size: 10, limits: Limits{Unpacked: 10}, want: "limit: it unpacks to more than limits.unpacked (10 bytes)"},
		{is: "a hasher that was closed, in the middle of a bomb", gaveUp: aborted, want: "given_up: hashing was given up"},
	} {
		if test.gaveUp == nil {
			test.gaveUp = func() error { return nil }
		}
		s := sink{hash: sha256.New(), size: test.size, limits: test.limits.withDefaults(), read: func() int64 { return test.stored }, gaveUp: test.gaveUp}
		got := ""
		if _, err := s.Write([]byte{0}); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.is, got, test.want)
		}
	}
}
