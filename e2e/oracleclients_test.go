//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"diffgate/verify/verifytest"
)

// allOracles returns every runtime, with every gzip decoder that it can use.
func allOracles() []oracle {
	return []oracle{
		{name: "crane export", builds: []string{"crane"}, tool: true, start: startCraneExport},
		{name: "crane validate", builds: []string{"crane"}, tool: true, start: startCraneValidate},
		{name: "umoci", needs: []string{"root", "skopeo", "umoci"}, start: startUmoci},
		{name: "podman", needs: []string{"root", "podman"}, start: startPodman},
		{name: "docker, unpigz", needs: dockerNeeds, slow: true, start: startDocker()},
		{name: "docker, Go", needs: dockerNeeds, slow: true, start: startDocker("MOBY_DISABLE_PIGZ=true")},
		{name: "containerd 1.6, unpigz", needs: containerdNeeds, slow: true, start: startContainerd1()},
		{name: "containerd 1.6, Go", needs: containerdNeeds, slow: true, start: startContainerd1("CONTAINERD_DISABLE_PIGZ=1")},
		{name: "containerd 2, igzip", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false)},
		{name: "containerd 2, unpigz", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false, "CONTAINERD_DISABLE_IGZIP=1")},
		{name: "containerd 2, Go", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false, "CONTAINERD_DISABLE_IGZIP=1", "CONTAINERD_DISABLE_PIGZ=1")},
		{name: "containerd 2 --local, Go", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(true, "CONTAINERD_DISABLE_IGZIP=1", "CONTAINERD_DISABLE_PIGZ=1")},
	}
}

// offline keeps programs from fetching foreign layers: nothing listens there.
var offline = []string{"HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}

// clientTimeout is how long a client may take for one case.
const clientTimeout = time.Minute

var errHung = errors.New("does not end")

func hung(err error) bool { return errors.Is(err, errHung) }

// run runs a program and returns what it prints. The error is what it says last.
func (env clientEnv) run(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(append(os.Environ(), offline...), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s %w", strings.Join(cmd.Args, " "), errHung)
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		return nil, errors.New(said[strings.LastIndex(said, "\n")+1:] + " (" + err.Error() + ")")
	}
	return stdout.Bytes(), nil
}

// clientEnv is what a program has in its environment besides what the test has.
type clientEnv []string

func startCraneExport(t *testing.T, registry http.Handler) (puller, error) {
	addr, crane := serveHere(t, registry), built(t, "crane")
	return func(c verifytest.Case) (tree, error) {
		out, err := clientEnv{}.run(crane, "export", imageAt(addr, c), "-")
		if err != nil {
			return nil, err
		}
		return exported(out)
	}, nil
}

// crane validate compares the diff_ids and tells no files. If it is content, the
// files are those that crane export tells.
func startCraneValidate(t *testing.T, registry http.Handler) (puller, error) {
	addr, crane := serveHere(t, registry), built(t, "crane")
	export, err := startCraneExport(t, registry)
	return func(c verifytest.Case) (tree, error) {
		if _, err := (clientEnv{}).run(crane, "validate", "--remote", imageAt(addr, c)); err != nil {
			return nil, err
		}
		return export(c)
	}, err
}

func startUmoci(t *testing.T, registry http.Handler) (puller, error) {
	addr, root := serveHere(t, registry), t.TempDir()
	return func(c verifytest.Case) (tree, error) {
		dir := filepath.Join(root, c.ID)
		defer os.RemoveAll(dir)
		layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := (clientEnv{}).run("skopeo", "copy", "--src-tls-verify=false", "docker://"+imageAt(addr, c), "oci:"+layout+":"+tag); err != nil {
			return nil, err
		}
		if _, err := (clientEnv{}).run("umoci", "unpack", "--image", layout+":"+tag, bundle); err != nil {
			return nil, err
		}
		return below(filepath.Join(bundle, "rootfs"))
	}, nil
}

// podman has storage of its own for each case, so that it knows no layers and no
// digests of an earlier one.
func startPodman(t *testing.T, registry http.Handler) (puller, error) {
	addr, root := serveHere(t, registry), t.TempDir()
	return func(c verifytest.Case) (tree, error) {
		dir := filepath.Join(root, c.ID)
		defer os.RemoveAll(dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		storage, engine, err := writeContainers(dir)
		if err != nil {
			return nil, err
		}
		env := clientEnv{"CONTAINERS_STORAGE_CONF=" + storage, "CONTAINERS_CONF=" + engine}
		if _, err := env.run("podman", "pull", "--quiet", "--tls-verify=false", imageAt(addr, c)); err != nil {
			return nil, err
		}
		path, err := env.run("podman", "image", "mount", imageAt(addr, c))
		if err != nil {
			return nil, err
		}
		files, err := below(strings.TrimSpace(string(path)))
		if err != nil {
			return nil, err
		}
		_, err = env.run("podman", "image", "unmount", imageAt(addr, c))
		return files, err
	}, nil
}
