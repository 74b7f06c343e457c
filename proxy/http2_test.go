package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sendHTTP2 sends a request over HTTP/2 and reads the whole answer.
func sendHTTP2(t *testing.T, front *httptest.Server, req *http.Request) answer {
	t.Helper()
	res, err := front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%s %s: got %s, %v", req.Method, req.URL, res.Proto, err)
	}
	return answer{res.StatusCode, res.Header, body}
}

// What is refused and what passes does not depend on the version of HTTP that
// the client speaks.
func TestRequestsOverHTTP2(t *testing.T) {
	t.Parallel()
	const (
		session = "/v2/a/blobs/uploads/u"
		digest  = "digest=" + objectDigest
	)
	tests := []struct {
		name           string
		method, target string
		header         []string
		body           string
		want           string // what the upstream sees, or the refusal
	}{
		{"a read", "GET", "/v2/a/tags/list?n=5", nil, "", "GET /v2/a/tags/list?n=5 len=0"},
		{"a part of an upload", "PATCH", session, nil, "abc", "PATCH " + session + " len=3"},
		{"a session's state", "PATCH", session + "?_state=Zm9v_-bar==&b", nil, "", "PATCH " + session + "?_state=Zm9v_-bar==&b len=0"},
		{"two digests", "PUT", session + "?" + digest + "&digest=sha256:0", nil, "", "400 UNSUPPORTED"},
		{"two digests, one escaped", "PUT", session + "?" + digest + "&%64igest=sha256:0", nil, "", "400 UNSUPPORTED"},
		{"a semicolon in a write", "PUT", session + "?a=b;c=d", nil, "", "400 UNSUPPORTED"},
		{"a semicolon in a read", "GET", "/v2/_catalog?a=b;c=d", nil, "", "GET /v2/_catalog?a=b;c=d len=0"},
		{"two Content-Ranges", "PATCH", session, []string{"Content-Range", "0-1", "Content-Range", "2-3"}, "", "400 UNSUPPORTED"},
		{"two Authorizations", "GET", "/v2/", []string{"Authorization", "Basic eA==", "Authorization", "Basic eQ=="}, "", "400 UNSUPPORTED"},
		{"a form in the body", "PUT", session + "?" + digest, []string{"Content-Type", "application/x-www-form-urlencoded"}, "digest=x", "415 UNSUPPORTED"},
		{"a read with a body", "GET", "/v2/", nil, "abc", "400 UNSUPPORTED"},
		{"a deletion with a body", "DELETE", "/v2/a/manifests/t", nil, "abc", "400 UNSUPPORTED"},
		{"a method that nobody knows", "BREW", "/v2/", nil, "", "405 UNSUPPORTED"},
		{"a write with an escaped slash", "PUT", "/v2/a%2Fb/manifests/t", nil, "", "400 NAME_INVALID"},
		{"a write to what is no path of a registry", "PUT", "/v2/a/else", nil, "", "405 UNSUPPORTED"},
	}
	log, upstream := newEcho(t)
	front := newHTTP2(t, newProxy(t, upstream, nil).Proxy)
	for _, tt := range tests {
		a := sendHTTP2(t, front, newRequest(t, tt.method, front.URL+tt.target, strings.NewReader(tt.body), tt.header...))
		got := log.take()
		if a.Status != http.StatusOK {
			got = append(got, fmt.Sprintf("%d %s", a.Status, a.codes()))
		}
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// Headers of one hop end here in both directions, and names that servers read
// in two ways are dropped.
func TestHopsOverHTTP2(t *testing.T) {
	t.Parallel()
	var got string
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = describe(r.Header)
		h := w.Header()
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Keep-Alive", "5")
		h.Set("X-End", "1")
	}))
	front := newHTTP2(t, newProxy(t, upstream.URL, nil).Proxy)
	a := sendHTTP2(t, front, newRequest(t, http.MethodPatch, front.URL+"/v2/a/blobs/uploads/u", http.NoBody,
		"Te", "trailers", "Proxy-Authorization", "x", "Content_Range", "5-6", "User-Agent", "test", "Accept-Encoding", "br"))
	if diff := cmp.Diff("Accept-Encoding: br; Te: trailers; User-Agent: test", got); diff != "" {
		t.Errorf("the upstream got (-want +got)\n%s", diff)
	}
	a.Header.Del("Date")
	if diff := cmp.Diff(http.Header{"X-End": {"1"}, "Content-Length": {"0"}}, a.Header); diff != "" {
		t.Errorf("the client got (-want +got)\n%s", diff)
	}
}

// An upstream that refuses a large upload before it has come is heard at once,
// and the next request is served.
func TestEarlyAnswerOverHTTP2(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	front := newHTTP2(t, newProxy(t, newUpstream(t, http.HandlerFunc(unauthorized)).URL, nil).Proxy)
	for _, length := range []int64{size, -1} {
		body := new(zeros)
		req := newRequest(t, http.MethodPut, front.URL+"/v2/a/blobs/uploads/u?digest="+objectDigest, io.LimitReader(body, size))
		req.ContentLength = length
		a := sendHTTP2(t, front, req)
		if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("length %d: got %d %v, want 401 with a challenge", length, a.Status, a.Header)
		}
		if n := body.read.Load(); n > size/8 {
			t.Errorf("length %d: the client had to send %d bytes of %d", length, n, size)
		}
	}
}
