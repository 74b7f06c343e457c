package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

const octets = "application/octet-stream"

// An uploadWay is a way to push a blob that some client takes. It returns the
// answer to the last request.
type uploadWay struct {
	name string
	push func(t testing.TB, base, repo string, blob []byte) answer
	seen []string // by the upstream; L is the length of the blob
}

// uploadWays are all the ways. Those with parts need a blob of three bytes or
// more.
var uploadWays = []uploadWay{
	{"POST and PUT: containerd, BuildKit, crane", func(t testing.TB, base, repo string, blob []byte) answer {
		return do(t, http.MethodPut, withDigest(startUpload(t, base, repo), digest.FromBytes(blob)), blob, "Content-Type", octets)
	}, []string{"POST 0", "PUT L"}},
	{"POST and PUT of unknown length", func(t testing.TB, base, repo string, blob []byte) answer {
		req := newRequest(t, http.MethodPut, withDigest(startUpload(t, base, repo), digest.FromBytes(blob)), io.MultiReader(bytes.NewReader(blob)), "Content-Type", octets)
		return send(t, req)
	}, []string{"POST 0", "PUT -1"}},
	{"one PATCH, then PUT: skopeo, podman", func(t testing.TB, base, repo string, blob []byte) answer {
		next := patch(t, base, startUpload(t, base, repo), bytes.NewReader(blob))
		return do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil)
	}, []string{"POST 0", "PATCH L", "PUT 0"}},
	{"one PATCH of unknown length, then PUT: docker", func(t testing.TB, base, repo string, blob []byte) answer {
		next := patch(t, base, startUpload(t, base, repo), io.MultiReader(bytes.NewReader(blob)))
		return do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil)
	}, []string{"POST 0", "PATCH -1", "PUT 0"}},
	{"three PATCHes with ranges: regctl, oras", func(t testing.TB, base, repo string, blob []byte) answer {
		next := startUpload(t, base, repo)
		for i := range 3 {
			from, to := len(blob)*i/3, len(blob)*(i+1)/3
			next = patch(t, base, next, bytes.NewReader(blob[from:to]), "Content-Range", fmt.Sprintf("%d-%d", from, to-1))
		}
		return do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil)
	}, []string{"POST 0", "PATCH P", "PATCH P", "PATCH P", "PUT 0"}},
	{"the last part with the PUT", func(t testing.TB, base, repo string, blob []byte) answer {
		half := len(blob) / 2
		next := patch(t, base, startUpload(t, base, repo), bytes.NewReader(blob[:half]))
		return do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), blob[half:], "Content-Type", octets,
			"Content-Range", fmt.Sprintf("%d-%d", half, len(blob)-1))
	}, []string{"POST 0", "PATCH P", "PUT P"}},
	{"all with the POST, which distribution ignores, then PUT", func(t testing.TB, base, repo string, blob []byte) answer {
		a := do(t, http.MethodPost, withDigest(base+"/v2/"+repo+"/blobs/uploads/", digest.FromBytes(blob)), blob, "Content-Type", octets)
		return do(t, http.MethodPut, withDigest(a.location(t, base), digest.FromBytes(blob)), blob, "Content-Type", octets)
	}, []string{"POST L", "PUT L"}},
}

// patch sends a part of a blob and returns where the next goes.
func patch(t testing.TB, base, location string, part io.Reader, header ...string) string {
	t.Helper()
	a := send(t, newRequest(t, http.MethodPatch, location, part, append(header, "Content-Type", octets)...))
	if a.Status != http.StatusAccepted {
		t.Fatalf("PATCH: got %d %s, want 202", a.Status, a.Body)
	}
	return a.location(t, base)
}

// Whatever way a client takes, the DiffID index learns what package verify
// says about the blob, and the upstream sees the client's requests and no
// other.
func TestUpload(t *testing.T) {
	t.Parallel()
	tar := verifytest.Tar("etc/motd", strings.Repeat("hello\n", 20_000))
	blobs := []struct {
		name string
		blob []byte
	}{
		{"gzip", verifytest.Gzip(tar)},
		{"zstd", verifytest.Zstd(tar)},
		{"tar", tar},
		{"gzip of two members and a rest", append(verifytest.GzipMembers(tar[:512], tar[512:]), 0, 0, 0)},
		{"half a gzip", verifytest.Gzip(tar)[:100]},
		{"config", verifytest.Honest(1).Config()},
		{"three bytes", []byte("abc")},
	}
	for _, way := range uploadWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			log := recordRequests(newRegistryHandler(t, nil))
			p := newProxy(t, newUpstream(t, log).URL, nil)
			for _, b := range blobs {
				if a := way.push(t, p.URL, "a/b", b.blob); a.Status != http.StatusCreated {
					t.Fatalf("%s: got %d %s, want 201", b.name, a.Status, a.Body)
				}
				if diff := cmp.Diff(factAbout(t, b.blob, verify.Pushed), p.fact(t, digest.FromBytes(b.blob))); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", b.name, diff)
				}
				if diff := cmp.Diff(way.seen, summary(log.take(), len(b.blob))); diff != "" {
					t.Errorf("%s: upstream requests (-want +got)\n%s", b.name, diff)
				}
			}
		})
	}
}

