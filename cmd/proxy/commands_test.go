package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// Every known lie is exit code 1, and the sentence of the gate is printed; the
// truth is 0 in all its encodings.
func TestVerifyLies(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	honest := map[string]verifytest.Image{
		"gzip":  verifytest.Honest(3),
		"zstd":  verifytest.NewImage(verifytest.ZstdLayer(verifytest.Tar("a", "b"))),
		"plain": verifytest.NewImage(verifytest.TarLayer(verifytest.Tar("a", "b"))),
	}
	for name, img := range honest {
		if code, stdout, stderr := proxyRun(t, "", "verify", r.push("honest/"+name, "1", img)); code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d, %s%s", name, code, stdout, stderr)
		}
	}
	for _, lie := range verifytest.Lies() {
		ref := r.push("lies/"+strings.ToLower(lie.Name), "1", lie.Image)
		code, stdout, stderr := proxyRun(t, "", "verify", "-o", "json", ref)
		var said struct{ Images []judged }
		if err := json.Unmarshal([]byte(stdout), &said); err != nil {
			t.Fatal(err)
		}
		if code != exitMismatch || stderr != "" || len(said.Images) != 1 || len(said.Images[0].Findings) == 0 {
			t.Errorf("%s: exit code %d, %s%s", lie.Is, code, stdout, stderr)
			continue
		}
		if f := said.Images[0].Findings[0]; f.Reason != lie.Reason || f.Cause != lie.Cause || said.Images[0].Message == "" {
			t.Errorf("%s: reason %s, cause %s", lie.Is, f.Reason, f.Cause)
		}
	}
}

// What keeps verify from an answer is exit code 2 and a line that says what.
func TestVerifyUndecided(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	only := r.pushIndex("multi", "1", map[string]verifytest.Image{"linux/s390x": verifytest.Honest(1)})
	for _, tt := range []struct {
		is   string
		args []string
		want string
	}{
		{"a tag that is not there", []string{r.host + "/nothing:1"}, "not found"},
		{"not a reference", []string{"UPPER"}, "not an image reference"},
		{"a host that nobody listens on", []string{"127.0.0.1:1/app:1"}, "reach registry 127.0.0.1:1"},
		{"a platform that the image index lacks", []string{"--platform", "linux/amd64", only}, "for linux/amd64, but for linux/s390x"},
		{"no image at all", nil, "name an image"},
		{"a flag that is none", []string{"--colour", "x"}, "unknown flag"},
		{"no layer at once", []string{"--jobs", "0", only}, "--jobs 0: at least 1"},
		{"standard input for two things", []string{"-u", "me", "--password-stdin", "--docker-archive", "-"}, "standard input has the password"},
		{"a user without a password", []string{"-u", "me", "x"}, "--username needs --password-stdin"},
	} {
		code, stdout, stderr := proxyRun(t, "", append([]string{"verify"}, tt.args...)...)
		if code != exitUndecided || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%s: exit code %d, %s%s", tt.is, code, stdout, stderr)
		}
	}
}

// Of an image index one platform is judged, or all.
func TestVerifyPlatforms(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	ref := r.pushIndex("multi", "1", map[string]verifytest.Image{
		"linux/amd64": verifytest.Honest(2), "linux/arm64": verifytest.Swapped(verifytest.Honest(2)), "linux/s390x": verifytest.Honest(1)})
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--platform", "linux/amd64"}, 0, "match"},
		{[]string{"--platform", "linux/arm64"}, 1, "MISMATCH"},
		{[]string{"--all-platforms"}, 1, "linux/s390x"},
	} {
		code, stdout, _ := proxyRun(t, "", append([]string{"verify", ref}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.want) {
			t.Errorf("%s: exit code %d, %s", tt.args, code, stdout)
		}
	}
}

