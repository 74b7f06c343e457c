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

// offline keeps programs from fetching foreign layers: nothing listens there.
var offline = []string{"HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}

// clientTimeout is how long a client may take for one case.
const clientTimeout = time.Minute

var (
	errHung   = errors.New("does not end")
	errUnread = errors.New("pulled, and the files cannot be read")
)

// unread returns what was read of an image after the runtime had pulled it. An
// error is then no refusal, and fails the test.
func unread(files tree, err error) (tree, error) {
	if err != nil {
		err = fmt.Errorf("%w: %w", errUnread, err)
	}
	return files, err
}

// run runs a program and returns what it prints. If it fails,
// the error has the end of what it says.
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
		said := strings.Join(strings.Fields(stderr.String()), " ")
		return nil, fmt.Errorf("%w: %s", err, said[max(0, len(said)-300):])
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
		return unread(below(filepath.Join(bundle, "rootfs")))
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
		if len(c.Image.Layers) == 0 {
			return tree{}, nil // there is nothing that podman could mount
		}
		return unread(mounted(env, imageAt(addr, c)))
	}, nil
}

// mounted returns the files of an image in podman's storage.
func mounted(env clientEnv, image string) (tree, error) {
	path, err := env.run("podman", "image", "mount", image)
	if err != nil {
		return nil, err
	}
	files, err := below(strings.TrimSpace(string(path)))
	if err != nil {
		return nil, err
	}
	_, err = env.run("podman", "image", "unmount", image)
	return files, err
}
