package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/verify/verifytest"
)

// A config that passed a moment ago is not fetched again, if it is a small
// JSON object; the answer is the same either way.
func TestConfigsThatPassedAreKept(t *testing.T) {
	t.Parallel()
	const small = 64 << 10
	img := verifytest.Honest(1)
	config := img.Config()
	padded := func(n int) []byte {
		return append(bytes.TrimSuffix(config, []byte("}")), strings.Repeat(" ", n-len(config))+"}"...)
	}
	push := func(t *testing.T, reg, p, repo string, config []byte) { pushBlob(t, p, repo, config) }
	for _, tt := range []struct {
		is      string
		config  []byte
		pass    func(t *testing.T, reg, p, repo string, config []byte)
		fetched bool
	}{
		{"an ordinary one", config, push, false},
		{"one of 64 KiB", padded(small), push, false},
		{"one of a byte more", padded(small + 1), push, true},
		{"one that does not begin as an object", append([]byte("\n"), config...), push, true},
		{"one that came in pieces", config, func(t *testing.T, _, p, repo string, config []byte) {
			location := startUpload(t, p, repo)
			for piece := range slices.Chunk(config, 50) {
				location = do(t, http.MethodPatch, location, piece).location(t, p)
			}
			if got := do(t, http.MethodPut, withDigest(location, digest.FromBytes(config)), nil); got.Status != http.StatusCreated {
				t.Fatalf("got %d %s, want 201", got.Status, got.Body)
			}
		}, false},
		{"one that was pulled", config, func(t *testing.T, reg, p, repo string, config []byte) {
			get(t, p+"/v2/"+repo+"/blobs/"+pushBlob(t, reg, repo, config).String())
		}, false},
		{"one that was pulled as a part that is all of it", config, func(t *testing.T, reg, p, repo string, config []byte) {
			get(t, p+"/v2/"+repo+"/blobs/"+pushBlob(t, reg, repo, config).String(), "Range", fmt.Sprintf("bytes=0-%d", len(config)-1))
		}, false},
		{"one that was pulled in part", config, func(t *testing.T, reg, p, repo string, config []byte) {
			get(t, p+"/v2/"+repo+"/blobs/"+pushBlob(t, reg, repo, config).String(), "Range", fmt.Sprintf("bytes=0-%d", len(config)-2))
		}, true},
		{"one that was looked for", config, func(t *testing.T, reg, p, repo string, config []byte) {
			do(t, http.MethodHead, p+"/v2/"+repo+"/blobs/"+pushBlob(t, reg, repo, config).String(), nil)
		}, true},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			requests := recordRequests(newRegistryHandler(t, nil))
			reg := newUpstream(t, requests)
			p := newProxy(t, reg.URL, nil)
			img := img
			img.RawConfig = tt.config
			pushBlob(t, p.URL, "app", img.Layers[0].Blob)
			tt.pass(t, reg.URL, p.URL, "app", img.Config())
			requests.take()
			if got := pushManifest(t, p.URL, img); got.Status != http.StatusCreated {
				t.Errorf("got %d %s, want 201", got.Status, got.Body)
			}
			get := fmt.Sprintf("GET /v2/app/blobs/%s len=0", img.ConfigDigest())
			if seen := requests.take(); slices.Contains(seen, get) != tt.fetched {
				t.Errorf("the upstream was asked %q; want the config among it: %t", seen, tt.fetched)
			}
		})
	}
}

// What is kept is bounded: when 4 MiB are full, the config that was used
// longest ago is fetched again.
func TestConfigsThatPassedAreForgotten(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	p := newProxy(t, reg.URL, nil)
	used, unused := verifytest.Honest(1), verifytest.Honest(2)
	pushBlobs(t, p.URL, "app", unused)
	pushBlobs(t, p.URL, "app", used)
	for i := range 70 { // of 64 KiB each
		pushBlob(t, p.URL, "app", []byte(fmt.Sprintf(`{"i":%d}`, i)+strings.Repeat(" ", 64<<10-16)))
		if i == 35 {
			pushManifest(t, p.URL, used)
		}
	}
	requests.take()
	for _, tt := range []struct {
		is      string
		image   verifytest.Image
		fetched bool
	}{{"the one that was used meanwhile", used, false}, {"the other", unused, true}} {
		if got := pushManifest(t, p.URL, tt.image); got.Status != http.StatusCreated {
			t.Errorf("%s: got %d %s, want 201", tt.is, got.Status, got.Body)
		}
		get := fmt.Sprintf("GET /v2/app/blobs/%s len=0", tt.image.ConfigDigest())
		if seen := requests.take(); slices.Contains(seen, get) != tt.fetched {
			t.Errorf("%s: the upstream was asked %q; want the config among it: %t", tt.is, seen, tt.fetched)
		}
	}
}

// A config that passes again takes no more room.
func TestConfigsThatPassTwice(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, p.URL, "app", img)
	for range 70 {
		pushBlob(t, p.URL, "app", []byte("{"+strings.Repeat(" ", 64<<10-2)+"}"))
	}
	requests.take()
	if got := pushManifest(t, p.URL, img); got.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", got.Status, got.Body)
	}
	if seen := requests.take(); len(seen) != 1 {
		t.Errorf("the upstream was asked %q, want the push alone", seen)
	}
}
