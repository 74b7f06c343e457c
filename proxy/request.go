package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// knownMethods are the methods that are forwarded.
var knownMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete}

// single are headers that decide what a request means. Servers differ in which
// of two they read.
var single = []string{"Authorization", "Content-Type", "Content-Range", "Content-Encoding", "Range"}

// harmless are the tokens of a Connection header that take away nothing that
// was judged by: every other token names a header that the next hop will not
// see. Java's client sends http2-settings with each first request; an empty
// token is nothing.
var harmless = []string{"close", "keep-alive", "upgrade", "te", "http2-settings", ""}

// checkRequest refuses requests that the upstream may read differently than we
// do: methods that tunnel, headers that appear twice or are stripped on the
// way, bodies where none belongs, queries that parsers read differently.
func checkRequest(r *http.Request) error {
	if !slices.Contains(knownMethods, r.Method) {
		return errRefused(http.StatusMethodNotAllowed, errcode.ErrorCodeUnsupported, "method %s is not supported", printable(r.Method))
	}
	if r.ProtoMajor == 1 && r.ProtoMinor > 1 {
		return errRefused(http.StatusHTTPVersionNotSupported, errcode.ErrorCodeUnsupported, "%s is not supported", printable(r.Proto))
	}
	if !strings.HasPrefix(r.URL.Path, "/") {
		return errBadRequest("the request target must be a path")
	}
	for _, h := range single {
		if len(r.Header.Values(h)) > 1 {
			return errBadRequest("the header %s appears twice", h)
		}
	}
	for _, line := range r.Header.Values("Connection") {
		for token := range strings.SplitSeq(line, ",") {
			if !slices.Contains(harmless, strings.ToLower(strings.TrimSpace(token))) {
				return errBadRequest("Connection: %s would strip a header on the way", printable(strings.TrimSpace(token)))
			}
		}
	}
	if r.ContentLength != 0 && (isRead(r.Method) || r.Method == http.MethodDelete) {
		return errBadRequest("%s with a body", r.Method)
	}
	if isRead(r.Method) {
		return nil
	}
	return checkWrite(r)
}

// decisive are the query parameters that decide what a write does.
var decisive = []string{"digest", "mount", "from"}

func checkWrite(r *http.Request) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errBadRequest("the query cannot be read: percent-encode it")
	}
	for _, k := range decisive {
		if len(q[k]) > 1 {
			return errBadRequest("the query parameter %s appears twice", k)
		}
	}
	// distribution reads digest, mount and from with FormValue, so a form in
	// the body would override the query. It does so whatever the parameters of
	// the type are.
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if r.ContentLength != 0 && (t == "application/x-www-form-urlencoded" || t == "multipart/form-data") {
		return errRefused(http.StatusUnsupportedMediaType, errcode.ErrorCodeUnsupported,
			"a body of type %s would override the query; send Content-Type: application/octet-stream", t)
	}
	return nil
}

// printable makes text that a client sent fit for a place in a message.
func printable(s string) string { return oneLine(s, 120) }

// oneLine makes text of others fit for one line of at most so many bytes.
func oneLine(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
