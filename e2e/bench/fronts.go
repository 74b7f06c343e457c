package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
)

// A front is an address at which the registry is reached, and the proxy that
// listens there, if one does.
type front struct {
	name string
	*process
}

// direct is the front that is none.
const direct = "registry alone"

// fronts starts a registry and puts each of the proxies in front of it that this
// machine has. The first is the registry itself.
func (b *bench) fronts(ctx context.Context, names ...string) (all []front, storage string, stop func() error, err error) {
	stop = func() (err error) {
		for _, f := range all {
			err = errors.Join(err, f.stop())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	registry, storage, err := b.startRegistry(ctx)
	if err != nil {
		return nil, "", stop, err
	}
	all = []front{{direct, registry}}
	for _, name := range names {
		var p *process
		switch name {
		case ours:
			p, err = b.startDiffgate(ctx, registry.addr)
		case "ReverseProxy":
			p, err = b.startReverseProxy(ctx, registry.addr)
		case "nginx":
			if lookPath("nginx") == "" {
				continue
			}
			p, err = b.startNginx(ctx, registry.addr)
		}
		if err != nil {
			return nil, "", stop, err
		}
		all = append(all, front{name, p})
	}
	return all, storage, stop, nil
}

// startRegistry runs registry:2 over an empty folder, as Debian ships it,
// without a cache of descriptors.
func (b *bench) startRegistry(ctx context.Context) (p *process, storage string, err error) {
	path := lookPath("docker-registry")
	if path == "" {
		return nil, "", errors.New("no docker-registry here; e2e/install installs it")
	}
	storage, err = os.MkdirTemp(b.dir, "storage")
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(storage, "config.yml")
	text := fmt.Appendf(nil, `version: 0.1
storage:
  filesystem: {rootdirectory: %q}
http: {addr: "127.0.0.1:0", secret: for-measuring}
`, storage)
	if err := os.WriteFile(config, text, 0o644); err != nil {
		return nil, "", err
	}
	p, err = b.serve(ctx, "registry", "", `listening on ([0-9.:]+)`, nil, path, "serve", config)
	return p, filepath.Join(storage, "docker"), err
}

func (b *bench) startDiffgate(ctx context.Context, upstream string) (*process, error) {
	return b.serve(ctx, "diffgate", "", `"msg":"serving","addr":"([^"]*)"`, []string{
		"DIFFGATE_HTTP_ADDR=127.0.0.1:0",
		"DIFFGATE_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"DIFFGATE_LOG_FORMATTER=json",
		"DIFFGATE_UPSTREAM_URL=http://" + upstream,
	}, b.program, "serve")
}

// reverseProxyCommand makes this program a plain proxy, for it is to be a
// process of its own.
const reverseProxyCommand = "reverse-proxy"

func (b *bench) startReverseProxy(ctx context.Context, upstream string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.serve(ctx, "reverse-proxy", "", `listening on ([0-9.:]+)`, nil, self, reverseProxyCommand, "http://"+upstream)
}

// reverseProxy is httputil.ReverseProxy as it comes, save for the connections
// that it keeps: by default there are two.
func reverseProxy(upstream string) error {
	to, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which the registry puts into Location
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	return http.Serve(l, proxy)
}

func (b *bench) startNginx(ctx context.Context, upstream string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "nginx")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, addr, upstream), 0o644); err != nil {
		return nil, err
	}
	return b.serve(ctx, "nginx", addr, "", nil, lookPath("nginx"), "-p", dir, "-c", config)
}

// nginxConfig is that of the end-to-end test without TLS: bytes are passed on as they
// come, over connections that are kept.
const nginxConfig = `daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path tmp1;
	proxy_temp_path tmp2;
	fastcgi_temp_path tmp3;
	uwsgi_temp_path tmp4;
	scgi_temp_path tmp5;
	upstream registry {
		server %[2]s;
		keepalive 100;
	}
	server {
		listen %[1]s;
		client_max_body_size 0;
		location / {
			proxy_pass http://registry;
			proxy_http_version 1.1;
			proxy_request_buffering off;
			proxy_buffering off;
			proxy_set_header Host $http_host;
			proxy_set_header Connection "";
		}
	}
}
`
