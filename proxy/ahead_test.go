package proxy_test

import (
	"bytes"
	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// Blobs that came into a repository and did not pass are learned before their
// manifest comes.
func TestAhead(t *testing.T) {
	t.Parallel()
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	dgst := layer.Digest()
	on := func(c *proxy.Config) { c.Ahead = 0 }
	for _, tt := range []struct {
		is   string
		edit func(*proxy.Config)
		do   func(t *testing.T, base string)
		want bool
	}{
		{"a blob that a HEAD finds", on, func(t *testing.T, base string) {
			want(t, http.StatusOK, do(t, http.MethodHead, base+"/v2/other/blobs/"+dgst.String(), nil))
		}, true},
		{"a blob that is mounted", on, func(t *testing.T, base string) {
			want(t, http.StatusCreated, do(t, http.MethodPost, base+"/v2/app/blobs/uploads/?mount="+dgst.String()+"&from=other", nil))
		}, true},
		{"an upload of which a chunk came twice", on, func(t *testing.T, base string) {
			location := startUpload(t, base, "app")
			half := len(layer.Blob) / 2
			next := patch(t, base, location, bytes.NewReader(layer.Blob[:half]))
			again := do(t, http.MethodPatch, next, layer.Blob[:half], "Content-Type", octets, "Content-Range", fmt.Sprintf("0-%d", half-1))
			want(t, http.StatusRequestedRangeNotSatisfiable, again)
			next = patch(t, base, next, bytes.NewReader(layer.Blob[half:]))
			want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, dgst), nil))
		}, true},
		{"a blob that a HEAD finds, and nobody wants it", func(c *proxy.Config) { c.Ahead = -1 }, func(t *testing.T, base string) {
			want(t, http.StatusOK, do(t, http.MethodHead, base+"/v2/other/blobs/"+dgst.String(), nil))
		}, false},
		{"a blob that a HEAD does not find", on, func(t *testing.T, base string) {
			want(t, http.StatusNotFound, do(t, http.MethodHead, base+"/v2/other/blobs/"+objectDigest, nil))
		}, false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			pushBlob(t, reg.URL, "other", layer.Blob)
			p := newProxy(t, reg.URL, tt.edit)
			tt.do(t, p.URL)
			if tt.want {
				if diff := cmp.Diff(factAbout(t, layer.Blob, p.fact(t, dgst).Source), p.fact(t, dgst)); diff != "" {
					t.Errorf("fact (-want +got):\n%s", diff)
				}
			} else if p.knows(t, layer.Blob) {
				t.Error("the blob was learned")
			}
		})
	}
}

// What is known is not read again, and what is being learned is read once.
func TestAheadOnce(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	dgst := pushBlob(t, reg.URL, "app", layer.Blob)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead = 0 })
	requests.take()
	for range 5 {
		want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+dgst.String(), nil))
	}
	p.fact(t, dgst)
	want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+dgst.String(), nil))
	p.Proxy.Close()
	reads := 0
	for _, line := range requests.take() {
		if strings.HasPrefix(line, "GET ") {
			reads++
		}
	}
	if reads != 1 {
		t.Errorf("the blob was read %d times, want once", reads)
	}
}

// A client without the right to read what it pushes loses nothing: the gate
// tries again.
func TestAheadWithoutTheRight(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	asked := make(chan struct{}, 10)
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlobGet(r, img.Layers[0].Digest()) {
			return false
		}
		asked <- struct{}{}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead = 0 })
	want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+img.Layers[0].Digest().String(), nil))
	<-asked
	d.answerWith(nil)
	want(t, http.StatusCreated, pushManifest(t, p.URL, img))
	if f := p.fact(t, img.Layers[0].Digest()); f.Source != verify.Fetched {
		t.Errorf("got a fact by %s", f.Source)
	}
}

// When the windows of the blobs that pass take all the memory there is for
// them, the next is hashed when it has passed.
func TestAheadOfWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	const uploads = 3
	// The registry in memory copies all of an upload with each piece of it.
	registry := newUpstream(t, newRegistryHandler(t, onDisk(t)))
	p := newProxy(t, registry.URL, func(c *proxy.Config) { c.Ahead = 0 })
	var begun, done sync.WaitGroup
	begun.Add(uploads)
	goOn := make(chan struct{})
	blobs := make([][]byte, uploads)
	for i := range blobs {
		blobs[i] = storedZstd(byte(i), 24)
		blobs[i][5] = 16<<3 | 6 // a window of 112 MiB
		first, last := blobs[i][:len(blobs[i])-1], blobs[i][len(blobs[i])-1:]
		wait := func() { begun.Done(); <-goOn }
		body := io.MultiReader(bytes.NewReader(first), &repeater{piece: last, times: 1, tick: wait})
		req := newRequest(t, http.MethodPut, withDigest(startUpload(t, p.URL, "app"), digest.FromBytes(blobs[i])), body)
		req.ContentLength = int64(len(blobs[i]))
		done.Go(func() {
			res, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != http.StatusCreated {
				t.Errorf("got %d, want 201", res.StatusCode)
			}
		})
	}
	begun.Wait() // more of each was sent than sockets hold, so each decoder has asked for its window
	close(goOn)
	done.Wait()
	sources := map[verify.Source]int{}
	for _, blob := range blobs {
		f := p.fact(t, digest.FromBytes(blob))
		sources[f.Source]++
		if diff := cmp.Diff(factAbout(t, blob, f.Source), f); diff != "" {
			t.Errorf("fact (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff(map[verify.Source]int{verify.Pushed: 2, verify.Fetched: 1}, sources); diff != "" {
		t.Errorf("how they were learned (-want +got):\n%s", diff)
	}
}
