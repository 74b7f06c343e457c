package proxy_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// A fuzzRegistry holds a few blobs and takes any manifest.
type fuzzRegistry map[digest.Digest][]byte

// ServeHTTP implements http.Handler.
func (f fuzzRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, s, _ := strings.Cut(r.URL.Path, "/blobs/")
	switch blob, ok := f[digest.Digest(s)]; {
	case r.Method == http.MethodPut:
		w.WriteHeader(http.StatusCreated)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		_, _ = w.Write(blob) // to memory
	}
}

// A countingWriter counts the answers to one request.
type countingWriter struct {
	*httptest.ResponseRecorder
	answers int
}

func (w *countingWriter) WriteHeader(status int) {
	if status >= 200 {
		w.answers++
	}
	w.ResponseRecorder.WriteHeader(status)
}

// liesFor returns whether a reader who takes JSON as encoding/json does reads
// body as an image of ordinary layers whose config does not tell the truth
// about them. diffIDs has the truth.
func liesFor(body []byte, blobs map[digest.Digest][]byte, diffIDs map[digest.Digest]string) bool {
	var m ocispec.Manifest
	if json.Unmarshal(body, &m) != nil || len(m.Layers) == 0 ||
		m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != verifytest.DockerConfig {
		return false
	}
	var config ocispec.Image
	if blob, ok := blobs[m.Config.Digest]; !ok || json.Unmarshal(blob, &config) != nil {
		return false
	}
	var truth []digest.Digest
	for _, l := range m.Layers {
		id, ok := diffIDs[l.Digest]
		if !ok || !slices.Contains([]string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, verifytest.DockerTarGzip}, l.MediaType) {
			return false
		}
		truth = append(truth, digest.Digest(id))
	}
	return !slices.Equal(truth, config.RootFS.DiffIDs)
}

// Whatever is pushed as a manifest, it gets one answer, and no lie about the
// layers gets through.
func FuzzGate(f *testing.F) {
	blobs, diffIDs := fuzzRegistry{}, map[digest.Digest]string{}
	honest := verifytest.Honest(3)
	images := []verifytest.Image{honest, honest.Docker(), verifytest.Honest(1), verifytest.NewImage()}
	for _, lie := range verifytest.Lies() {
		images = append(images, lie.Image)
	}
	for _, l := range honest.Layers {
		diffIDs[l.Digest()] = l.DiffID()
	}
	for _, img := range images {
		mediaType, body := img.Manifest()
		f.Add(mediaType, body)
		f.Add(ocispec.MediaTypeImageIndex, body)
		f.Add("application/json", body)
		f.Add(mediaType, bytes.ReplaceAll(body, []byte(`"layers"`), []byte(`"Layers"`)))
		f.Add(mediaType, append(bytes.Clone(body), body...))
		f.Add(mediaType, body[:len(body)/2])
		for dgst, blob := range img.Blobs() {
			blobs[dgst] = blob
		}
	}
	f.Add(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"fsLayers":[]}`))
	p, err := proxy.New(proxy.Config{
		Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Index: index.NewMemory(), Transport: handlerTransport{blobs},
	})
	if err != nil {
		f.Fatal(err)
	}
	defer p.Close()
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		r := httptest.NewRequest(http.MethodPut, "/v2/app/manifests/1.4", bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := &countingWriter{ResponseRecorder: httptest.NewRecorder()}
		p.ServeHTTP(w, r)
		switch {
		case w.answers != 1:
			t.Errorf("got %d answers", w.answers)
		case w.Code != http.StatusCreated && w.Code/100 != 4:
			t.Errorf("got %d %s of a registry that never fails", w.Code, w.Body)
		case w.Code == http.StatusCreated && liesFor(body, blobs, diffIDs):
			t.Errorf("as %q a lie gets through: %s", contentType, body)
		case w.Code != http.StatusCreated && !json.Valid(w.Body.Bytes()):
			t.Errorf("got %d with a body that is no JSON: %s", w.Code, w.Body)
		}
	})
}
