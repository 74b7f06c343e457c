package main

import (
	"context"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"diffgate/cmd/proxy/settings"
	"diffgate/proxy"
	"diffgate/proxy/admin"
)

func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve [CONFIG]",
		Short: "Serve clients in front of a registry",
		Long: `Serve listens on http.addr and forwards to the registry at upstream.url, or
to a registry of its own, kept in embedded.rootdirectory, when there is none.

` + configHelp + `

On SIGTERM or SIGINT it stops accepting, lets requests end for at most
http.draintimeout, and exits; a second signal ends it at once.`,
		Example: "  proxy serve\n  DIFFGATE_UPSTREAM_URL=http://registry:5000 proxy serve",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, origin, err := load(args)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, origin.File, cmd.ErrOrStderr())
		},
	}
}

// serve runs until a signal. Whatever is wrong with the settings is returned
// before anything listens.
func serve(ctx context.Context, s settings.Settings, file string, stderr io.Writer) (err error) {
	log, err := newLogger(s.Log, stderr)
	if err != nil {
		return err
	}
	logrus.AddHook(logrusHook{log})
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	up, err := openUpstream(s, log)
	if err != nil {
		return err
	}
	defer closing(&err, up.close)
	store, err := openIndex(s.Index, metrics, log)
	if err != nil {
		return err
	}
	defer closing(&err, store.Close)
	cfg := proxyConfig(s)
	cfg.Upstream, cfg.Transport, cfg.Index = up.url, up.transport, store
	cfg.Log, cfg.Metrics = log, proxy.NewMetrics(metrics)
	p, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	defer p.Close()

	serving, err := listen(s.HTTP, p, admin.New(admin.Config{
		Profiles: s.HTTP.Debug.PProf,
		Metrics:  metrics,
		Checks:   map[string]admin.Check{"index": store.Ready, "upstream": p.Ready},
		Details:  map[string]func(context.Context) string{"blobs": p.WrongBlobs},
	}), log)
	if err != nil {
		return err
	}
	log.Info("serving", zap.String("addr", serving.addr()), zap.String("debug.addr", serving.debugAddr()),
		zap.String("upstream", up.url.Redacted()), zap.String("mode", s.Verify.Mode),
		zap.String("index", s.Index.Bolt.Path), zap.String("config", file))
	return serving.untilSignal(ctx, s.HTTP.DrainTimeout)
}

// closing keeps the error of a deferred close that nothing else went before.
func closing(err *error, close func() error) {
	if cerr := close(); *err == nil {
		*err = cerr
	}
}
