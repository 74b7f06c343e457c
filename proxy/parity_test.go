package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify/verifytest"
)

// push pushes an image as docker does.
func push(t testing.TB, base, repo, tag string, img verifytest.Image) {
	t.Helper()
	want(t, http.StatusOK, do(t, http.MethodGet, base+"/v2/", nil))
	blobs := [][]byte{}
	for _, l := range img.Layers {
		blobs = append(blobs, l.Blob)
	}
	for _, blob := range append(blobs, img.Config()) {
		dgst := digest.FromBytes(blob)
		want(t, http.StatusNotFound, do(t, http.MethodHead, base+"/v2/"+repo+"/blobs/"+dgst.String(), nil))
		next := patch(t, base, startUpload(t, base, repo), io.MultiReader(bytes.NewReader(blob)))
		want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, dgst), nil))
		want(t, http.StatusOK, do(t, http.MethodHead, base+"/v2/"+repo+"/blobs/"+dgst.String(), nil))
	}
	mediaType, body := img.Manifest()
	want(t, http.StatusCreated, putManifest(t, base, repo, tag, mediaType, body))
}

// pull pulls an image as containerd does.
func pull(t testing.TB, base, repo, tag string, img verifytest.Image) {
	t.Helper()
	mediaType, body := img.Manifest()
	manifests, blobs := base+"/v2/"+repo+"/manifests/", base+"/v2/"+repo+"/blobs/"
	head := want(t, http.StatusOK, do(t, http.MethodHead, manifests+tag, nil, "Accept", mediaType, "Accept", "*/*"))
	got := want(t, http.StatusOK, do(t, http.MethodGet, manifests+head.Header.Get("Docker-Content-Digest"), nil, "Accept", mediaType))
	if !bytes.Equal(got.Body, body) {
		t.Errorf("the manifest changed on the way: %s", got.Body)
	}
	all := [][]byte{img.Config()}
	for _, l := range img.Layers {
		all = append(all, l.Blob)
	}
	for _, blob := range all {
		got := want(t, http.StatusOK, do(t, http.MethodGet, blobs+digest.FromBytes(blob).String(), nil))
		if !bytes.Equal(got.Body, blob) {
			t.Errorf("a blob changed on the way")
		}
	}
}

// want fails the test when the answer has another status, and returns it.
func want(t testing.TB, status int, a answer) answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("got %d %s, want %d", a.Status, a.Body, status)
	}
	return a
}

// The upstream sees the client's requests, in their order, byte for byte and
// nothing else: what the gate must know has passed already.
func TestParity(t *testing.T) {
	t.Parallel()
	there := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, there).URL, nil)
	here := recordRequests(p.Proxy)
	front := newUpstream(t, here).URL

	img := verifytest.Honest(3)
	push(t, front, "library/app", "v1", img)
	pull(t, front, "library/app", "v1", img)
	for _, path := range []string{"library/app/tags/list?n=5&last=a", "_catalog?n=1", "library/app/referrers/" + img.Digest().String() + "?artifactType=a%2Fb"} {
		do(t, http.MethodGet, front+"/v2/"+path, nil)
	}
	blob, tag := front+"/v2/library/app/blobs/"+img.Layers[0].Digest().String(), `"`+img.Layers[0].Digest().String()+`"`
	want(t, http.StatusPartialContent, do(t, http.MethodGet, blob, nil, "Range", "bytes=1-2", "If-Range", tag, "Accept", "a, b", "Accept", "c", "Authorization", "Basic eDp5"))
	want(t, http.StatusNotModified, do(t, http.MethodGet, blob, nil, "If-None-Match", tag, "Accept", ""))
	chunk := img.Layers[0].Blob[:10]
	want(t, http.StatusAccepted, do(t, http.MethodPatch, startUpload(t, front, "library/app"), chunk, "Content-Range", "0-9", "Content-Type", octets))
	want(t, http.StatusAccepted, do(t, http.MethodDelete, front+"/v2/library/app/manifests/"+img.Digest().String(), nil))

	sent, seen := here.takeWhole(), there.takeWhole()
	if diff := cmp.Diff(sent, seen); diff != "" {
		t.Errorf("requests (-client +upstream)\n%s", diff)
	}
	if len(sent) != 1+4*5+1+6+4+4 {
		t.Errorf("the client sent %d requests:\n%q", len(sent), sent)
	}
}

// A gate that saw nothing of an image reads its config and its layers, each
// once, and nothing else.
func TestParityOfTheGate(t *testing.T) {
	t.Parallel()
	there := recordRequests(newRegistryHandler(t, nil))
	registry := newUpstream(t, there).URL
	img := verifytest.Honest(2)
	img.Layers = append(img.Layers, img.Layers[0]) // a layer may appear twice
	img.DiffIDs = append(img.DiffIDs, img.DiffIDs[0])
	for _, blob := range img.Blobs() {
		pushBlob(t, registry, "a", blob)
	}
	there.take()

	p := newProxy(t, registry, nil)
	mediaType, body := img.Manifest()
	for _, tag := range []string{"first", "again"} {
		want(t, http.StatusCreated, putManifest(t, p.URL, "a", tag, mediaType, body))
		seen := map[string]int{}
		for _, line := range there.take() {
			seen[line]++
		}
		expected := map[string]int{fmt.Sprintf("PUT /v2/a/manifests/%s len=%d", tag, len(body)): 1}
		if tag == "first" {
			for dgst := range img.Blobs() {
				expected[fmt.Sprintf("GET /v2/a/blobs/%s len=0", dgst)] = 1
			}
		}
		if diff := cmp.Diff(expected, seen); diff != "" {
			t.Errorf("%s: upstream requests (-want +got)\n%s", tag, diff)
		}
	}
}
