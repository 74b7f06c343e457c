package proxy

import (
	"bytes"
	"io"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// pullGate judges images that are read, if Config.Pulls says so: those that
// were pushed round the proxy, or before it existed. An image index passes; its
// children are judged when they are read.
//
// A HEAD is answered as a GET would be: docker, for one, makes no other request
// for a manifest that it has.
func pullGate(x *exchange) error {
	if x.p.cfg.Pulls == Off || x.r.Method == http.MethodOptions {
		return x.forward(nil)
	}
	// What is judged must be the manifest, and all of it.
	x.r.Header.Set("Accept-Encoding", "identity")
	x.r.Header.Del("Range")
	return x.forward(func(res *http.Response) error {
		if res.StatusCode != http.StatusOK || verify.KindOf(res.Header.Get("Content-Type")) == verify.IndexKind {
			return nil
		}
		if x.r.Method == http.MethodHead {
			return x.judgeHead(res)
		}
		return x.judgePull(res)
	})
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
	warnings, err := judging{x, m, x.p.cfg.Pulls, "pull", x.refusePull}.decide(report, err)
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
	if err == nil && !judgedByItself(m) {
		res.Body = putBack{io.MultiReader(bytes.NewReader(body), res.Body), res.Body}
		return nil
	}
	var report verify.Report
	if err == nil {
		report, err = x.judgeStored(m)
	}
	warnings, refused := judging{x, m, x.p.cfg.Pulls, "pull", x.refusePull}.decide(report, err)
	if refused != nil {
		return refused
	}
	setWarnings(res.Header, warnings)
	res.Body = putBack{io.MultiReader(bytes.NewReader(body), res.Body), res.Body}
	return nil
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