// With --index the second run reads no layer; a layer that is gone is noticed all
// the same.
func TestVerifyWithIndex(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	ref := r.push("app", "1", verifytest.Honest(3))
	file := filepath.Join(t.TempDir(), "facts.db")
	for i, want := range []int{4, 1} { // three layers and the config, then the config
		if code, stdout, stderr := proxyRun(t, "", "verify", "--index", file, ref); code != 0 {
			t.Fatalf("exit code %d, %s%s", code, stdout, stderr)
		}
		if got := r.downloads(); got != want {
			t.Errorf("run %d downloads %d blobs, want %d", i+1, got, want)
		}
	}
}

// Passwords come from standard input or from docker's configuration file.
func TestCredentials(t *testing.T) {
	r := newTestRegistry(t)
	r.password = "s3cret"
	ref := r.push("app", "1", verifytest.Honest(1))
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	if code, stdout, _ := proxyRun(t, "", "verify", ref); code != exitUndecided || !strings.Contains(stdout, "not allowed to read") {
		t.Errorf("without: exit code %d, %s", code, stdout)
	}
	if code, stdout, stderr := proxyRun(t, "s3cret\n", "verify", "-u", "me", "--password-stdin", ref); code != 0 {
		t.Errorf("from standard input: exit code %d, %s%s", code, stdout, stderr)
	}
	auths := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6czNjcmV0"}}}`, r.host)
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(auths), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := proxyRun(t, "", "verify", ref); code != 0 {
		t.Errorf("from docker: exit code %d, %s%s", code, stdout, stderr)
	}
}

// The table of an image, from its layers and from the DiffID index of a proxy in
// front of the registry, is the same.
func TestImage(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	r.push("app", "lie", verifytest.Swapped(verifytest.Honest(2)))
	front := r.front()
	asked, err := http.Get("http://" + front + "/v2/app/_diffids/manifests/lie?fetch=true")
	if err != nil {
		t.Fatal(err)
	}
	asked.Body.Close()
	for _, tt := range []struct{ from, host string }{
		{"layers", r.host},
		{"index", front},
		{"layers", r.front()}, // which knows nothing yet
	} {
		code, stdout, stderr := proxyRun(t, "", "image", "-o", "json", tt.host+"/app:lie")
		var said struct{ Images []shownImage }
		if err := json.Unmarshal([]byte(stdout), &said); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		s := said.Images[0]
		if code != exitMismatch || s.Source != tt.from || len(s.Layers) != 2 || s.Layers[0].Status != verify.StatusMismatch {
			t.Errorf("%s: exit code %d, %s", tt.from, code, stdout)
		}
	}
}

// lookup finds by digest, by its first digits, by diff_id, and says what is
// unknown.
func TestLookup(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	img := verifytest.Honest(1)
	blob, id := img.Layers[0].Blob, img.DiffIDs[0]
	dgst := digest.FromBytes(blob)
	front := &testRegistry{t: t, host: r.front()}
	front.push("app", "1", img)
	nobody := digest.FromString("nobody").String()
	for _, tt := range []struct {
		is    string
		stdin string
		args  []string
		code  int
		out   string
	}{
		{"a whole digest", "", []string{dgst.String()}, 0, id},
		{"without its algorithm", "", []string{dgst.Encoded()}, 0, id},
		{"as docker cuts it", "", []string{dgst.Encoded()[:12]}, 0, id},
		{"from standard input", dgst.String() + "\n\n" + dgst.Encoded()[:20] + "\n", nil, 0, id + "\n" + id},
		{"from standard input among others", dgst.String(), []string{"-"}, 0, id},
		{"a diff_id in reverse", "", []string{"--reverse", id}, 0, dgst.String()},
		{"one that is unknown", "", []string{dgst.String(), nobody}, 1, id},
		{"a diff_id that is unknown", "", []string{"--reverse", nobody}, 1, ""},
		{"digits that are unknown", "", []string{"0123456789ab"}, 1, ""},
		{"too few digits", "", []string{"abc"}, 2, ""},
		{"the first digits of a diff_id", "", []string{"--reverse", id[7:20]}, 2, ""},
	} {
		code, stdout, stderr := proxyRun(t, tt.stdin, append([]string{"lookup", "-q", "--url", "http://" + front.host}, tt.args...)...)
		if code != tt.code || strings.TrimSpace(stdout) != tt.out {
			t.Errorf("%s: exit code %d, %s%s", tt.is, code, stdout, stderr)
		}
	}
	if code, _, stderr := proxyRun(t, "", "lookup", "--url", r.host, nobody); code != exitUndecided || !strings.Contains(stderr, "no Diffgate stands in front") {
		t.Errorf("a registry alone: exit code %d, %s", code, stderr)
	}
	_, stdout, _ := proxyRun(t, "", "lookup", "--url", front.host, "-o", "json", dgst.String())
	var page api.Page
	if err := json.Unmarshal([]byte(stdout), &page); err != nil || len(page.DiffIDs) != 1 {
		t.Fatalf("%v: %s", err, stdout)
	}
	if diff := cmp.Diff(dgst, page.DiffIDs[0].Digest); diff != "" {
		t.Error(diff)
	}
}