// summary shortens requests to method and length: L is that of the whole blob,
// P that of a part.
func summary(lines []string, whole int) []string {
	var short []string
	for _, line := range lines {
		method, rest, _ := strings.Cut(line, " ")
		_, length, _ := strings.Cut(rest, " len=")
		switch length {
		case fmt.Sprint(whole):
			length = "L"
		case "0", "-1":
		default:
			length = "P"
		}
		short = append(short, method+" "+length)
	}
	return short
}

// An empty blob is a blob.
func TestUploadOfNothing(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	dgst := pushBlob(t, p.URL, "a/b", nil)
	if diff := cmp.Diff(factAbout(t, nil, verify.Pushed), p.fact(t, dgst)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A blob is learned when the upstream confirms the bytes that passed, and
// those only.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	dgst := digest.FromBytes(blob)
	other := digest.FromString("other").String()
	tests := []struct {
		name    string
		asked   digest.Digest
		answer  func(h http.Header, status *int)
		learned bool
	}{
		{"201 and the digest", dgst, nil, true},
		{"201 without a digest", dgst, func(h http.Header, _ *int) { h.Del("Docker-Content-Digest") }, true},
		{"201 and another digest", dgst, func(h http.Header, _ *int) { h.Set("Docker-Content-Digest", other) }, false},
		{"201 and another algorithm", dgst, func(h http.Header, _ *int) {
			h.Set("Docker-Content-Digest", digest.SHA512.FromBytes(blob).String())
		}, false},
		{"201 to a wrong digest", digest.Digest(other), nil, false},
		{"201 to a wrong digest, and the right one", digest.Digest(other), func(h http.Header, _ *int) { h.Set("Docker-Content-Digest", dgst.String()) }, true},
		{"200", dgst, func(_ http.Header, status *int) { *status = 200 }, false},
		{"202", dgst, func(_ http.Header, status *int) { *status = 202 }, false},
		{"204", dgst, func(_ http.Header, status *int) { *status = 204 }, false},
		{"400", dgst, func(_ http.Header, status *int) { *status = 400 }, false},
		{"500", dgst, func(_ http.Header, status *int) { *status = 500 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, newUpstream(t, &discarder{answer: tt.answer}).URL, nil)
			do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), tt.asked), blob, "Content-Type", octets)
			var want []digest.Digest
			if tt.learned {
				want = []digest.Digest{dgst}
			}
			if diff := cmp.Diff(want, p.facts(t)); diff != "" {
				t.Errorf("learned (-want +got)\n%s", diff)
			}
		})
	}
}

// A registry that says yes before it read all has not confirmed what it did
// not read.
func TestEarlyConfirmation(t *testing.T) {
	t.Parallel()
	blob := append(verifytest.Gzip(verifytest.Tar("a", "b")), make([]byte, 64<<20)...)
	dgst := digest.FromBytes(blob)
	eager := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/v2/a/blobs/uploads/u")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Docker-Content-Digest", dgst.String())
		w.WriteHeader(http.StatusCreated)
	})
	p := newProxy(t, newUpstream(t, eager).URL, nil)
	a := do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), dgst), blob, "Content-Type", octets)
	if a.Status != http.StatusCreated {
		t.Errorf("got %d, want the upstream's 201", a.Status)
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}

// A registry that takes a whole blob with the POST confirms it there.
func TestUploadInOnePOST(t *testing.T) {
	t.Parallel()
	takes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "/v2/a/blobs/"+r.URL.Query().Get("digest"))
		w.WriteHeader(http.StatusCreated)
	})
	p := newProxy(t, newUpstream(t, takes).URL, nil)
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	do(t, http.MethodPost, withDigest(p.URL+"/v2/a/blobs/uploads/", digest.FromBytes(blob)), blob, "Content-Type", octets)
	if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, digest.FromBytes(blob))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A blob pushed by its SHA-512 digest is known under SHA-256, as distribution
// confirms it.
func TestUploadOfSHA512(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newRegistry(t).URL, nil)
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	a := do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), digest.SHA512.FromBytes(blob)), blob, "Content-Type", octets)
	if a.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", a.Status, a.Body)
	}
	if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, digest.FromBytes(blob))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What the registry refuses is not learned, and a mount shows no bytes.
func TestUploadWithoutBlob(t *testing.T) {
	t.Parallel()
	registry := newRegistry(t)
	p := newProxy(t, registry.URL, nil)
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))

	a := do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), digest.FromString("other")), blob, "Content-Type", octets)
	if a.Status != http.StatusBadRequest || a.codes() != "DIGEST_INVALID" {
		t.Errorf("a wrong digest: got %d %s, want the registry's 400 DIGEST_INVALID", a.Status, a.Body)
	}

	location := startUpload(t, p.URL, "a")
	next := patch(t, p.URL, location, bytes.NewReader(blob))
	if a := do(t, http.MethodDelete, next, nil); a.Status != http.StatusNoContent {
		t.Errorf("DELETE: got %d %s, want 204", a.Status, a.Body)
	}
	if a := do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil); a.Status != http.StatusNotFound {
		t.Errorf("PUT behind DELETE: got %d %s, want 404", a.Status, a.Body)
	}

	dgst := pushBlob(t, registry.URL, "elsewhere", blob) // not through the proxy
	a = do(t, http.MethodPost, p.URL+"/v2/a/blobs/uploads/?from=elsewhere&mount="+dgst.String(), nil)
	if a.Status != http.StatusCreated {
		t.Errorf("mount: got %d %s, want 201", a.Status, a.Body)
	}
	if known := p.facts(t); len(known) > 0 {
		t.Errorf("the DiffID index learned %v", known)
	}
}
