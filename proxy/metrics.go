package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"diffgate/verify"
)

// Metrics are the counters of a Proxy. No label holds a repository, tag,
// digest or anything else that clients choose. Safe for concurrent use.
type Metrics struct {
	requests        *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	inFlight        prometheus.Gauge
	upstreamSeconds *prometheus.HistogramVec
	upstreamErrors  *prometheus.CounterVec
	blobs           *prometheus.CounterVec
	blobBytes       *prometheus.CounterVec
	wrongBlobs      prometheus.Counter
	checked         *prometheus.CounterVec
	rejected        *prometheus.CounterVec
	notPortable     *prometheus.CounterVec
	fetchSeconds    prometheus.Histogram
	lookups         *prometheus.CounterVec
	commitSeconds   prometheus.Histogram
	writeErrors     prometheus.Counter
	conflicts       prometheus.Counter
	hashersWaiting  prometheus.Gauge
	notAhead        prometheus.Counter
	lateForeign     *prometheus.CounterVec
}

// NewMetrics registers the counters with reg; nil keeps them to themselves. It
// panics, as prometheus does, when they are registered there already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	b := builder{reg}
	fast := prometheus.ExponentialBuckets(0.001, 4, 10) // 1 ms to 4 minutes
	return &Metrics{
		requests:        b.counters("http_requests_total", "Requests answered.", "route", "method", "code"),
		requestSeconds:  b.histograms("http_request_duration_seconds", "Time from a request to the end of its answer.", fast, "route"),
		inFlight:        b.gauge("http_requests_in_flight", "Requests being served."),
		upstreamSeconds: b.histograms("upstream_request_duration_seconds", "Time from a request to the header of the upstream's answer.", fast, "route", "code"),
		upstreamErrors:  b.counters("upstream_errors_total", "Requests that the upstream did not answer.", "kind"),
		blobs:           b.counters("blobs_hashed_total", "Blobs hashed.", "direction", "encoding", "result"),
		blobBytes:       b.counters("blob_bytes_total", "Bytes of blobs hashed.", "direction", "kind"),
		wrongBlobs:      b.counter("wrong_blobs_total", "Reads of blobs that the upstream held other bytes of."),
		checked:         b.counters("manifests_checked_total", "Manifests judged.", "direction", "verdict", "mode"),
		rejected:        b.counters("manifests_rejected_total", "Grounds on which manifests were refused.", "direction", "reason"),
		notPortable:     b.counters("manifests_not_portable_total", "Warnings that a runtime will not pull an image.", "direction", "runtime"),
		fetchSeconds:    b.histogram("layer_fetch_seconds", "Time to fetch and hash a blob that was unknown.", fast),
		lookups:         b.counters("index_lookups_total", "Lookups in the DiffID index.", "result"),
		commitSeconds:   b.histogram("index_commit_seconds", "Time to record a fact durably.", fast),
		writeErrors:     b.counter("index_write_errors_total", "Facts that could not be recorded."),
		conflicts:       b.counter("index_conflicts_total", "Facts that contradict the DiffID index. Any is an alarm."),
		hashersWaiting:  b.gauge("hashers_waiting", "Blobs waiting to be fetched and hashed."),
		notAhead:        b.counter("ahead_dropped_total", "Blobs that were not hashed ahead because too many waited."),
		lateForeign:     b.counters("late_foreign_total", "Images refused after the registry had accepted them, because a foreign layer arrived late and does not match. deleted says whether the registry deleted the image.", "deleted"),
	}
}

// A builder makes and registers metrics with our prefix.
type builder struct{ reg prometheus.Registerer }

const namespace = "diffid"

func (b builder) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	b.reg.MustRegister(c)
	return c
}

func (b builder) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	b.reg.MustRegister(c)
	return c
}

func (b builder) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	b.reg.MustRegister(g)
	return g
}

func (b builder) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	b.reg.MustRegister(h)
	return h
}

func (b builder) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	b.reg.MustRegister(h)
	return h
}

func (m *Metrics) served(route, method string, status int, took time.Duration) {
	if !slices.Contains(knownMethods, method) {
		method = "other"
	}
	m.requests.WithLabelValues(route, method, code(status)).Inc()
	m.requestSeconds.WithLabelValues(route).Observe(took.Seconds())
}

func (m *Metrics) upstreamDone(route string, status int, began time.Time) {
	m.upstreamSeconds.WithLabelValues(route, code(status)).Observe(time.Since(began).Seconds())
}

// code keeps a strange upstream from making a series of each number.
func code(status int) string {
	if http.StatusText(status) == "" && status != statusClientGone {
		return "other"
	}
	return strconv.Itoa(status)
}

func (m *Metrics) hashed(f verify.Fact) {
	result := "indexed"
	switch f.Problem {
	case verify.Corrupt, verify.Ambiguous, verify.Unsupported:
		result = "undecodable"
	case verify.Limit:
		result = "limit"
	}
	m.blobs.WithLabelValues(f.Source.String(), f.Encoding.String(), result).Inc()
	m.blobBytes.WithLabelValues(f.Source.String(), "stored").Add(float64(f.Size))
	m.blobBytes.WithLabelValues(f.Source.String(), "unpacked").Add(float64(f.UnpackedSize))
}
