package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// With limits.lag, a blob that takes long to unpack does not hold up its upload;
// it is fetched and hashed afterwards.
func TestLagIsMadeUpFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is     string
		lag    time.Duration
		source verify.Source
	}{
		{"less than no time", 1, verify.Fetched},
		{"as long as it takes", 0, verify.Pushed},
	} {
		// Zeros: hundreds of bytes unpack from each that is sent.
		blob := verifytest.GzipMembers(make([]byte, 64<<20), make([]byte, 64<<20), make([]byte, 64<<20), make([]byte, 64<<20))
		p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Ahead, c.Lag = 0, tt.lag })
		dgst := digest.FromBytes(blob)
		a := do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "app"), dgst), blob, "Content-Type", "application/octet-stream")
		if a.Status != http.StatusCreated {
			t.Fatalf("%s: got %d %s", tt.is, a.Status, a.Body)
		}
		if diff := cmp.Diff(factAbout(t, blob, tt.source), p.fact(t, dgst)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.is, diff)
		}
	}
}
