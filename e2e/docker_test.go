package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// command runs a program and returns what it prints, without the line end.
func command(ts *testscript.TestScript, name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		detail := ""
		if exit, ok := err.(*exec.ExitError); ok {
			detail = string(exit.Stderr)
		}
		ts.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, detail)
	}
	return strings.TrimSpace(string(out))
}

// debian NAME: the variable NAME is an image of Debian in the docker engine.
func debian(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], tools(ts.Fatalf, "debian"))
}

// rmi IMAGE...: remove images from the engine, now and when the script ends.
func removeImages(ts *testscript.TestScript, _ bool, images []string) {
	remove := func() {
		// One that is not there is removed.
		_ = exec.Command("docker", append([]string{"rmi", "--force"}, images...)...).Run()
	}
	remove()
	ts.Defer(remove)
}

// tamper DIR: make a lie of the last diff_id of the image in an OCI layout. The
// variables TRUTH and LIE are what it was and what it is, DIGEST the manifest's
// digest now, LAYER1 and so on those of the layers.
func tamperLayout(ts *testscript.TestScript, _ bool, args []string) {
	truth, lie := tamper(ts, ts.MkAbs(args[0]))
	im := openImage(ts, ts.MkAbs(args[0]))
	setDigest(ts, "DIGEST", im.index.Manifests[0].Digest)
	for i, l := range im.manifest.Layers {
		setDigest(ts, fmt.Sprint("LAYER", i+1), l.Digest)
	}
	ts.Setenv("TRUTH", truth.String())
	ts.Setenv("LIE", lie.String())
}

// engineStore returns the folder of one of the docker engine's own maps
// between digests and DiffIDs.
func engineStore(ts *testscript.TestScript, name string) string {
	root := command(ts, "docker", "info", "--format", "{{.DockerRootDir}}/image/{{.Driver}}")
	return filepath.Join(root, "distribution", name, "sha256")
}

// diffIDs returns what docker says an image's layers unpack to.
func diffIDs(ts *testscript.TestScript, image string) (ids []digest.Digest) {
	ts.Check(json.Unmarshal([]byte(command(ts, "docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", image)), &ids))
	return ids
}

// manifest REGISTRY REPO TAG: the variable DIGEST is the manifest's digest,
// CONFIG the config's, LAYER1 and so on those of the layers.
func readManifest(ts *testscript.TestScript, _ bool, args []string) {
	m, dgst := fetchManifest(ts, args[0], args[1], args[2])
	setDigest(ts, "DIGEST", dgst)
	setDigest(ts, "CONFIG", m.Config.Digest)
	for i, l := range m.Layers {
		setDigest(ts, fmt.Sprint("LAYER", i+1), l.Digest)
	}
}

func fetchManifest(t failer, registry, repo, tag string) (m ocispec.Manifest, dgst digest.Digest) {
	body := fetch(t, "http://"+registry+"/v2/"+repo+"/manifests/"+tag,
		ocispec.MediaTypeImageManifest, "application/vnd.docker.distribution.manifest.v2+json")
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%s/%s:%s: %v", registry, repo, tag, err)
	}
	return m, digest.FromBytes(body)
}

// ask fetches JSON and decodes it into v.
func ask(t failer, url string, v any) {
	body := fetch(t, url)
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("GET %s: %v\n%s", url, err, body)
	}
}

func fetch(t failer, url string, accept ...string) []byte {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if len(accept) > 0 {
		req.Header["Accept"] = accept
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s\n%s", url, res.Status, body)
	}
	return body
}

// witnesses IMAGE PROXY REPO TAG DIR: ask all who know what the layers of an
// image unpack to, print what they say, and fail unless they agree: docker's
// list of the image's layers, docker's map from digests to DiffIDs,
// `gzip -dc | sha256sum` of the blob's file under the registry's DIR, and the
// proxy, in both directions.
func witnesses(ts *testscript.TestScript, _ bool, args []string) {
	image, proxy, repo, tag, dir := args[0], args[1], args[2], args[3], ts.MkAbs(args[4])
	m, _ := fetchManifest(ts, proxy, repo, tag)
	ids := diffIDs(ts, image)
	if len(ids) != len(m.Layers) {
		ts.Fatalf("docker has %d layers, the manifest %d", len(ids), len(m.Layers))
	}
	for i, l := range m.Layers {
		remembered, err := os.ReadFile(filepath.Join(engineStore(ts, "diffid-by-digest"), l.Digest.Encoded()))
		ts.Check(err)
		unpacked := command(ts, "sh", "-c", `gzip -dc "$0" | sha256sum`, registryBlob(dir, l.Digest))
		said := map[string]string{
			"docker image inspect":    ids[i].String(),
			"docker diffid-by-digest": strings.TrimSpace(string(remembered)),
			"gzip -dc | sha256sum":    "sha256:" + strings.Fields(unpacked)[0],
			"/v2/_diffids/<digest>":   askDiffID(ts, proxy, l.Digest),
		}
		fmt.Fprintf(ts.Stdout(), "layer %d: %s\n", i+1, l.Digest)
		for who, id := range said {
			fmt.Fprintf(ts.Stdout(), "  %-24s %s\n", who, id)
			if id != ids[i].String() {
				ts.Fatalf("%s says %s of layer %d, docker image inspect %s", who, id, i+1, ids[i])
			}
		}
		if back := askDigests(ts, proxy, ids[i]); !strings.Contains(back, l.Digest.String()) {
			ts.Fatalf("/v2/_diffids?diff_id=%s does not lead back to %s: %s", ids[i], l.Digest, back)
		}
	}
}

func registryBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

func askDiffID(t failer, proxy string, d digest.Digest) string {
	var record struct {
		DiffID string `json:"diff_id"`
	}
	ask(t, "http://"+proxy+"/v2/_diffids/"+d.String(), &record)
	return record.DiffID
}

func askDigests(t failer, proxy string, id digest.Digest) string {
	return string(fetch(t, "http://"+proxy+"/v2/_diffids?diff_id="+id.String()))
}

// flip DIR DIGEST: change one bit in the middle of a blob's file under the
// registry's DIR.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := registryBlob(ts.MkAbs(args[0]), digest.Digest(args[1]))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	st, err := f.Stat()
	ts.Check(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, st.Size()/2)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b, st.Size()/2)
	ts.Check(err)
}

// smaller FILE DIR DIGEST: a file, which need not exist, is shorter than a
// blob's file under the registry's DIR.
func smaller(ts *testscript.TestScript, _ bool, args []string) {
	whole, err := os.Stat(registryBlob(ts.MkAbs(args[1]), digest.Digest(args[2])))
	ts.Check(err)
	part, err := os.Stat(ts.MkAbs(args[0]))
	if err == nil && part.Size() >= whole.Size() {
		ts.Fatalf("%s has all %d bytes", args[0], part.Size())
	}
}
