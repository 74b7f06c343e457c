package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"diffgate/cmd/proxy/embedded"
	"diffgate/cmd/proxy/settings"
	"diffgate/proxy"
	"diffgate/verify/index"
)

// An upstream is the registry behind the proxy.
type upstream struct {
	url       *url.URL
	transport http.RoundTripper
	close     func() error
}

func openUpstream(s settings.Settings, log *zap.Logger) (upstream, error) {
	t, err := proxy.NewTransport(proxy.TransportConfig{
		RootCAs:     s.Upstream.TLS.RootCAs,
		Certificate: s.Upstream.TLS.Certificate,
		Key:         s.Upstream.TLS.Key,
		Insecure:    s.Upstream.TLS.Insecure,
	})
	if err != nil {
		return upstream{}, fmt.Errorf("upstream.tls: %w", err)
	}
	if s.Upstream.URL != "" {
		u, err := url.Parse(s.Upstream.URL)
		if err != nil {
			return upstream{}, fmt.Errorf("upstream.url: %w", err)
		}
		if s.Upstream.TLS.Insecure {
			log.Warn("upstream.tls.insecure is set: whoever is between here and the upstream can read credentials and change images")
		}
		return upstream{u, t, func() error { t.CloseIdleConnections(); return nil }}, nil
	}
	r, err := embedded.Open(s.Embedded.RootDirectory, log)
	if err != nil {
		return upstream{}, err
	}
	t.DialContext = r.Dial
	return upstream{r.URL(), t, r.Close}, nil
}

func openIndex(s settings.Index, reg prometheus.Registerer, log *zap.Logger) (*index.Bolt, error) {
	damaged := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "diffid", Name: "index_damage_total",
		Help: "Damage found in the DiffID index. What was damaged is unknown again."})
	store, err := index.OpenBolt(index.BoltConfig{Path: s.Bolt.Path, OnDamage: func(d index.Damage) {
		damaged.Inc()
		log.Error("DiffID index is damaged; what is lost is computed again", zap.String("file", d.Path),
			zap.String("moved.to", d.Moved), zap.Stringer("vars.digest", d.Digest), zap.Error(d.Err))
	}})
	if err != nil {
		return nil, fmt.Errorf("index.bolt.path: %w", err)
	}
	entries := func(value func(index.Stat) int64) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			st, err := store.Stat(ctx)
			if err != nil {
				return 0 // readyz and the log say more
			}
			return float64(value(st))
		}
	}
	reg.MustRegister(damaged,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "diffid", Name: "index_entries", Help: "Facts in the DiffID index."},
			entries(func(st index.Stat) int64 { return st.Facts })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "diffid", Name: "index_size_bytes", Help: "Size of the DiffID index's file."},
			entries(func(st index.Stat) int64 { return st.SizeBytes })))
	return store, nil
}
