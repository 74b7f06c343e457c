package proxy

import (
	"bytes"
	"io"
	"net/http"
	"slices"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"diffgate/verify"
)

// pullGate judges images that are read, if Config.Pulls says so: those that
// were pushed round the proxy, or before it existed. An image index passes; its
// children are judged when they are read.
//
// A HEAD is answered as a GET would be: docker, for one, makes no other request
// for a manifest that it has.
//
// What was pushed as a blob, and is read as a manifest, is judged whatever Config.Pulls
// says: registry:2 serves any blob as a manifest by its digest, so it would be a way
// round the gate.
func pullGate(x *exchange) error {
	x.pulls = x.p.cfg.Pulls
	if x.pulls == Off && x.isKnownBlob() {
		x.pulls = x.p.cfg.Mode
	}
	if x.pulls == Off || x.r.Method == http.MethodOptions {
		return x.forward(nil)
	}
	// What is judged must be the manifest, and all of it.
	x.r.Header.Set("Accept-Encoding", "identity")
	x.r.Header.Del("Range")
	return x.forward(func(res *http.Response) error {
		isIndex := verify.KindOf(res.Header.Get("Content-Type")) == verify.IndexKind
		switch {
		case isRedirect(res.StatusCode) && x.pulls == Enforce: // it was not followed, see followManifest
			return errRefused(http.StatusForbidden, errcode.ErrorCodeDenied, "the registry redirects to this manifest, and Diffgate could not follow to judge it (verify.pulls)")
		case res.StatusCode != http.StatusOK, isIndex && x.r.Method == http.MethodHead:
			return nil
		case x.r.Method == http.MethodHead:
			return x.judgeHead(res)
		}
		return x.judgePull(res)
	})
}

// followManifest puts the manifest that the registry redirects to in place of the
// redirect, if manifests that are read are judged: otherwise a client would read it
// unjudged. If it cannot be followed the answer stays as it is.
func (x *exchange) followManifest(res *http.Response) {
	if x.rt.kind != v2.RouteNameManifest || x.pulls == "" || x.pulls == Off || !isRead(x.r.Method) || !isRedirect(res.StatusCode) {
		return
	}
	redirect := *res
	err := x.followInto(res, http.Header{}) // conditions were for the registry
	if err != nil {
		*res = redirect
		res.Body, res.ContentLength = http.NoBody, 0
		x.p.cfg.Log.Warn("redirect of a manifest is not followed", zap.String("vars.name", x.rt.name), zap.Error(err))
	}
}

// isKnownBlob reports whether the reference is the digest of a blob that was hashed here,
// or is being hashed, and that may be a manifest.
func (x *exchange) isKnownBlob() bool {
	const least = len("sha256:") + 64 // a manifest names a digest
	dgst, err := digest.Parse(x.rt.reference)
	if err != nil {
		return false
	}
	f, ok := x.p.ledger.learned(x.r.Context(), dgst)
	return ok && f.Encoding == verify.Identity && f.Size > int64(least) && f.Size <= x.p.cfg.MaxManifest
}

// judgeHead judges a manifest that only its digest is told of.
func (x *exchange) judgeHead(res *http.Response) error {
	m := manifest{digest: digest.Digest(res.Header.Get("Docker-Content-Digest")), contentType: res.Header.Get("Content-Type")}
	report, known := x.known(m)
	var err error
	if !known {
		m, err = x.repository().manifest(x.r.Context(), x.rt.reference)
		if err == nil && !judgedByItself(m) {
			return nil
		}
		if err == nil {
			report, err = x.judgeStored(m)
		}
	}
	warnings, err := judging{x, m, x.pulls, "pull", x.refusePull}.decide(report, err)
	setWarnings(res.Header, warnings)
	return err
}

// judgePull reads the manifest of an answer and puts it back, or returns the
// error that is to be answered instead.
func (x *exchange) judgePull(res *http.Response) error {
	ctx := x.r.Context()
	size := res.ContentLength
	if size < 0 || size > x.p.cfg.MaxManifest {
		size = x.p.cfg.MaxManifest
	}
	if err := x.p.manifests.Acquire(ctx, size); err != nil {
		return err
	}
	defer func() { x.p.manifests.Release(size) }()
	body, err := x.p.readManifestBody(res.Body)
	if rest := size - int64(len(body)); rest > 0 { // layers may have to be fetched now
		x.p.manifests.Release(rest)
		size -= rest
	}
	m := manifest{digest: digest.FromBytes(body), contentType: typeOf(res, body), body: body}
	if want, bad := digest.Parse(x.rt.reference); err == nil && bad == nil {
		err = checkManifest(x.rt.name, want, body)
	}
	var report verify.Report
	judged := true
	if err == nil {
		report, judged, err = x.judgeServed(m)
	}
	if err == nil && !judged {
		res.Body = putBack{io.MultiReader(bytes.NewReader(body), res.Body), res.Body}
		return nil
	}
	warnings, refused := judging{x, m, x.pulls, "pull", x.refusePull}.decide(report, err)
	if refused != nil {
		return refused
	}
	setWarnings(res.Header, warnings)
	res.Body = putBack{io.MultiReader(bytes.NewReader(body), res.Body), res.Body}
	return nil
}

// judgeServed judges a manifest that a client reads. Of an image index only the
// manifests in its descriptors are judged: the others are judged when they are read.
// It returns false when there is nothing to judge.
func (x *exchange) judgeServed(m manifest) (report verify.Report, judged bool, err error) {
	if verify.KindOf(m.contentType) == verify.IndexKind {
		report, err = verify.CheckInline(x.r.Context(), stored{repository: x.repository(), fetch: true}, m.contentType, m.body)
		return report, err != nil || len(report.Children) > 0, err
	}
	if !judgedByItself(m) {
		return report, false, nil
	}
	report, err = x.judgeStored(m)
	return report, true, err
}

// judgeStored judges a manifest that the registry holds, or tells what was found
// before.
func (x *exchange) judgeStored(m manifest) (verify.Report, error) {
	if known, ok := x.known(m); ok {
		return known, nil
	}
	report, err := verify.Check(x.r.Context(), stored{repository: x.repository(), fetch: true}, m.contentType, m.body)
	if err == nil {
		x.remember(m, report)
	}
	// What is gone the client will find out, and cannot mend.
	report.Findings = slices.DeleteFunc(report.Findings, func(f verify.Finding) bool { return f.Reason == verify.ReasonBlobUnknown })
	return report, err
}

// judgedByItself reports whether a manifest that is read is to be judged. In one
// of an unknown type nobody reads an image, and of an image index each child is
// judged when it is read.
func judgedByItself(m manifest) bool {
	kind := verify.KindOf(m.contentType)
	return kind != verify.UnknownKind && kind != verify.IndexKind
}

// typeOf returns the media type of a manifest that was served.
func typeOf(res *http.Response, body []byte) string {
	return verify.MediaTypeOf(res.Header.Get("Content-Type"), body)
}

// putBack is a body of which the begin was read.
type putBack struct {
	io.Reader
	io.Closer
}