// A repaired image is right, under a new tag; the old one stays as it is.
func TestRepair(t *testing.T) {
	t.Parallel()
	r := newTestRegistry(t)
	lie := r.push("app", "lie", verifytest.Swapped(verifytest.Honest(2)))
	honest := r.push("app", "honest", verifytest.Honest(2))
	cut := r.push("app", "cut", verifytest.CutLayer(verifytest.Honest(2)))
	empty := r.push("app", "empty", verifytest.EmptyBlobs(verifytest.Honest(2)))
	r.pushIndex("app", "multi", map[string]verifytest.Image{"linux/amd64": verifytest.Honest(1)})
	mended := r.host + "/app:mended"
	for _, tt := range []struct {
		is   string
		args []string
		code int
		want string
	}{
		{"shows what it would do", []string{"repair", lie}, 1, "config rootfs.diff_ids[0]"},
		{"which changes nothing", []string{"verify", mended}, 2, "not found"},
		{"never takes a tag that there is", []string{"repair", "--push", "honest", lie}, 2, "tag honest exists already"},
		{"pushes under a new tag", []string{"repair", "--push", "mended", lie}, 0, "pushed " + mended},
		{"the new tag is right", []string{"verify", mended}, 0, "match"},
		{"the old tag is as it was", []string{"verify", lie}, 1, "MISMATCH"},
		{"not over an image index", []string{"repair", "--push", "multi", "--in-place", lie}, 2, "tag multi is an image index"},
		{"in place when told", []string{"repair", "--push", "lie", "--in-place", lie}, 0, "pushed " + lie},
		{"then it is right", []string{"verify", lie}, 0, "match"},
		{"leaves alone what is right", []string{"repair", honest}, 0, "nothing to repair"},
		{"does not hide that a layer is missing", []string{"repair", "--push", "hollow", empty}, 2, "a layer is missing"},
		{"unless told", []string{"repair", "--push", "hollow", "--force", empty}, 0, "pushed"},
		{"does not mend layers", []string{"repair", cut}, 2, "not repaired: layer"},
		{"wants a tag", []string{"repair", "--push", "a/b", lie}, 2, "is not a tag"},
	} {
		code, stdout, stderr := proxyRun(t, "", tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%s: exit code %d, %s%s", tt.is, code, stdout, stderr)
		}
	}
}

// An image index of which the registry holds no image is not right: nothing is
// known of it.
func TestImageOfNothing(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	mediaType, child := img.Manifest()
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		mediaType, digest.FromBytes(child), len(child))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/manifests/1") {
			http.Error(w, "{\"errors\":[{\"code\":\"NOT_FOUND\",\"message\":\"\\u001b]0;title\"}]}", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		fmt.Fprint(w, index)
	}))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	for _, args := range [][]string{{"image", ref}, {"verify", "--all-platforms", ref}, {"repair", ref}, {"image", ref + "-none"}} {
		code, stdout, stderr := proxyRun(t, "", args...)
		if code != exitUndecided || strings.Contains(stdout+stderr, "\x1b") {
			t.Errorf("%s: exit code %d, %q%q", args, code, stdout, stderr)
		}
	}
}
