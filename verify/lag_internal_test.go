package verify

import (
	"bytes"
	"compress/gzip"
	"testing"
	"time"
)

// A blob whose hashing holds up its transfer for longer than Limits.Lag goes on
// without it: Write does not wait any more, the digest is right, and nothing is
// claimed about the content.
func TestLag(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(noise(4 << 20)) // into memory
	_ = z.Close()
	blob := packed.Bytes()
	for _, tt := range []struct {
		is     string
		lag    time.Duration
		gaveUp bool
	}{
		{"a decoder that never goes on", time.Millisecond, true},
		{"a decoder that goes on in time", time.Hour, false},
	} {
		release := make(chan struct{})
		if !tt.gaveUp {
			close(release)
		}
		h := newHasher(Limits{Lag: tt.lag}, stuck{release})
		for rest := blob; len(rest) > 0; rest = rest[min(len(rest), 5000):] {
			h.Write(rest[:min(len(rest), 5000)])
		}
		if tt.gaveUp {
			close(release)
		}
		f := h.Sum()
		if (f.Problem == GivenUp) != tt.gaveUp || f.Final() == tt.gaveUp || f.Size != int64(len(blob)) {
			t.Errorf("%s: %+v", tt.is, f)
		}
		if tt.gaveUp && f.Reason != errLag.reason {
			t.Errorf("%s: because %q, want %q", tt.is, f.Reason, errLag.reason)
		}
	}
}

// stuck takes nothing before it is released.
type stuck struct{ release <-chan struct{} }

// Write implements io.Writer.
func (s stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

// noise returns bytes that do not compress.
func noise(n int) []byte {
	out, state := make([]byte, n), uint64(1)
	for i := range out {
		state = state*6364136223846793005 + 1442695040888963407
		out[i] = byte(state >> 56)
	}
	return out
}
