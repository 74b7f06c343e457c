package proxy_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"diffgate/proxy"
	"diffgate/verify/verifytest"
)

// Whatever goes wrong, nothing of a credential gets into the log, into a metric
// or into an error: not of a client's, not of a URL that the upstream signed.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const secret = "c4n4ry"
	img := verifytest.Honest(2)
	redirect := func(location string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				return false
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
	}
	for is, upstream := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"all is well":                   nil,
		"it redirects to a closed port": redirect("http://127.0.0.1:1/x?X-Amz-Signature=" + secret),
		"it redirects with a password":  redirect("http://" + secret + ":" + secret + "@127.0.0.1:1/x"),
		"it redirects to a file":        redirect("file:///x?X-Amz-Signature=" + secret),
		"it redirects to nonsense":      redirect("http://[::1/x?X-Amz-Signature=" + secret),
		"it starts uploads at nonsense": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "http://[::1/x?_state="+secret)
			w.WriteHeader(http.StatusAccepted)
			return true
		},
		"it starts uploads elsewhere": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "http://storage.test/x?_state="+secret)
			w.WriteHeader(http.StatusAccepted)
			return true
		},
		"it wants another token": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"it fails": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, r.Header)
			return true
		},
		"it cuts the connection": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(is, func(t *testing.T) {
			t.Parallel()
			var file logFile
			d, reg := newDetour(t)
			p := newProxy(t, reg.URL, func(c *proxy.Config) {
				logTo(&file)(c)
				c.Upstream.User = url.UserPassword("user", secret)
			})
			pushBlobs(t, reg.URL, "app", img)
			d.answerWith(upstream)
			header := []string{
				"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret)),
				"Cookie", "session=" + secret, "X-Registry-Auth", secret,
			}
			var answers []answer
			ask := func(method, path string, body []byte, more ...string) {
				answers = append(answers, do(t, method, p.URL+path, body, append(more, header...)...))
			}
			for _, img := range []verifytest.Image{img, verifytest.WrongDigit(img)} {
				mediaType, body := img.Manifest()
				ask(http.MethodPut, "/v2/app/manifests/1.4?token="+secret, body, "Content-Type", mediaType)
				ask(http.MethodPut, "/v2/app/manifests/1.4?token="+secret, nil, "Content-Type", mediaType)
			}
			dgst := img.Layers[0].Digest().String()
			ask(http.MethodPost, "/v2/app/blobs/uploads/?_state="+secret, nil)
			ask(http.MethodPut, "/v2/app/blobs/uploads/1?digest=sha256:"+secret+"&digest="+secret, []byte("x"))
			ask(http.MethodGet, "/v2/_diffids?token="+secret, nil)
			ask(http.MethodGet, "/v2/app/_diffids/blobs/"+dgst+"?fetch=true&token="+secret, nil)
			ask(http.MethodGet, "/v2/app/_diffids/manifests/1.4?token="+secret, nil)
			ask(http.MethodGet, "/v2/_oci/ext/discover?token="+secret, nil)
			p.facts(t)
			encoded := strings.TrimRight(header[1][len("Basic "):], "=")
			leaks := func(s string) bool { return strings.Contains(s, secret) || strings.Contains(s, encoded) }
			lines, _ := file.lines(t)
			if len(lines) < len(answers) {
				t.Errorf("got %d lines of the log, want one for each of %d requests", len(lines), len(answers))
			}
			for _, line := range lines {
				if leaks(line) {
					t.Errorf("the log has the line %s", line)
				}
			}
			values, _ := labelValues(p.gather(t))
			if text := strings.Join(values, " "); leaks(text) {
				t.Errorf("the metrics have the labels %s", text)
			}
			for _, a := range answers {
				if errs := string(a.Body); strings.Contains(errs, `"errors"`) && leaks(errs) {
					t.Errorf("an answer says %d %s", a.Status, errs)
				}
			}
		})
	}
}
