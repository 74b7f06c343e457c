package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"diffgate/verify"
)

// maxErrors bounds the entries of an answer; docker prints each on a line.
const maxErrors = 8

// refuse makes a report the answer to a push, and keeps it for those who follow
// the answer's link.
func (x *exchange) refuse(body []byte, report verify.Report) error {
	manifest := digest.FromBytes(body)
	x.p.refused.add(refusal{refusalKey{x.rt.name, manifest}, x.r.Header.Get("Content-Type"), report})
	bad := x.p.cfg.Policy.Rejections(report.Findings)
	e := &httpError{status: http.StatusBadRequest}
	code := errcode.ErrorCodeManifestInvalid
	switch {
	case bad[0].Reason == verify.ReasonBlobUnknown:
		code = errcode.ErrorCodeManifestBlobUnknown
	case x.p.cfg.Denied:
		code, e.status = errcode.ErrorCodeDenied, http.StatusForbidden
	}
	for i, f := range bad {
		if i == maxErrors {
			e.errs = append(e.errs, code.WithMessage(fmt.Sprintf("and %d more", len(bad)-i)))
			break
		}
		e.errs = append(e.errs, code.WithMessage(f.Message).WithDetail(newDetail(f, x.rt.name, manifest)))
	}
	return e
}

// A detail is the part of an error that is for programs.
type detail struct {
	Reason       verify.Reason `json:"reason"`
	Cause        verify.Cause  `json:"cause,omitempty"`
	Layer        *int          `json:"layer,omitempty"` // from 0
	Digest       digest.Digest `json:"digest,omitempty"`
	ConfigDiffID verify.DiffID `json:"config_diff_id,omitempty"`
	DiffID       verify.DiffID `json:"diff_id,omitempty"`
	Report       string        `json:"report"`
}

func newDetail(f verify.Finding, repo string, manifest digest.Digest) detail {
	d := detail{Reason: f.Reason, Cause: f.Cause, Digest: f.Digest, ConfigDiffID: f.Claimed, DiffID: f.Actual,
		Report: "/v2/" + repo + "/_diffids/manifests/" + manifest.String()}
	if f.Layer >= 0 {
		d.Layer = &f.Layer
	}
	return d
}

// decided logs and counts a verdict; nothing is decided without it.
func (x *exchange) decided(v verify.Verdict, bad, warn []verify.Finding) {
	x.verdict = v
	m := x.p.cfg.Metrics
	m.checked.WithLabelValues(string(v), string(x.p.cfg.Mode)).Inc()
	for _, f := range bad {
		if x.p.cfg.Mode == Enforce {
			m.rejected.WithLabelValues(string(f.Reason)).Inc()
		}
		x.logFinding(x.p.cfg.Log.Warn, "manifest is false", f)
	}
	for _, f := range warn {
		x.logFinding(x.p.cfg.Log.Info, "manifest passes with a warning", f)
	}
}

func (x *exchange) logFinding(log func(string, ...zap.Field), what string, f verify.Finding) {
	fields := []zap.Field{
		zap.String("mode", string(x.p.cfg.Mode)),
		zap.String("vars.name", x.rt.name),
		zap.String("vars.reference", oneLine(x.rt.reference, maxField)),
		zap.String("diffid.reason", string(f.Reason)),
	}
	if f.Layer >= 0 {
		fields = append(fields, zap.Int("diffid.layer", f.Layer))
	}
	for _, d := range []struct{ key, value string }{
		{"diffid.cause", string(f.Cause)},
		{"diffid.expected", f.Claimed.String()},
		{"diffid.actual", f.Actual.String()},
	} {
		if d.value != "" {
			fields = append(fields, zap.String(d.key, d.value))
		}
	}
	log(what, append(fields, zap.String("message", f.Message))...)
}

// maxWarnings bounds the bytes of all Warning headers (OCI distribution
// specification, "Warnings").
const maxWarnings = 4096

// setWarnings adds Warning headers: plain ASCII, and nothing that a client's
// parser stumbles over.
func setWarnings(h http.Header, messages []string) {
	total := 0
	for _, m := range messages {
		m = strings.NewReplacer(`"`, "'", `\`, "/", "%", " ").Replace(oneLine(m, maxWarnings))
		line := `299 - "` + m + `"`
		if total += len(line) + len("Warning: \r\n"); total > maxWarnings {
			return
		}
		h.Add("Warning", line)
	}
}
