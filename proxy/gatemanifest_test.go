package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A manifest that two readers could read as two things is refused, though the
// registry alone takes most of these.
func TestAmbiguousManifests(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(2)
	mediaType, body := img.Manifest()
	edit := func(old, replacement string) []byte {
		if !bytes.Contains(body, []byte(old)) {
			t.Fatalf("the manifest %s does not contain %s", body, old)
		}
		return bytes.Replace(body, []byte(old), []byte(replacement), 1)
	}
	const ambiguous, invalid = "manifest_ambiguous", "manifest_invalid"
	for _, tt := range []struct {
		is        string
		mediaType string
		body      []byte
		want      verify.Reason
	}{
		{"layers and manifests together (CVE-2021-41190)", mediaType, edit(`"layers":`, `"manifests":[],"layers":`), ambiguous},
		{"an image that is sent as an image index", ocispec.MediaTypeImageIndex, body, ambiguous},
		{"an image index that is sent as an image", mediaType, []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`), ambiguous},
		{"an OCI image that is sent as a Docker image", verifytest.DockerManifest, body, ambiguous},
		{"config and layers in an image index without a media type", ocispec.MediaTypeImageIndex, edit(`"mediaType":"`+mediaType+`",`, ``), ambiguous},
		{"layers of schema 1 in an image", mediaType, edit(`"layers":`, `"fsLayers":[],"layers":`), ambiguous},
		{"layers twice", mediaType, edit(`"layers":`, `"layers":[],"layers":`), ambiguous},
		{"layers and Layers", mediaType, edit(`"layers":`, `"Layers":[],"layers":`), ambiguous},
		{"config twice", mediaType, edit(`"config":`, `"config":{},"config":`), ambiguous},
		{"a digest twice", mediaType, edit(`"digest":`, `"digest":"sha256:0","digest":`), ambiguous},
		{"a digest in another case", mediaType, edit(`"digest":`, `"Digest":`), ambiguous},
		{"a second document behind the first", mediaType, append(bytes.Clone(body), body...), ambiguous},
		{"a byte behind the document", mediaType, append(bytes.Clone(body), 'x'), ambiguous},
		{"a byte order mark", mediaType, append([]byte("\xef\xbb\xbf"), body...), invalid},
		{"a NUL", mediaType, edit(`"layers":`, "\x00\"layers\":"), invalid},
		{"no UTF-8", mediaType, edit(`"layers":`, "\"x\":\"\xff\",\"layers\":"), ambiguous},
		{"objects 10000 deep", mediaType, edit(`"layers":`, `"x":`+strings.Repeat(`{"x":`, 10000)+"1"+strings.Repeat("}", 10000)+`,"layers":`), ambiguous},
		{"a negative size", mediaType, edit(`"size":`, `"size":-`), invalid},
		{"a size with an exponent", mediaType, edit(`"size":`, `"size":1e3,"x":`), invalid},
		{"a size over 2^63", mediaType, edit(`"size":`, `"size":9223372036854775808`), invalid},
		{"no digest", mediaType, edit(img.ConfigDigest().String(), "sha256:xyz"), invalid},
		{"no config", mediaType, []byte(`{"schemaVersion":2,"layers":[]}`), "config_invalid"},
		{"no object", mediaType, []byte(`[]`), invalid},
		{"no JSON", mediaType, []byte(`hello`), invalid},
		{"JSON that is cut", mediaType, body[:len(body)-1], invalid},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			pushBlobs(t, p.URL, "app", img)
			got := putManifest(t, p.URL, "app", "1.4", tt.mediaType, tt.body)
			if errs := got.errors(t); got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_INVALID" || errs[0].detail(t).Reason != tt.want {
				t.Errorf("got %d %s, want 400 %s", got.Status, got.Body, tt.want)
			}
			if stored := storedManifest(t, reg.URL, "app", "1.4"); stored != nil {
				t.Errorf("the upstream holds %s", stored)
			}
		})
	}
}

// An OCI manifest need not name its own media type.
func TestManifestWithoutMediaType(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	mediaType, body := img.Manifest()
	p := newProxy(t, newRegistry(t).URL, nil)
	pushBlobs(t, p.URL, "app", img)
	body = bytes.Replace(body, []byte(`"mediaType":"`+mediaType+`",`), nil, 1)
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", got.Status, got.Body)
	}
}

// The gate reads a manifest whole or not at all; what it did not read is not
// forwarded.
func TestManifestSizes(t *testing.T) {
	t.Parallel()
	const limit = 4096
	img := verifytest.Honest(1)
	fits, over := bigManifest(t, img, limit), bigManifest(t, img, limit+1)
	unsized := func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) } // sent in chunks
	for _, tt := range []struct {
		is     string
		body   io.Reader
		status int
		codes  string
	}{
		{"exactly the limit", bytes.NewReader(fits), http.StatusCreated, ""},
		{"exactly the limit, in chunks", unsized(fits), http.StatusCreated, ""},
		{"a byte more", bytes.NewReader(over), http.StatusRequestEntityTooLarge, "MANIFEST_INVALID"},
		{"a byte more, in chunks", unsized(over), http.StatusRequestEntityTooLarge, "MANIFEST_INVALID"},
		{"100 MB in chunks, of which little is read", io.LimitReader(endless{}, 100<<20), http.StatusRequestEntityTooLarge, "MANIFEST_INVALID"},
		{"nothing (CVE-2024-41110)", http.NoBody, http.StatusBadRequest, "MANIFEST_INVALID"},
		{"nothing, in chunks", unsized(nil), http.StatusBadRequest, "MANIFEST_INVALID"},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			requests := recordRequests(newRegistryHandler(t, nil))
			p := newProxy(t, newUpstream(t, requests).URL, func(c *proxy.Config) { c.MaxManifest = limit })
			pushBlobs(t, p.URL, "app", img)
			requests.take()
			req := newRequest(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", tt.body, "Content-Type", img.MediaType)
			status, codes := uploadAnyway(t, req)
			if status != tt.status || codes != tt.codes {
				t.Errorf("got %d %s, want %d %s", status, codes, tt.status, tt.codes)
			}
			if seen := requests.take(); tt.status != http.StatusCreated && len(seen) > 0 {
				t.Errorf("the upstream was asked %q", seen)
			}
		})
	}
}

// endless is an endless body.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// uploadAnyway sends a request whose body the server may not want, and returns
// status and codes of the answer.
func uploadAnyway(t testing.TB, req *http.Request) (status int, codes string) {
	t.Helper()
	transport := &http.Transport{DialContext: dialLoopback}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, answer{Body: readBody(t, res.Body)}.codes()
}

// A manifest that is shorter than its Content-Length is refused, and nothing of
// it is forwarded, even if what came is a manifest.
func TestManifestCutOnTheWay(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, p.URL, "app", img)
	requests.take()
	_, body := img.Manifest()
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body)+1, body),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(body), body),
	} {
		conn := dialRaw(t, p.URL)
		if _, err := io.WriteString(conn, "PUT /v2/app/manifests/1.4 HTTP/1.1\r\nHost: r\r\nContent-Type: "+img.MediaType+"\r\n"+framing); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := readRaw(bufio.NewReader(conn), http.MethodPut)
		if err != nil || got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_INVALID" {
			t.Errorf("got %d %s, %v; want 400 MANIFEST_INVALID", got.Status, got.Body, err)
		}
	}
	if seen := requests.take(); len(seen) > 0 {
		t.Errorf("the upstream was asked %q", seen)
	}
}

// Headers that change what the body is, or of which there are two, are refused;
// claims of a client about digests mean nothing.
func TestManifestHeaders(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	lie := verifytest.WrongDigit(img)
	for _, tt := range []struct {
		is     string
		image  verifytest.Image
		header []string
		status int
	}{
		{"gzip", img, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType},
		{"brotli", img, []string{"Content-Encoding", "br"}, http.StatusUnsupportedMediaType},
		{"two Content-Types", img, []string{"Content-Type", ocispec.MediaTypeImageIndex}, http.StatusBadRequest},
		{"two Authorizations", img, []string{"Authorization", "Basic YQ==", "Authorization", "Basic Yg=="}, http.StatusBadRequest},
		{"a lie with the digest of the truth", lie, []string{"Docker-Content-Digest", img.Digest().String(), "OCI-Subject", img.Digest().String()}, http.StatusBadRequest},
		{"the truth with the digest of a lie", img, []string{"Docker-Content-Digest", lie.Digest().String()}, http.StatusCreated},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			p := newProxy(t, reg.URL, nil)
			pushBlobs(t, p.URL, "app", tt.image)
			_, body := tt.image.Manifest()
			got := do(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", body, append([]string{"Content-Type", tt.image.MediaType}, tt.header...)...)
			if got.Status != tt.status {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, tt.status)
			}
			if stored := storedManifest(t, reg.URL, "app", "1.4"); (stored != nil) != (tt.status == http.StatusCreated) {
				t.Errorf("after %d the upstream holds %q", got.Status, stored)
			}
		})
	}
}

// A manifest that is pushed by digest must have it, in whatever algorithm.
func TestManifestByDigest(t *testing.T) {
	t.Parallel()
	img, other := verifytest.Honest(1), verifytest.Honest(2)
	mediaType, body := img.Manifest()
	_, otherBody := other.Manifest()
	lieType, lie := verifytest.WrongDigit(img).Manifest()
	for _, tt := range []struct {
		is        string
		reference digest.Digest
		mediaType string
		body      []byte
		status    int
		codes     string
		forwarded bool
	}{
		{"its own digest", img.Digest(), mediaType, body, http.StatusCreated, "", true},
		{"that of another manifest", other.Digest(), mediaType, body, http.StatusBadRequest, "DIGEST_INVALID", false},
		{"its own digest, another manifest", img.Digest(), mediaType, otherBody, http.StatusBadRequest, "DIGEST_INVALID", false},
		{"its own SHA-512 digest", digest.SHA512.FromBytes(body), mediaType, body, http.StatusBadRequest, "DIGEST_INVALID", true}, // the registry keeps SHA-256
		{"the SHA-512 digest of another", digest.SHA512.FromBytes(otherBody), mediaType, body, http.StatusBadRequest, "DIGEST_INVALID", false},
		{"a lie under its SHA-512 digest", digest.SHA512.FromBytes(lie), lieType, lie, http.StatusBadRequest, "MANIFEST_INVALID", false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			requests := recordRequests(newRegistryHandler(t, nil))
			reg := newUpstream(t, requests)
			p := newProxy(t, reg.URL, nil)
			for _, img := range []verifytest.Image{img, other, verifytest.WrongDigit(img)} {
				pushBlobs(t, p.URL, "app", img)
			}
			requests.take()
			got := putManifest(t, p.URL, "app", tt.reference.String(), tt.mediaType, tt.body)
			if got.Status != tt.status || got.codes() != tt.codes {
				t.Errorf("got %d %s, want %d %s", got.Status, got.Body, tt.status, tt.codes)
			}
			asked := slices.ContainsFunc(requests.take(), func(line string) bool { return strings.HasPrefix(line, "PUT ") })
			if asked != tt.forwarded {
				t.Errorf("the upstream got the manifest: %t, want %t", asked, tt.forwarded)
			}
			var want []byte
			if tt.status == http.StatusCreated {
				want = tt.body
			}
			if diff := cmp.Diff(want, storedManifest(t, reg.URL, "app", digest.FromBytes(tt.body).String())); diff != "" {
				t.Errorf("the manifest at the upstream (-want +got):\n%s", diff)
			}
		})
	}
}
