package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"diffgate/verify"
)

// A httpError is an answer that is not the one the client hoped for. It is the
// only kind of error that a client sees the text of.
type httpError struct {
	status int
	errs   errcode.Errors
	header http.Header // besides Content-Type; may be nil
	raw    []byte      // sent instead of errs: an answer of the upstream
	cause  error       // for the log
}

func (e *httpError) Error() string {
	switch {
	case e.cause != nil:
		return e.cause.Error()
	case len(e.errs) > 0:
		return e.errs[0].Error()
	}
	return http.StatusText(e.status)
}

func (e *httpError) Unwrap() error { return e.cause }

// errRefused is an answer with one OCI error.
func errRefused(status int, code errcode.ErrorCode, format string, args ...any) *httpError {
	return &httpError{status: status, errs: errcode.Errors{code.WithMessage(fmt.Sprintf(format, args...))}}
}

func errBadRequest(format string, args ...any) *httpError {
	return errRefused(http.StatusBadRequest, errcode.ErrorCodeUnsupported, format, args...)
}

// errUnavailable is the answer when something could not be found out. The
// cause goes to the log alone.
func errUnavailable(status int, message string, cause error) *httpError {
	e := errRefused(status, errcode.ErrorCodeUnavailable, "%s", message)
	e.cause = cause
	e.header = http.Header{"Retry-After": {"5"}}
	return e
}

// errBody is the answer to a request whose body ended too early, or was framed
// wrongly.
func errBody(cause error) *httpError {
	e := errRefused(http.StatusBadRequest, errcode.ErrorCodeBlobUploadInvalid, "the body was cut on the way")
	if isTimeout(cause) {
		e.status = http.StatusRequestTimeout
	}
	e.cause = cause
	return e
}

// An upstreamError is an answer of the upstream to a request of our own that
// is for the client to see: it lacks a right, or asked too often.
type upstreamError struct {
	status int
	header http.Header
	body   []byte
}

func (e *upstreamError) Error() string {
	return fmt.Sprintf("the upstream answered %d %s", e.status, http.StatusText(e.status))
}

// Is makes the lack of a right known to package verify.
func (e *upstreamError) Is(target error) bool {
	return target == verify.ErrForbidden && (e.status == http.StatusUnauthorized || e.status == http.StatusForbidden)
}

// An answeredError is an answer of the upstream to a request of our own that says
// nothing to the client.
type answeredError struct{ status int }

func (e *answeredError) Error() string {
	return fmt.Sprintf("the upstream answered %d %s", e.status, http.StatusText(e.status))
}

// passing reports whether the answer is about the state of the upstream, or of what
// stands in front of it, and not about what was asked for.
func (e *answeredError) passing() bool { return e.status > http.StatusInternalServerError }

// relayed are the headers of an upstreamError that reach the client.
var relayed = []string{"WWW-Authenticate", "Retry-After", "Content-Type"}

// relayedCodes are the errors for an upstreamError without a body.
var relayedCodes = map[int]errcode.ErrorCode{
	http.StatusUnauthorized:    errcode.ErrorCodeUnauthorized,
	http.StatusForbidden:       errcode.ErrorCodeDenied,
	http.StatusTooManyRequests: errcode.ErrorCodeTooManyRequests,
}

// toHTTP makes any error an answer.
func toHTTP(err error) *httpError {
	var (
		answer   *httpError
		up       *upstreamError
		wrong    *wrongBlobError
		answered *answeredError
	)
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &up):
		h := http.Header{}
		for _, k := range relayed {
			if v := up.header.Values(k); len(v) > 0 {
				h[http.CanonicalHeaderKey(k)] = v
			}
		}
		answer := &httpError{status: up.status, header: h, raw: up.body, cause: err}
		if len(up.body) == 0 { // the answer to a HEAD
			answer.raw, answer.errs = nil, errcode.Errors{relayedCodes[up.status]}
		}
		return answer
	case errors.As(err, &wrong):
		return errUnavailable(http.StatusBadGateway, "the registry holds wrong bytes under "+wrong.want.String()+"; delete the blob and push it again", err)
	case errors.Is(err, verify.ErrConflict):
		return errUnavailable(http.StatusInternalServerError, "the DiffID index holds another fact about the same bytes; its operator must look into it", err)
	case errors.Is(err, errClosed):
		return errUnavailable(http.StatusServiceUnavailable, "the proxy is shutting down; try again", err)
	case errors.Is(err, context.Canceled):
		return errUnavailable(statusClientGone, "the request was cancelled", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errStalled), isTimeout(err):
		return errUnavailable(http.StatusGatewayTimeout, "the upstream registry did not answer in time", err)
	case errors.As(err, &answered):
		return errUnavailable(http.StatusServiceUnavailable, fmt.Sprintf(
			"this could not be judged, because the registry answered %d to a question of Diffgate's; try again", answered.status), err)
	}
	return errUnavailable(http.StatusBadGateway, "the upstream registry cannot be reached", err)
}

// withoutURL returns what is wrong with a URL without the URL itself: it may be
// signed, and errors go into the log.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// statusClientGone is for the log, as nginx and distribution write it there: the
// client is not there to read it.
const statusClientGone = 499

// refusedRest is how long a client may go on sending a body that was refused.
const refusedRest = 10 * time.Second

// fail answers with an error, if nothing was answered yet.
func (x *exchange) fail(err error) {
	e := toHTTP(err)
	x.err = err
	if x.w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: the client must see that it is cut
	}
	h := x.w.Header()
	for k, v := range e.header {
		h[k] = v
	}
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	if e.status == http.StatusMethodNotAllowed {
		h.Set("Allow", x.p.table[x.rt.kind].allowed())
	}
	// The rest of a refused body is not worth reading, and what follows it on
	// the connection is not to be believed.
	if x.r.ContentLength != 0 && !x.bodyRead {
		x.hangUp()
		rc := http.NewResponseController(x.w.ResponseWriter)
		_ = rc.SetReadDeadline(time.Now().Add(refusedRest)) // a ResponseWriter without deadlines has no slow client
	}
	if e.raw == nil {
		h.Set("Content-Type", "application/json")
	}
	x.w.WriteHeader(e.status)
	if x.r.Method == http.MethodHead {
		return
	}
	if e.raw != nil {
		x.write(e.raw)
		return
	}
	x.writeJSON(e.errs)
}
