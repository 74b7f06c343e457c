package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
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
