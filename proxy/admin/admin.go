// Package admin serves what operators and their tools look at: health,
// metrics and profiles. It asks for no password and belongs on a listener of
// its own, away from clients.
package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Check returns nil when a part of the program can do its work now.
type Check func(context.Context) error

// Config is what the handler serves.
type Config struct {
	// Metrics are served under /metrics. Required.
	Metrics prometheus.Gatherer
	// Checks, by name, must all pass for /readyz to be 200.
	Checks map[string]Check
	// Details, by name, are words that /readyz shows beside the checks. They
	// do not count.
	Details map[string]func(context.Context) string
	// Profiles serves profiles. They show memory, and taking one costs CPU.
	Profiles bool
}

// checkTimeout bounds each run of the checks.
const checkTimeout = 5 * time.Second

// New returns a handler for
//
//	/livez         200 as long as the process serves
//	/readyz        200 when all checks pass, else 503; JSON, a line for each check
//	               and detail
//	/metrics       Prometheus metrics
//	/debug/pprof/  profiles, if Config.Profiles is set
//
// It is safe for concurrent use.
func New(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, nil) })
	mux.HandleFunc("GET /readyz", cfg.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	if cfg.Profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func (cfg Config) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // guards the rest
		status  = http.StatusOK
		results = map[string]string{}
	)
	for name, check := range cfg.Checks { // at once, so that one that hangs fails alone
		wg.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			results[name] = "ok"
			if err != nil {
				status, results[name] = http.StatusServiceUnavailable, err.Error()
			}
		})
	}
	for name, detail := range cfg.Details {
		wg.Go(func() {
			word := detail(ctx)
			mu.Lock()
			defer mu.Unlock()
			results[name] = word
		})
	}
	wg.Wait()
	answer(w, status, results)
}

func answer(w http.ResponseWriter, status int, results map[string]string) {
	if results == nil {
		results = map[string]string{}
	}
	body, err := json.Marshal(results)
	if err != nil { // a map of strings always marshals
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who asked is gone, or was told
}
