//go:build !slim

package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"go.uber.org/zap"
)

// A Registry serves requests over connections in memory, so that nobody can
// reach it but through what holds it.
type Registry struct {
	app      *handlers.App
	server   *http.Server
	listener *pipeListener
	served   chan error
}

// Open returns a registry that keeps its blobs below dir, which it makes if
// need be. Two processes may not use one directory at the same time, which
// nothing here prevents.
func Open(dir string, log *zap.Logger) (*Registry, error) {
	app, err := open(dir)
	if err != nil {
		return nil, err
	}
	r := &Registry{app: app, listener: newPipeListener(), served: make(chan error, 1)}
	r.server = &http.Server{Handler: app, ErrorLog: zap.NewStdLog(log)}
	go func() { r.served <- r.server.Serve(r.listener) }()
	return r, nil
}

// open returns distribution's handlers over the files below dir.
func open(dir string) (*handlers.App, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the embedded registry's directory: %w", err)
	}
	cfg := &configuration.Configuration{
		Version: "0.1",
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": dir},
			"delete":     {"enabled": true},
			// Uploads that nobody ends are purged after a week.
			"maintenance": {"uploadpurging": map[any]any{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false}},
		},
	}
	// Only this process reads what it signs; a restart ends open uploads.
	cfg.HTTP.Secret = rand.Text()
	cfg.Catalog.MaxEntries = 1000
	return newApp(cfg)
}

// newApp makes distribution's panic on a configuration it does not like an
// error.
func newApp(cfg *configuration.Configuration) (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start the embedded registry: %v", p)
		}
	}()
	return handlers.NewApp(context.Background(), cfg), nil
}

// URL is what to call the registry; Dial is how to reach it.
func (r *Registry) URL() *url.URL { return &url.URL{Scheme: "http", Host: "embedded.registry"} }

// Dial connects to the registry, whatever the address.
func (r *Registry) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return r.listener.dial(ctx)
}

// Handler is the registry without the connections in memory.
func (r *Registry) Handler() http.Handler { return r.app }

// Close ends all requests and waits for the server.
func (r *Registry) Close() error {
	err := r.server.Close()
	if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, r.app.Shutdown())
}

// A pipeListener accepts connections that never leave the process.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	return l
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "embedded.registry" }
