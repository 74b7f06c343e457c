package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"diffgate/verify"
)

// manifestDeadline is how long a client may take to send a manifest.
const manifestDeadline = time.Minute

// gate judges a manifest and forwards the very bytes that it judged.
func gate(x *exchange) error {
	body, release, err := x.readManifest()
	if err != nil {
		return err
	}
	defer release()
	x.r.Body = io.NopCloser(bytes.NewReader(body))
	x.r.ContentLength = int64(len(body))
	if x.p.cfg.Mode == Off {
		return x.forward(nil)
	}
	judged, err := x.judge(body)
	if err != nil {
		return err
	}
	return x.forward(func(res *http.Response) error {
		switch res.StatusCode {
		case http.StatusCreated:
			setWarnings(res.Header, judged)
		case http.StatusBadRequest, http.StatusNotFound:
			return x.missing(body)
		}
		return nil
	})
}

// judge returns the warnings that go with an accepted manifest, or the error
// that refuses it.
func (x *exchange) judge(body []byte) (warnings []string, err error) {
	contentType := x.r.Header.Get("Content-Type")
	report, err := verify.Check(x.r.Context(), pushed{x.repository()}, contentType, body)
	if err == nil && len(x.p.cfg.Policy.Rejections(report.Findings)) > 0 {
		report, err = verify.Check(x.r.Context(), readable{pushed{x.repository()}}, contentType, body)
	}
	var up *upstreamError
	if errors.As(err, &up) && up.status == http.StatusUnauthorized {
		err = x.challenge(up)
	}
	audit := x.p.cfg.Mode == Audit
	if err != nil {
		x.decided("error", nil, nil)
		if audit { // could not find out; an auditor is told, a client is not held up
			x.p.cfg.Log.Warn("manifest could not be judged", zap.String("vars.name", x.rt.name),
				zap.String("vars.reference", oneLine(x.rt.reference, maxField)), zap.Error(err))
			return nil, nil
		}
		return nil, err
	}
	bad := x.p.cfg.Policy.Rejections(report.Findings)
	warn := x.p.cfg.Policy.Warnings(report.Findings)
	x.decided(report.Verdict, bad, warn)
	for _, f := range warn {
		warnings = append(warnings, f.Message)
	}
	if len(bad) == 0 {
		return warnings, nil
	}
	if audit {
		var told []string
		for _, f := range bad {
			told = append(told, f.Message+" (audit mode)")
		}
		return append(told, warnings...), nil
	}
	return nil, x.refuse(body, report)
}

// missing words the upstream's refusal of a manifest that names blobs which
// the repository lacks. Were it worded otherwise than ours, a manifest with
// guesses in it would tell whether they are right.
func (x *exchange) missing(body []byte) error {
	if x.p.cfg.Mode != Enforce {
		return nil
	}
	report, err := verify.Check(x.r.Context(), readable{pushed{x.repository()}}, x.r.Header.Get("Content-Type"), body)
	if err != nil || len(x.p.cfg.Policy.Rejections(report.Findings)) == 0 {
		return err
	}
	return x.refuse(body, report)
}

// challenge returns the upstream's challenge to the push itself. The one that
// our read met asks for the right to pull, and a client that got a token for
// that would be refused again. A manifest of no bytes is never stored.
func (x *exchange) challenge(met *upstreamError) error {
	res, err := x.p.upstream.do(x.r.Context(), x.caller(), http.MethodPut, x.rt.path, "")
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
		return answerError(res)
	}
	drain(res)
	return met
}

