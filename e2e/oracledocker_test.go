//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"diffgate/verify/verifytest"
)

var dockerNeeds = []string{"root", "docker", "dockerd", "containerd", "unpigz", "ip"}

// startDocker returns a start of a docker engine of the test's own, with these
// variables in its environment.
func startDocker(env ...string) func(*testing.T, http.Handler) (puller, error) {
	return func(t *testing.T, registry http.Handler) (puller, error) {
		service, err := containerdIn(t, "containerd", nil)
		if err != nil {
			return nil, err
		}
		program, err := exec.LookPath("dockerd")
		if err != nil {
			return nil, err
		}
		dir := shortDir(t)
		socket, config := filepath.Join(dir, "sock"), filepath.Join(dir, "daemon.json")
		writeFile(t, config, []byte("{}"))
		addr, err := alone(t, registry, func() error {
			return daemon(t, dir, env, `API listen on`, program, "--config-file", config, "--host", "unix://"+socket,
				"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
				"--containerd", service, "--storage-driver", "vfs",
				"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
		})
		return engine{clientEnv{"DOCKER_HOST=unix://" + socket}, addr}.pull, err
	}
}

// alone calls start in a network and a table of mounts of their own, where the
// registry listens and nothing else. An engine without a bridge deletes the
// bridge docker0, which in the machine's network belongs to the machine's engine.
func alone(t *testing.T, registry http.Handler, start func() error) (addr string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is never unlocked: it ends with this goroutine, and no
		// other one runs in that network.
		runtime.LockOSThread()
		if err = syscall.Unshare(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS); err != nil {
			return
		}
		if err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return
		}
		if _, err = (clientEnv{}).run("ip", "link", "set", "lo", "up"); err != nil {
			return
		}
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return
		}
		addr = l.Addr().String()
		srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: registry}}
		srv.Start()
		t.Cleanup(srv.Close)
		err = start()
	}()
	<-done
	return addr, err
}

// An engine is the client of a docker engine, and the registry that it pulls from.
type engine struct {
	env      clientEnv
	registry string
}

// pull pulls a case, saves it, and removes it. Layers that no image uses are
// removed with it.
func (e engine) pull(c verifytest.Case) (tree, error) {
	image := imageAt(e.registry, c)
	if _, err := e.env.run("docker", "pull", "--quiet", image); err != nil {
		return nil, err
	}
	files := tree{}
	var err error
	if len(c.Image.Layers) > 0 { // docker does not save an image without layers
		files, err = unread(e.files(image))
	}
	if _, err := e.env.run("docker", "rmi", "--force", image); err != nil {
		return unread(nil, err)
	}
	return files, err
}

// files returns the files of an image. They are not read from a container: its
// /etc/hosts, for one, is docker's and not the image's.
func (e engine) files(image string) (tree, error) {
	out, err := e.env.run("docker", "save", image)
	if err != nil {
		return nil, err
	}
	archive := tree{}
	if err := archive.apply(out); err != nil {
		return nil, err
	}
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal([]byte(archive["manifest.json"]), &manifest); err != nil || len(manifest) != 1 {
		return nil, fmt.Errorf("docker saves no single image: %s", archive["manifest.json"])
	}
	files := tree{}
	for _, name := range manifest[0].Layers {
		layer := archive[name]
		if target, ok := strings.CutPrefix(layer, arrow); ok { // a layer that is there twice
			layer = archive[path.Join(path.Dir(name), target)]
		}
		if err := files.apply([]byte(layer)); err != nil {
			return nil, err
		}
	}
	return files, nil
}
