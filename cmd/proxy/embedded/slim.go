//go:build slim

package embedded

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"go.uber.org/zap"
)

// A Registry is nothing in this build.
type Registry struct{}

// Open returns an error that says what to set instead.
func Open(string, *zap.Logger) (*Registry, error) {
	return nil, errors.New("upstream.url is empty and this build has no embedded registry: set upstream.url (DIFFGATE_UPSTREAM_URL)")
}

// URL is never called: there is no Registry.
func (*Registry) URL() *url.URL { return nil }

// Dial is never called: there is no Registry.
func (*Registry) Dial(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }

// Handler is never called: there is no Registry.
func (*Registry) Handler() http.Handler { return http.NotFoundHandler() }

// Close does nothing.
func (*Registry) Close() error { return nil }
