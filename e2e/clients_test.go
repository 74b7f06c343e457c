package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// Every client, from its first push to its refused one, in front of both
// registries. Each script is the manual of one client in front of Diffgate.
func TestClients(t *testing.T) {
	for _, upstream := range []string{"registry2", "distribution3"} {
		t.Run(upstream, func(t *testing.T) {
			params := scripts("clients")
			params.Setup = func(env *testscript.Env) error {
				env.Values[gatewayKey{}] = &gateway{upstream: upstream}
				return setup(env)
			}
			params.Condition = func(cond string) (bool, error) {
				if cond == "registry2" || cond == "distribution3" {
					return cond == upstream, nil
				}
				return condition(cond)
			}
			testscript.Run(t, params)
		})
	}
}

// client NAME: the script needs a client that clients/build has built.
func client(ts *testscript.TestScript, _ bool, args []string) {
	folder := tools(func(format string, args ...any) {
		missing(ts.Value(skipper{}).(testscript.T).Skip, ts.Fatalf, fmt.Sprintf(format, args...))
	}, "clients/build", "-n", args[0])
	ts.Setenv("PATH", folder+string(filepath.ListSeparator)+ts.Getenv("PATH"))
}

// gocache: go builds with what it has built before.
func goCache(ts *testscript.TestScript, _ bool, _ []string) {
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		ts.Setenv(name, command(ts, "go", "env", name))
	}
}

// A gateway is Diffgate in front of a registry, with a wire on both sides.
type gateway struct {
	upstream         string
	client, registry *wire
}

type gatewayKey struct{}

// gate: run registry:2 or distribution v3 and Diffgate in front of it. The
// variable GATE is Diffgate's address for clients, who are overheard. REGISTRY is
// that of the registry, PROXY that of Diffgate for whoever looks on.
func gate(ts *testscript.TestScript, _ bool, _ []string) {
	w := ts.Value(gatewayKey{}).(*gateway)
	if w.upstream == "registry2" {
		registry2(ts, false, []string{"REGISTRY", "disk"})
	} else {
		addr, stop, err := serveRegistry3(ts.MkAbs("disk"))
		ts.Check(err)
		ts.Defer(func() { ts.Check(stop()) })
		ts.Setenv("REGISTRY", addr)
	}
	w.registry = newWire(ts.Getenv("REGISTRY"))
	ts.Defer(w.registry.stop)
	ts.Setenv("DIFFGATE_UPSTREAM_URL", "http://"+w.registry.addr)
	start(ts, false, []string{"PROXY"})
	w.client = newWire(ts.Getenv("PROXY"))
	ts.Defer(w.client.stop)
	ts.Setenv("GATE", w.client.addr)
}

// traffic: print the requests that the client sent since the last traffic, and
// fail unless the registry saw them as they were. What Diffgate asked for itself
// comes last, with its name in front.
func traffic(ts *testscript.TestScript, _ bool, _ []string) {
	w := ts.Value(gatewayKey{}).(*gateway)
	sent := w.client.take()
	for _, n := range sent {
		fmt.Fprintln(ts.Stdout(), n)
	}
	for _, n := range parity(ts, sent, w.registry.take()) {
		fmt.Fprintln(ts.Stdout(), ownAgent+":", n)
	}
}

// pairs REPO REFERENCE: fail unless each layer of an image, or of each image of
// an image index, is in the DiffID index with the diff_id that the config in the
// registry names, in both directions, and the report says match. Print them.
func pairs(ts *testscript.TestScript, _ bool, args []string) {
	defer ts.Value(gatewayKey{}).(*gateway).registry.overlook()()
	repo := args[0]
	if r := askReport(ts, ts.Getenv("PROXY"), repo, args[1]); r.Verdict != "match" {
		ts.Fatalf("the verdict is %s: %s", r.Verdict, r.Message)
	}
	n := 0
	for _, m := range images(ts, repo, args[1]) {
		var config ocispec.Image
		ask(ts, "http://"+ts.Getenv("REGISTRY")+"/v2/"+repo+"/blobs/"+m.Config.Digest.String(), &config)
		if len(config.RootFS.DiffIDs) != len(m.Layers) {
			ts.Fatalf("%d diff_ids for %d layers", len(config.RootFS.DiffIDs), len(m.Layers))
		}
		for i, l := range m.Layers {
			n++
			pair(ts, l.Digest, config.RootFS.DiffIDs[i])
		}
	}
	if n == 0 {
		ts.Fatalf("%s:%s has no layers", repo, args[1])
	}
}

func pair(ts *testscript.TestScript, dgst, id digest.Digest) {
	proxy := ts.Getenv("PROXY")
	var record struct {
		Encoding, Source string
		DiffID           digest.Digest `json:"diff_id"`
	}
	ask(ts, "http://"+proxy+"/v2/_diffids/"+dgst.String(), &record)
	if record.DiffID != id {
		ts.Fatalf("the DiffID index says that %s unpacks to %s, the config %s", dgst, record.DiffID, id)
	}
	if back := askDigests(ts, proxy, id); !strings.Contains(back, dgst.String()) {
		ts.Fatalf("/v2/_diffids?diff_id=%s does not lead back to %s: %s", id, dgst, back)
	}
	fmt.Fprintf(ts.Stdout(), "%s %s -> %s by %s\n", record.Encoding, dgst, id, record.Source)
}

// images returns the image manifest of that reference, or those of its image index.
func images(ts *testscript.TestScript, repo, reference string) (ms []ocispec.Manifest) {
	body := fetch(ts, "http://"+ts.Getenv("REGISTRY")+"/v2/"+repo+"/manifests/"+reference,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json")
	var m struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor
	}
	ts.Check(json.Unmarshal(body, &m))
	if m.Manifests == nil {
		return []ocispec.Manifest{m.Manifest}
	}
	for _, d := range m.Manifests {
		ms = append(ms, images(ts, repo, d.Digest.String())...)
	}
	return ms
}

// containerd: run containerd in the script's folder. The variable
// CONTAINERD_ADDRESS, which ctr reads, is its socket.
func containerd(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.MkAbs("containerd")
	ts.Check(os.Mkdir(dir, 0o755))
	// A socket's path may have 107 bytes; the script's folder may have more.
	sockets, err := os.MkdirTemp("", "containerd")
	ts.Check(err)
	ts.Defer(func() { os.RemoveAll(sockets) })
	socket := filepath.Join(sockets, "sock")
	config := filepath.Join(dir, "config.toml")
	ts.Check(os.WriteFile(config, containerdConfig(dir, socket), 0o644))
	path, err := exec.LookPath("containerd")
	ts.Check(err)
	run(ts, "containerd", `containerd successfully booted`, path, "--config", config)
	ts.Setenv("CONTAINERD_ADDRESS", socket)
	ts.Setenv("CONTAINERD_SNAPSHOTTER", "native")
}

// containerdConfig is the config of a containerd that keeps everything in a folder.
func containerdConfig(dir, socket string) []byte {
	return fmt.Appendf(nil, `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = %q
[plugins."io.containerd.internal.v1.opt"]
path = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, filepath.Join(dir, "opt"))
}
