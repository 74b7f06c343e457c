package proxy

import (
	"context"
	"fmt"
	"net/http"
)

// Ready returns nil when the upstream registry answers. An answer that asks
// for credentials is one.
func (p *Proxy) Ready(ctx context.Context) error {
	res, err := p.upstream.do(ctx, caller{host: p.cfg.Upstream.Host}, http.MethodGet, "/v2/", "")
	if err != nil {
		return fmt.Errorf("the upstream registry cannot be reached: %w", err)
	}
	drain(res)
	switch res.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return nil
	}
	return fmt.Errorf("the upstream registry answered %d %s to /v2/", res.StatusCode, http.StatusText(res.StatusCode))
}
