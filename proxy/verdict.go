package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"go.uber.org/zap"

	"diffgate/proxy/api"
	"diffgate/verify"
)

// maxErrors bounds the entries of an answer; docker prints each on a line.
const maxErrors = 8

// refusePush is the answer to a push of a false image. It is kept for those who
// follow its link.
func (x *exchange) refusePush(m manifest, report verify.Report) error {
	x.p.refused.Add(refusalKey{x.rt.name, m.digest}, refusal{m.contentType, abridged(report)})
	bad := x.p.cfg.Policy.Rejections(report.Findings)
	switch {
	case bad[0].Reason == verify.ReasonBlobUnknown:
		return x.refuse(m, bad, http.StatusBadRequest, errcode.ErrorCodeManifestBlobUnknown)
	case x.p.cfg.Denied:
		return x.refuse(m, bad, http.StatusForbidden, errcode.ErrorCodeDenied)
	}
	return x.refuse(m, bad, http.StatusBadRequest, errcode.ErrorCodeManifestInvalid)
}

// refusePull is the answer to a pull of a false image.
func (x *exchange) refusePull(m manifest, report verify.Report) error {
	return x.refuse(m, x.p.cfg.Policy.Rejections(report.Findings), http.StatusForbidden, errcode.ErrorCodeDenied)
}

func (x *exchange) refuse(m manifest, bad []verify.Finding, status int, code errcode.ErrorCode) error {
	e := &httpError{status: status}
	report := "/v2/" + x.rt.name + "/_diffids/manifests/" + m.digest.String()
	for i, f := range bad {
		if i == maxErrors {
			e.errs = append(e.errs, code.WithMessage(fmt.Sprintf("and %d more", len(bad)-i)))
			break
		}
		e.errs = append(e.errs, code.WithMessage(f.Message).WithDetail(detail{api.NewFinding(f), report}))
	}
	return e
}

// A detail is the part of an error that is for programs.
type detail struct {
	api.Finding
	Report string `json:"report"`
}

// decided logs and counts a verdict; nothing is decided without it.
func (j judging) decided(v verify.Verdict, bad, warn []verify.Finding) {
	x, m := j.x, j.x.p.cfg.Metrics
	x.verdict = v
	m.checked.WithLabelValues(j.direction, string(v), string(j.mode)).Inc()
	for _, f := range bad {
		if j.mode == Enforce {
			m.rejected.WithLabelValues(j.direction, string(f.Reason)).Inc()
		}
		j.logFinding(x.p.cfg.Log.Warn, "manifest is false", f)
	}
	for _, f := range warn {
		for _, r := range f.Runtimes {
			m.notPortable.WithLabelValues(j.direction, string(r)).Inc()
		}
		j.logFinding(x.p.cfg.Log.Info, "manifest passes with a warning", f)
	}
}

func (j judging) logFinding(log func(string, ...zap.Field), what string, f verify.Finding) {
	x := j.x
	fields := []zap.Field{
		zap.String("direction", j.direction),
		zap.String("mode", string(j.mode)),
		zap.String("vars.name", x.rt.name),
		zap.String("vars.reference", oneLine(x.rt.reference, maxField)),
		zap.String("diffid.reason", string(f.Reason)),
	}
	if f.Layer >= 0 {
		fields = append(fields, zap.Int("diffid.layer", f.Layer))
	}
	if len(f.Runtimes) > 0 {
		fields = append(fields, zap.Any("diffid.runtimes", f.Runtimes))
	}
	for _, d := range []struct{ key, value string }{
		{"diffid.manifest", f.Manifest.String()},
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
	for i, m := range messages {
		line := warning(m)
		more := warning(fmt.Sprintf("and %d more", len(messages)-i))
		if total += len("Warning: \r\n") + len(line); total+len("Warning: \r\n")+len(more) > maxWarnings {
			h.Add("Warning", more)
			return
		}
		h.Add("Warning", line)
	}
}

// warning returns the value of a Warning header.
func warning(message string) string {
	return `299 - "` + strings.NewReplacer(`"`, "'", `\`, "/", "%", " ").Replace(oneLine(message, maxWarnings)) + `"`
}