// readManifest reads the body whole, or refuses it: what was not read is never
// forwarded. release must be called when the bytes are not needed any more.
func (x *exchange) readManifest() (body []byte, release func(), err error) {
	most := x.p.cfg.MaxManifest
	tooLarge := errRefused(http.StatusRequestEntityTooLarge, errcode.ErrorCodeManifestInvalid,
		"the manifest is larger than %d bytes (limits.manifest)", most)
	if x.r.ContentLength > most {
		return nil, nil, tooLarge
	}
	if enc := x.r.Header.Get("Content-Encoding"); enc != "" {
		return nil, nil, errRefused(http.StatusUnsupportedMediaType, errcode.ErrorCodeManifestInvalid,
			"a manifest with Content-Encoding %s cannot be judged; send it plain", printable(enc))
	}
	size := x.r.ContentLength
	if size < 0 {
		size = most
	}
	if err := x.p.manifests.Acquire(x.r.Context(), size); err != nil {
		return nil, nil, err
	}
	release = func() { x.p.manifests.Release(size) }
	rc := http.NewResponseController(x.w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(manifestDeadline)) // a ResponseWriter without deadlines has no slow client
	body, err = io.ReadAll(io.LimitReader(x.r.Body, most+1))
	switch {
	case err != nil:
		err = errRefused(http.StatusBadRequest, errcode.ErrorCodeManifestInvalid, "the manifest was cut on the way")
	case int64(len(body)) > most:
		err = tooLarge
	default:
		_ = rc.SetReadDeadline(time.Time{}) // as above
		x.bodyRead = true
		err = x.checkReference(body)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// checkReference makes sure that a manifest pushed by digest is that manifest.
// A reference that is no digest the upstream may know better.
func (x *exchange) checkReference(body []byte) error {
	want, err := digest.Parse(x.rt.reference)
	if err != nil || want.Algorithm().FromBytes(body) == want {
		return nil
	}
	return errRefused(http.StatusBadRequest, errcode.ErrorCodeDigestInvalid,
		"the manifest has the digest %s, not %s", want.Algorithm().FromBytes(body), want)
}

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
	log(what,
		zap.String("mode", string(x.p.cfg.Mode)),
		zap.String("vars.name", x.rt.name),
		zap.String("vars.reference", oneLine(x.rt.reference, maxField)),
		zap.String("diffid.reason", string(f.Reason)),
		zap.String("diffid.cause", string(f.Cause)),
		zap.Int("diffid.layer", f.Layer),
		zap.Stringer("diffid.expected", f.Claimed),
		zap.Stringer("diffid.actual", f.Actual),
		zap.String("message", f.Message))
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

// A repository reads blobs of one repository in a client's name.
type repository struct {
	p      *Proxy
	caller caller
	name   string
}

func (x *exchange) repository() repository { return repository{x.p, x.caller(), x.rt.name} }

// Config implements verify.Blobs.
func (r repository) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	data, err := r.p.upstream.config(ctx, r.caller, r.name, desc)
	if errors.Is(err, errTooLarge) {
		return nil, &verify.ClaimError{Reason: verify.ReasonConfigInvalid,
			Message: fmt.Sprintf("the config is larger than %d bytes (limits.config)", r.p.cfg.MaxConfig)}
	}
	return data, err
}

// held returns nil unless the registry neither holds a layer nor will look for
// it: one that may come from elsewhere it takes on trust. What is known of its
// digest may then be the secret of another repository.
func (r repository) held(ctx context.Context, desc ocispec.Descriptor) error {
	if len(desc.URLs) == 0 && !strings.Contains(desc.MediaType, ".foreign.") && !strings.Contains(desc.MediaType, ".nondistributable.") {
		return nil
	}
	return r.p.upstream.has(ctx, r.caller, r.name, desc.Digest)
}

// pushed is the repository that a manifest is being pushed to: what passed a
// moment ago need not be fetched, and what is unknown is hashed. It may tell
// of blobs that the caller cannot read.
type pushed struct{ repository }

// Config implements verify.Blobs.
func (r pushed) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if data := r.p.small.get(desc.Digest); data != nil {
		return data, nil
	}
	data, err := r.repository.Config(ctx, desc)
	if err == nil && len(data) <= smallBlobMax && desc.Digest.Algorithm() == digest.SHA256 {
		r.p.small.add(desc.Digest, data)
	}
	return data, err
}

// Fact implements verify.Blobs.
func (r pushed) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.held(ctx, desc); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}

func (r pushed) fact(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	return r.p.ledger.fact(ctx, dgst, func(ctx context.Context) (verify.Fact, error) {
		return r.p.upstream.hash(ctx, r.caller, r.name, dgst)
	})
}

// readable is a pushed that tells of nothing which the caller cannot read. A
// refusal is worded by it: otherwise a manifest with guesses in it would make
// the DiffID index an oracle for blobs of other repositories.
type readable struct{ pushed }

// Config implements verify.Blobs.
func (r readable) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return nil, err
	}
	return r.pushed.Config(ctx, desc)
}

// Fact implements verify.Blobs.
func (r readable) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if err := r.p.upstream.has(ctx, r.caller, r.name, desc.Digest); err != nil {
		return verify.Fact{}, err
	}
	return r.fact(ctx, desc.Digest)
}
