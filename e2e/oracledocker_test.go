//go:build linux

package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
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

// pull pulls a case, makes a container of it, and removes both. Layers that no
// image uses are removed with it.
func (e engine) pull(c verifytest.Case) (tree, error) {
	image := imageAt(e.registry, c)
	if _, err := e.env.run("docker", "pull", "--quiet", image); err != nil {
		return nil, err
	}
	files, err := e.files(image)
	if _, err := e.env.run("docker", "rmi", "--force", image); err != nil {
		return nil, err
	}
	return files, err
}

// files returns the files of a container of an image.
func (e engine) files(image string) (tree, error) {
	out, err := e.env.run("docker", "create", "--network=none", image, "nothing")
	if err != nil {
		return nil, err
	}
	container := strings.TrimSpace(string(out))
	archive, err := e.env.run("docker", "export", container)
	if _, err := e.env.run("docker", "rm", "--force", container); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	files, err := exported(archive)
	for name, body := range dockerFiles {
		if files[name] == body {
			delete(files, name)
		}
	}
	return files, err
}

// dockerFiles are the files that docker adds to every container, unless the
// image has them.
var dockerFiles = tree{".dockerenv": "", "dev/console": "", "etc/hostname": "", "etc/hosts": "", "etc/resolv.conf": "", "etc/mtab": "-> /proc/mounts"}
