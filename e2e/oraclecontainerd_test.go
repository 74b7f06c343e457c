//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"diffgate/verify/verifytest"
)

var (
	containerdNeeds   = []string{"root", "containerd", "ctr", "unpigz", "igzip"}
	containerd2Builds = []string{"ctr", "containerd"}
)

// oracleConfig is what a containerd needs besides where it keeps its files. No
// namespace sees the blobs of another. The transfer service of containerd 2
// unpacks for the native snapshotter, which keeps the files of each snapshot in
// an ordinary folder; containerd 1.6 has no such service and ignores the setting.
const oracleConfig = `[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/amd64"
snapshotter = "native"
differ = "walking"
`

// startContainerd1 returns a start of Debian's containerd, with these variables
// in its environment.
func startContainerd1(env ...string) func(*testing.T, http.Handler) (puller, error) {
	return func(t *testing.T, registry http.Handler) (puller, error) {
		socket, err := containerdIn(t, "containerd", env)
		return ctr{program: "ctr", socket: socket, registry: serveHere(t, registry)}.pull, err
	}
}

// startContainerd2 returns a start of containerd 2. With local, ctr unpacks
// through the client library, as older programs do; without, the transfer
// service of the daemon does it.
func startContainerd2(local bool, env ...string) func(*testing.T, http.Handler) (puller, error) {
	return func(t *testing.T, registry http.Handler) (puller, error) {
		socket, err := containerdIn(t, built(t, "containerd"), env)
		c := ctr{program: built(t, "ctr"), socket: socket, registry: serveHere(t, registry)}
		if local {
			c.options = []string{"--local"}
		}
		return c.pull, err
	}
}

// containerdIn runs a containerd that keeps everything in temporary folders, and
// stops it when the test ends. It returns the path of its socket.
func containerdIn(t *testing.T, program string, env []string) (socket string, err error) {
	dir := shortDir(t)
	socket = filepath.Join(dir, "sock")
	config := filepath.Join(dir, "config.toml")
	writeFile(t, config, append(containerdConfig(dir, socket), oracleConfig...))
	if program, err = exec.LookPath(program); err != nil {
		return "", err
	}
	return socket, daemon(t, dir, env, `containerd successfully booted`, program, "--config", config)
}

// daemon runs a program until the test ends, and stops it with SIGTERM. It
// returns when a line of the program's log matches.
func daemon(t *testing.T, dir string, env []string, matches, program string, args ...string) error {
	file, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	t.Cleanup(func() { file.Close() })
	p, err := launch(dir, append(append(os.Environ(), offline...), env...), file, matches, program, args...)
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := p.stop(syscall.SIGTERM); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	})
	if _, err := p.listening(); err != nil {
		log, _ := os.ReadFile(file.Name()) // there is nothing better to show
		return fmt.Errorf("%w\n%s", err, log)
	}
	return nil
}

// shortDir returns a temporary folder whose path leaves room for a socket: the
// kernel allows 107 bytes, and the folder of a test may take more.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "oracle")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A ctr is the client of a containerd.
type ctr struct {
	program, socket string
	registry        string
	options         []string // for pull
}

// pull pulls a case in a namespace of its own: the snapshots of earlier cases
// are not there.
func (c ctr) pull(of verifytest.Case) (tree, error) {
	args := append([]string{"images", "pull", "--plain-http"}, c.options...)
	if _, err := c.in(of, append(args, imageAt(c.registry, of))...); err != nil {
		return nil, err
	}
	top, err := c.top(of)
	switch {
	case err != nil:
		return unread(nil, err)
	case top == "" && len(of.Image.Layers) > 0:
		return nil, errors.New("pulled, and nothing was unpacked")
	case top == "":
		return tree{}, nil
	}
	return unread(c.files(of, top))
}

// files returns the files of a snapshot.
func (c ctr) files(of verifytest.Case, top string) (tree, error) {
	out, err := c.in(of, "snapshots", "view", "--mounts", "view", top)
	if err != nil {
		return nil, err
	}
	var mounts []struct{ Source string }
	if err := json.Unmarshal(out, &mounts); err != nil || len(mounts) != 1 {
		return nil, fmt.Errorf("not one mount: %s", out)
	}
	return below(mounts[0].Source)
}

// top returns the snapshot of the last layer: the one that is no other's parent.
func (c ctr) top(of verifytest.Case) (string, error) {
	out, err := c.in(of, "snapshots", "list")
	if err != nil {
		return "", err
	}
	parents := map[string]bool{}
	var keys []string
	for line := range strings.Lines(string(out)) {
		switch f := strings.Fields(line); {
		case len(f) == 0 || f[0] == "KEY":
		case f[len(f)-1] != "Committed":
			return "", fmt.Errorf("an unfinished snapshot: %s", line)
		default:
			keys = append(keys, f[0])
			if len(f) == 3 {
				parents[f[1]] = true
			}
		}
	}
	for _, key := range keys {
		if !parents[key] {
			return key, nil
		}
	}
	return "", nil
}

// in runs ctr in the namespace of a case.
func (c ctr) in(of verifytest.Case, args ...string) ([]byte, error) {
	env := clientEnv{"CONTAINERD_SNAPSHOTTER=native", "CONTAINERD_NAMESPACE=" + of.ID, "CONTAINERD_ADDRESS=" + c.socket}
	return env.run(c.program, args...)
}
