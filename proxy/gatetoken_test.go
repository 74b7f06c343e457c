package proxy_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify/verifytest"
)

// The gate reads with the Authorization of who pushes, and nothing else of the
// request's credentials.
func TestTheGateReadsInTheNameOfThePusher(t *testing.T) {
	t.Parallel()
	type read struct{ path, authorization, cookie string }
	var (
		mu    sync.Mutex
		reads []read
	)
	registry := newRegistryHandler(t, nil)
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			mu.Lock()
			reads = append(reads, read{r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Cookie") + r.Header.Get("Proxy-Authorization")})
			mu.Unlock()
		}
		registry.ServeHTTP(w, r)
	}))
	p := newProxy(t, upstream.URL, nil)
	for _, token := range []string{"Bearer one", "Bearer two"} {
		img := verifytest.NewImage(verifytest.GzipLayer(verifytest.Tar("token", token)))
		pushBlobs(t, upstream.URL, "app", img)
		mediaType, body := img.Manifest()
		got := do(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", body, "Content-Type", mediaType,
			"Authorization", token, "Cookie", "session=1", "Proxy-Authorization", "Basic YTpi")
		if got.Status != http.StatusCreated {
			t.Fatalf("got %d %s, want 201", got.Status, got.Body)
		}
		mu.Lock()
		want := []read{
			{"/v2/app/blobs/" + img.ConfigDigest().String(), token, ""},
			{"/v2/app/blobs/" + img.Layers[0].Digest().String(), token, ""},
		}
		if diff := cmp.Diff(want, reads, cmp.AllowUnexported(read{})); diff != "" {
			t.Errorf("%s: reads of the gate (-want +got):\n%s", token, diff)
		}
		reads = nil
		mu.Unlock()
	}
}

// A client that comes without a token gets the challenge to its push. With a
// token for what the gate's own read was challenged to, it would be refused
// for ever.
func TestChallengeIsThatOfThePush(t *testing.T) {
	t.Parallel()
	const (
		toPull = `Bearer realm="https://auth.test/token",service="registry",scope="repository:app:pull"`
		toPush = `Bearer realm="https://auth.test/token",service="registry",scope="repository:app:pull,push"`
	)
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	challenge := func(w http.ResponseWriter, with string) bool {
		w.Header().Set("WWW-Authenticate", with)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	mediaType, body := img.Manifest()
	put := func(token string) answer {
		return do(t, http.MethodPut, p.URL+"/v2/app/manifests/1.4", body, "Content-Type", mediaType, "Authorization", token)
	}
	isRead := func(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool { return isRead(r) && challenge(w, toPull) })
	if got := put(""); got.Status != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") != toPull {
		t.Errorf("of a registry where all may push: got %d, challenge %q; want 401, %q", got.Status, got.Header.Get("WWW-Authenticate"), toPull)
	}
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		switch token := r.Header.Get("Authorization"); {
		case token == "Bearer pull,push", token == "Bearer pull" && r.Method == http.MethodGet:
			return false
		case !isRead(r):
			return challenge(w, toPush)
		}
		return challenge(w, toPull)
	})
	for _, token := range []string{"", "Bearer expired", "Bearer pull"} {
		if got := put(token); got.Status != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") != toPush {
			t.Errorf("with %q: got %d, challenge %q; want 401, %q", token, got.Status, got.Header.Get("WWW-Authenticate"), toPush)
		}
	}
	if got := put("Bearer pull,push"); got.Status != http.StatusCreated {
		t.Errorf("with the token of the challenge: got %d %s, want 201", got.Status, got.Body)
	}
}
