package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/verify/verifytest"
)

// A site is a repository of a registry behind a proxy.
type site struct{ registry, proxy, repo string }

// A pushWay is a way by which a blob gets into a repository before the manifest
// that names it.
type pushWay struct {
	name   string
	push   func(t testing.TB, s site, dgst digest.Digest, blob []byte)
	alone  bool                        // the proxy is to know nothing
	cannot func(verifytest.Image) bool // travel by this way; may be nil
}

// pushWays are those by which the proxy sees a blob not at all, which takes the
// longest, whole, in parts, and in another repository.
var pushWays = []pushWay{
	{name: "unseen", alone: true, push: func(t testing.TB, s site, dgst digest.Digest, blob []byte) {
		putBlob(t, s.registry, s.repo, dgst, blob)
	}},
	{name: "patch", push: func(t testing.TB, s site, dgst digest.Digest, blob []byte) {
		next := patch(t, s.proxy, startUpload(t, s.proxy, s.repo), bytes.NewReader(blob))
		endUpload(t, next, dgst, nil)
	}},
	{name: "put", push: func(t testing.TB, s site, dgst digest.Digest, blob []byte) {
		putBlob(t, s.proxy, s.repo, dgst, blob)
	}},
	{name: "chunks", push: func(t testing.TB, s site, dgst digest.Digest, blob []byte) {
		const parts = 2
		next := startUpload(t, s.proxy, s.repo)
		if len(blob) < parts { // a Content-Range cannot speak of no bytes
			endUpload(t, next, dgst, blob)
			return
		}
		for i := range parts {
			from, to := len(blob)*i/parts, len(blob)*(i+1)/parts
			next = patch(t, s.proxy, next, bytes.NewReader(blob[from:to]), "Content-Range", fmt.Sprintf("%d-%d", from, to-1))
		}
		endUpload(t, next, dgst, nil)
	}},
	{name: "mount", cannot: hasSHA512, push: func(t testing.TB, s site, dgst digest.Digest, blob []byte) {
		from := s.repo + "/from"
		putBlob(t, s.proxy, from, dgst, blob)
		query := url.Values{"mount": {dgst.String()}, "from": {from}}
		a := do(t, http.MethodPost, s.proxy+"/v2/"+s.repo+"/blobs/uploads/?"+query.Encode(), nil)
		if a.Status != http.StatusCreated {
			t.Fatalf("mount of %s: got %d %s, want 201", dgst, a.Status, a.Body)
		}
	}},
}

// hasSHA512 reports whether an image names a blob by its SHA-512 digest:
// distribution says 201 to a mount of that, and holds it by SHA-256 only.
func hasSHA512(img verifytest.Image) bool {
	for dgst := range img.Blobs() {
		if dgst.Algorithm() == digest.SHA512 {
			return true
		}
	}
	return false
}

// putBlob pushes a blob with POST and PUT, under that digest.
func putBlob(t testing.TB, base, repo string, dgst digest.Digest, blob []byte) {
	t.Helper()
	endUpload(t, startUpload(t, base, repo), dgst, blob)
}

// endUpload sends the rest of a blob with the PUT that ends its upload.
func endUpload(t testing.TB, location string, dgst digest.Digest, rest []byte) {
	t.Helper()
	a := do(t, http.MethodPut, withDigest(location, dgst), rest, "Content-Type", octets)
	if a.Status != http.StatusCreated {
		t.Fatalf("PUT %s: got %d %s, want 201", dgst, a.Status, a.Body)
	}
}
