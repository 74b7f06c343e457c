package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/cmd/proxy/settings"
	"diffgate/verify/verifytest"
)

// A way is a push that once went round the gate, or that the gate once broke.
type way struct {
	name, is string
	image    verifytest.Image
	index    func(verifytest.Image) []byte // pushed in place of the image's manifest; may be nil
	status   int
	says     string // in the answer
}

// ways are the pushes that were found by attacking the built program. The kit has
// their neighbours.
func ways() []way {
	motd, victim := verifytest.Tar("etc/motd", "hello\n"), verifytest.Tar("etc/secret", "of another image\n")
	good := verifytest.GzipLayer(motd)
	layer := func(mediaType string, blob, content []byte) verifytest.Layer {
		return verifytest.Layer{MediaType: mediaType, Blob: blob, Content: content}
	}
	claims := func(img verifytest.Image, ids ...string) verifytest.Image { img.DiffIDs = ids; return img }
	config := verifytest.WrongDigit(verifytest.NewImage(good))
	config.ConfigType = ocispec.MediaTypeImageConfig + "; charset=utf-8"
	inToto := layer(verifytest.InToto, verifytest.Gzip(victim), victim)
	flood := bytes.Join([][]byte{bytes.Repeat(verifytest.Member{}.Bytes(), 1600), verifytest.Gzip(motd)}, nil)
	window := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, byte(len(motd)<<3&0xff | 1), byte(len(motd) >> 5), byte(len(motd) >> 13)}, motd...)
	erofs := layer("application/vnd.erofs.layer.v1", append(make([]byte, 1024), "\xe2\xe1\xf5\xe0"+strings.Repeat("e", 3000)...), nil)
	erofs.Content = erofs.Blob
	foreign := layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", verifytest.Gzip(victim), victim)
	foreign.URLs, foreign.Absent = []string{"https://layers.example/blob"}, true
	cache := verifytest.NewImage(good, verifytest.GzipLayer(victim))
	return []way{
		{"a-members", "gzip of 1,600 members with a wrong diff_id", verifytest.WrongDigit(verifytest.NewImage(layer(ocispec.MediaTypeImageLayerGzip, flood, motd))), nil, 400, "diff_id_mismatch"},
		{"a-window", "zstd with a window of 256 MiB and a wrong diff_id", verifytest.WrongDigit(verifytest.NewImage(layer(ocispec.MediaTypeImageLayerZstd, window, motd))), nil, 400, "diff_id_mismatch"},
		{"b-config", "a config type with a parameter and a wrong diff_id", config, nil, 400, "diff_id_mismatch"},
		{"c-octets", "two gzip members, the second with a reserved flag, as an octet stream with its digest", verifytest.CompressedDigest(verifytest.NewImage(layer("application/octet-stream", verifytest.TwoContents(motd[:512], victim), motd))), nil, 400, "layer_ambiguous"},
		{"d-in-toto", "a gzipped tar as an attestation with its digest, beside a good layer", claims(verifytest.NewImage(good, inToto), good.DiffID(), inToto.Digest().String()), nil, 400, "diff_id_mismatch"},
		{"e-blank", "a tar with a blank checksum inside a zstd skippable frame, with a zstd stream of another tar behind it", verifytest.NewImage(layer(ocispec.MediaTypeImageLayerZstd, verifytest.BlankTarOrZstd(victim), victim)), nil, 400, "layer_ambiguous"},
		{"f-noise", "noise that says it is encrypted and claims another image's layer", claims(verifytest.NewImage(layer(ocispec.MediaTypeImageLayerGzip+"+encrypted", []byte(strings.Repeat("noise", 20)), nil)), digest.FromBytes(victim).String()), nil, 400, "layer_corrupt"},
		{"g-inline", "an image index with a mismatched image in its data", verifytest.WrongDigit(verifytest.NewImage(good)), inlineIn, 400, "diff_id_mismatch"},
		{"h-foreign", "a nondistributable layer that the registry does not hold yet", verifytest.WrongDigit(verifytest.NewImage(good, foreign)), nil, 400, "unverifiable"},
		{"i-erofs", "a good tar beside a mismatched EROFS layer", verifytest.WrongDigit(verifytest.NewImage(good, erofs)), nil, 400, "diff_id_mismatch"},
		{"j-cache", "a cache of BuildKit as an image index of layers", cache, cacheIndex, 201, ""},
	}
}

// inlineIn returns an image index that has the image in its descriptor's data.
func inlineIn(img verifytest.Image) []byte {
	mediaType, body := img.Manifest()
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"data":%q}]}`,
		ocispec.MediaTypeImageIndex, mediaType, img.Digest(), len(body), base64.StdEncoding.EncodeToString(body))
}

// cacheIndex returns an image index of the layers and the config.
func cacheIndex(img verifytest.Image) []byte {
	var entries []string
	for _, l := range img.Layers {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, l.MediaType, l.Digest(), len(l.Blob)))
	}
	entries = append(entries, fmt.Sprintf(`{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":%q,"size":%d}`, img.ConfigDigest(), len(img.Config())))
	return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(entries, ",") + `]}`)
}

