package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// gate judges a manifest and forwards the very bytes that it judged.
func gate(x *exchange) error {
	body, release, err := x.readManifest()
	if err != nil {
		return err
	}
	defer release()
	x.bodyCopy = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	x.r.Body = io.NopCloser(bytes.NewReader(body))
	x.r.ContentLength = int64(len(body))
	if x.p.cfg.Mode == Off {
		return x.forward(nil)
	}
	m := manifest{digest: digest.FromBytes(body), contentType: x.r.Header.Get("Content-Type"), body: body}
	report, err := x.judgePush(m)
	warnings, err := judging{x, m, x.p.cfg.Mode, "push", x.refusePush}.decide(report, err)
	if err != nil {
		return err
	}
	return x.forward(func(res *http.Response) error {
		switch res.StatusCode {
		case http.StatusCreated:
			if err := x.lateLayers(m, report); err != nil {
				return err
			}
			setWarnings(res.Header, warnings)
			x.remember(m, report)
		case http.StatusBadRequest, http.StatusNotFound:
			return x.missing(m)
		}
		return nil
	})
}

// judgePush judges a manifest that is being pushed. What is told about a false
// one is what the client may know.
func (x *exchange) judgePush(m manifest) (verify.Report, error) {
	if known, ok := x.known(m); ok && len(known.Findings) == 0 {
		return known, nil
	}
	ctx := x.r.Context()
	repo := pushed{x.repository()}
	report, err := verify.Check(ctx, repo, m.contentType, m.body)
	if err == nil && len(x.p.cfg.Policy.Rejections(report.Findings)) > 0 {
		report, err = verify.Check(ctx, readable{repo}, m.contentType, m.body)
	}
	return report, x.challengePush(err)
}

// missing words the upstream's refusal of a manifest that names blobs which
// the repository lacks. Were it worded otherwise than ours, a manifest with
// guesses in it would tell whether they are right.
func (x *exchange) missing(m manifest) error {
	if x.p.cfg.Mode != Enforce {
		return nil
	}
	report, err := verify.Check(x.r.Context(), readable{pushed{x.repository()}}, m.contentType, m.body)
	if err != nil || len(x.p.cfg.Policy.Rejections(report.Findings)) == 0 {
		return err
	}
	return x.refusePush(m, report)
}

// challengePush returns, in place of the upstream's challenge to a read of
// ours, its challenge to the push itself. The one that our read met asks for
// the right to pull, and a client that got a token for that would be refused
// again. To begin an upload takes the right that the push does, and leaves
// nothing behind.
func (x *exchange) challengePush(met error) error {
	var up *upstreamError
	if !errors.As(met, &up) || up.status != http.StatusUnauthorized {
		return met
	}
	ctx, upstream := x.r.Context(), x.p.upstream
	res, err := upstream.do(ctx, x.caller(), http.MethodPost, "/v2/"+x.rt.name+"/blobs/uploads/", "")
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
		return answerError(res)
	}
	drain(res)
	// The registry forgets an upload that is not ended by itself, only later.
	session, err := res.Location()
	if err != nil {
		return met
	}
	if session = upstream.prefix.off(session); strings.HasPrefix(session.Path, "/v2/"+x.rt.name+"/blobs/uploads/") {
		if res, err := upstream.do(ctx, x.caller(), http.MethodDelete, session.Path, session.RawQuery); err == nil {
			drain(res)
		}
	}
	return met
}
