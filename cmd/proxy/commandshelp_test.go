package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"diffgate/cmd/proxy/embedded"
	"diffgate/proxy"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// A testRegistry is a registry with no proxy in front. It counts how many blobs
// are downloaded, and asks for a password if it has one.
type testRegistry struct {
	t        *testing.T
	host     string
	blobs    chan string // downloads, as "NAME DIGEST"
	password string
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r, err := embedded.Open(t.TempDir(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	out := &testRegistry{t: t, blobs: make(chan string, 10_000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, password, _ := req.BasicAuth(); password != out.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		if name, dgst, ok := strings.Cut(req.URL.Path, "/blobs/sha256:"); ok && req.Method == http.MethodGet {
			out.blobs <- name + " " + dgst
		}
		r.Handler().ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	out.host = strings.TrimPrefix(server.URL, "http://")
	return out
}

// downloads returns the number of blobs that were downloaded since it was last
// asked.
func (r *testRegistry) downloads() int {
	n := 0
	for len(r.blobs) > 0 {
		<-r.blobs
		n++
	}
	return n
}

func (r *testRegistry) send(method, url, contentType string, body []byte) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.SetBasicAuth("me", r.password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		r.t.Fatalf("%s %s: %s", method, url, res.Status)
	}
	return res
}

func (r *testRegistry) pushBlob(repo string, blob []byte) {
	r.t.Helper()
	res := r.send(http.MethodPost, "http://"+r.host+"/v2/"+repo+"/blobs/uploads/", "", nil)
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil {
		r.t.Fatal(err)
	}
	q := u.Query()
	q.Set("digest", digest.FromBytes(blob).String())
	u.RawQuery = q.Encode()
	r.send(http.MethodPut, u.String(), "application/octet-stream", blob)
}

// push pushes an image, true or false, and returns its reference.
func (r *testRegistry) push(repo, tag string, img verifytest.Image) string {
	r.t.Helper()
	for _, blob := range img.Blobs() {
		r.pushBlob(repo, blob)
	}
	mediaType, body := img.Manifest()
	return r.pushManifest(repo, tag, mediaType, body)
}

func (r *testRegistry) pushManifest(repo, tag, mediaType string, body []byte) string {
	r.t.Helper()
	r.send(http.MethodPut, "http://"+r.host+"/v2/"+repo+"/manifests/"+tag, mediaType, body)
	return r.host + "/" + repo + ":" + tag
}

// pushIndex pushes an image index of images for platforms.
func (r *testRegistry) pushIndex(repo, tag string, images map[string]verifytest.Image) string {
	r.t.Helper()
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, platform := range []string{"linux/amd64", "linux/arm64", "linux/s390x"} {
		img, ok := images[platform]
		if !ok {
			continue
		}
		r.push(repo, strings.ReplaceAll(platform, "/", "-"), img)
		mediaType, body := img.Manifest()
		os, arch, _ := strings.Cut(platform, "/")
		index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body),
			Size: int64(len(body)), Platform: &ocispec.Platform{OS: os, Architecture: arch}})
	}
	body, err := json.Marshal(index)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.pushManifest(repo, tag, index.MediaType, body)
}

// front starts a Diffgate in front of the registry and returns its host.
func (r *testRegistry) front() string {
	r.t.Helper()
	store := index.NewMemory()
	upstream, err := url.Parse("http://" + r.host)
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := proxy.New(proxy.Config{Upstream: upstream, Index: store, Mode: proxy.Enforce, Log: zap.NewNop(), Metrics: proxy.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		r.t.Fatal(err)
	}
	server := httptest.NewServer(p)
	r.t.Cleanup(func() {
		server.Close()
		p.Close()
		store.Close()
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// proxyRun runs the program, with standard input.
func proxyRun(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}