// The ways round the gate that were found are closed, in the built program in front
// of registry:2.
func TestWaysRoundTheGate(t *testing.T) {
	t.Parallel()
	proxy := startWatched(t, startPermissiveRegistry2(t), settings.Enforce)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for dgst, blob := range w.image.Blobs() {
				pushBlob(t, proxy, w.name, dgst, blob)
			}
			mediaType, body := w.image.Manifest()
			if w.index != nil {
				mediaType, body = ocispec.MediaTypeImageIndex, w.index(w.image)
			}
			status, answer, _ := send(t, http.MethodPut, "http://"+proxy+"/v2/"+w.name+"/manifests/1", mediaType, body)
			t.Logf("%s: %d %s", w.is, status, answer)
			if status != w.status || !strings.Contains(answer, w.says) {
				t.Errorf("%s: got %d %s, want %d %q", w.is, status, answer, w.status, w.says)
			}
		})
	}
}

// registry:2 serves any blob as a manifest by its digest. A mismatched image that was
// pushed as a blob is not served through the gate, and no image index may name it,
// though it is also a tar archive.
func TestManifestsPushedAsBlobs(t *testing.T) {
	t.Parallel()
	proxy := startWatched(t, startPermissiveRegistry2(t), settings.Enforce)
	valid := verifytest.NewImage(verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n")))
	for _, test := range []struct {
		name, is      string
		image         verifytest.Image
		alsoTar       bool
		read, indexed int
	}{
		{"valid", "a valid image", valid, false, 200, 201},
		{"mismatched", "a mismatched image", verifytest.WrongDigit(valid), false, 403, 400},
		{"tar", "a mismatched image whose manifest is a tar archive, too", verifytest.WrongDigit(valid), true, 403, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for dgst, blob := range test.image.Blobs() {
				pushBlob(t, proxy, test.name, dgst, blob)
			}
			mediaType, body := test.image.Manifest()
			if test.alsoTar {
				body = tarJSON(body)
			}
			dgst := digest.FromBytes(body)
			pushBlob(t, proxy, test.name, dgst, body)
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				status, answer, _ := send(t, method, "http://"+proxy+"/v2/"+test.name+"/manifests/"+dgst.String(), mediaType, nil)
				if status != test.read {
					t.Errorf("%s: %s of the manifest: got %d %s, want %d", test.is, method, status, answer, test.read)
				}
			}
			for _, named := range []string{mediaType, ocispec.MediaTypeImageLayerGzip} {
				index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, named, dgst, len(body))
				status, answer, _ := send(t, http.MethodPut, "http://"+proxy+"/v2/"+test.name+"/manifests/1", ocispec.MediaTypeImageIndex, index)
				if status != test.indexed {
					t.Errorf("%s: an image index that calls it %s: got %d %s, want %d", test.is, named, status, answer, test.indexed)
				}
			}
		})
	}
}

// tarJSON returns the manifest with a member before the others that makes the document
// begin as a tar archive: with a header of version 7, of blanks and digits.
func tarJSON(manifest []byte) []byte {
	head := bytes.Repeat([]byte(" "), 512)
	copy(head, `{"annotations":{"x":"`)
	copy(head[156:], "0")
	copy(head[300:], `"},`)
	sum := 0
	for i, b := range head {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int(b)
	}
	copy(head[148:], fmt.Sprintf("%07o", sum))
	return append(head, manifest[1:]...)
}

// startPermissiveRegistry2 starts registry:2 that accepts foreign layers.
func startPermissiveRegistry2(t *testing.T) string {
	t.Helper()
	if what := lacks("docker-registry"); what != "" {
		missing(t.Skip, t.Fatalf, what)
	}
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yml")
	writeFile(t, config, append(registryConfig(t.TempDir()), "validation: {manifests: {urls: {allow: [\"^https://layers\\\\.example/\"]}}}\n"...))
	return startProcess(t, nil, `listening on ([0-9.:]+)`, path, "serve", config)
}

// pushBlob pushes a blob with POST and PUT.
func pushBlob(t *testing.T, registry, repo string, dgst digest.Digest, blob []byte) {
	t.Helper()
	status, answer, header := send(t, http.MethodPost, "http://"+registry+"/v2/"+repo+"/blobs/uploads/", "", nil)
	if status != http.StatusAccepted {
		t.Fatalf("start of an upload: %d %s", status, answer)
	}
	at := header.Get("Location")
	separator := "?"
	if strings.Contains(at, "?") {
		separator = "&"
	}
	if status, answer, _ = send(t, http.MethodPut, at+separator+"digest="+dgst.String(), "application/octet-stream", blob); status != http.StatusCreated {
		t.Fatalf("upload of %s: %d %s", dgst, status, answer)
	}
}

func send(t *testing.T, method, url, contentType string, body []byte) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", contentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}
