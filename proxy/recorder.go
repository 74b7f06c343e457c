package proxy

import (
	"encoding/json"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// A recorder is a ResponseWriter that remembers what it wrote. It passes
// flushes and deadlines on through Unwrap.
type recorder struct {
	http.ResponseWriter
	beforeWrite func() // may be nil
	status      int    // 0 until the final header is written
	bytes       int64
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 { // 1xx go before the answer
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.beforeWrite != nil {
		r.beforeWrite()
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// write sends a body of ours. A client that is gone is not an error of ours,
// but worth a word in its line of the log.
func (x *exchange) write(body []byte) {
	if _, err := x.w.Write(body); err != nil && x.err == nil {
		x.err = err
	}
}

func (x *exchange) writeJSON(v any) {
	body, err := json.Marshal(v)
	if err != nil { // our own types always marshal
		panic(err)
	}
	x.write(append(body, '\n'))
}

// maxField bounds what a line of the log takes of others' text.
const maxField = 2048

// finish writes the access log line and the metrics of an exchange. It runs
// also when the answer is being cut.
func (x *exchange) finish() {
	took := time.Since(x.began)
	kind := x.rt.kind
	if kind == "" {
		kind = routeOther
	}
	m := x.p.cfg.Metrics
	m.inFlight.Dec()
	m.served(kind, x.r.Method, x.w.status, took)
	if x.p.cfg.NoAccessLog {
		return
	}
	fields := []zap.Field{
		zap.String("route", kind),
		zap.String("http.request.method", printable(x.r.Method)),
		zap.String("http.request.uri", oneLine(x.r.URL.EscapedPath(), maxField)),
		zap.String("http.request.remoteaddr", x.r.RemoteAddr),
		zap.String("http.request.useragent", oneLine(x.r.UserAgent(), maxField)),
		zap.Int("http.response.status", x.w.status),
		zap.Int64("http.response.written", x.w.bytes),
		zap.Duration("http.response.duration", took),
	}
	if x.rt.name != "" {
		fields = append(fields, zap.String("vars.name", oneLine(x.rt.name, maxField)))
	}
	if x.rt.reference != "" {
		fields = append(fields, zap.String("vars.reference", oneLine(x.rt.reference, maxField)))
	}
	if x.rt.digest != "" {
		fields = append(fields, zap.String("vars.digest", oneLine(x.rt.digest, maxField)))
	}
	if x.verdict != "" {
		fields = append(fields, zap.String("verdict", string(x.verdict)))
	}
	if x.err != nil {
		fields = append(fields, zap.String("error", oneLine(x.err.Error(), maxField)))
	}
	x.p.cfg.Log.Info("request", fields...)
}
