package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A token that expires in the middle of a push costs the client one more
// request for a token, whatever request it expires before, also when that is one
// of the gate's own.
func TestTokensExpire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is     string
		before func(*http.Request) bool // the token expires
		round  bool                     // the blobs go round the proxy
		ahead  bool                     // the client asks for a layer before
		source verify.Source
	}{
		{"the upload opens", func(r *http.Request) bool { return r.Method == http.MethodPost }, false, false, verify.Pushed},
		{"the bytes", func(r *http.Request) bool { return r.Method == http.MethodPatch }, false, false, verify.Fetched},
		{"the upload ends", func(r *http.Request) bool { return r.Method == http.MethodPut && isUpload(r) }, false, false, verify.Fetched},
		{"the manifest", func(r *http.Request) bool { return r.Method == http.MethodPut && !isUpload(r) }, false, false, verify.Pushed},
		{"the gate reads the config", func(r *http.Request) bool { return r.UserAgent() == "diffgate" }, true, false, verify.Fetched},
		{"the proxy reads ahead", func(r *http.Request) bool { return r.UserAgent() == "diffgate" }, true, true, verify.Fetched},
	} {
		s := newTokenSite(t, true)
		img := verifytest.Honest(2)
		c := &tokenClient{t: t, site: s, user: "alice", base: s.base}
		c.token = s.token("alice", "repository:app:pull,push")
		first := c.token
		if tt.round {
			c.base = s.url
			c.pushBlobs("app", img)
			c.base = s.base
			s.expireBefore(tt.before)
		} else {
			s.expireBefore(tt.before)
			c.pushBlobs("app", img)
		}
		if tt.ahead {
			want(t, http.StatusOK, c.do(http.MethodHead, "/v2/app/blobs/"+img.Layers[0].Digest().String(), nil))
		}
		mediaType, body := img.Manifest()
		want(t, http.StatusCreated, c.do(http.MethodPut, "/v2/app/manifests/1", body, "Content-Type", mediaType))
		if c.renewed != 1 || c.token == first {
			t.Errorf("the token expires before %s: the client got %d new ones, want 1", tt.is, c.renewed)
		}
		if f := s.p.fact(t, img.Layers[0].Digest()); f.Source != tt.source {
			t.Errorf("the token expires before %s: the layer is known by a %s, want a %s", tt.is, f.Source, tt.source)
		}
		s.keepsSecrets(t)
	}
}

func isUpload(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/uploads/") }

// What a token lacks, the registry says.
func TestTokensThatLackARight(t *testing.T) {
	t.Parallel()
	s := newTokenSite(t, true)
	img := verifytest.Honest(1)
	mediaType, body := img.Manifest()
	(&tokenClient{t: t, site: s, user: "alice", base: s.url}).pushBlobs("app", img) // the gate must read it
	s.take()
	for _, scope := range []string{"repository:app:pull", "repository:app:push", "repository:other:pull,push"} {
		with := []string{"Authorization", "Bearer " + s.token("alice", scope), "Content-Type", mediaType}
		alone := do(t, http.MethodPut, s.url+"/v2/app/manifests/1", body, with...)
		got := do(t, http.MethodPut, s.base+"/v2/app/manifests/1", body, with...)
		asked := s.take()
		if diff := cmp.Diff(asked[len(asked)-1].challenge, got.Header.Values("WWW-Authenticate")); diff != "" {
			t.Errorf("%s: challenge (-of the registry +to the client):\n%s", scope, diff)
		}
		if got.Status != alone.Status || got.codes() != alone.codes() || scopeOf(got.Header.Get("WWW-Authenticate")) != scopeOf(alone.Header.Get("WWW-Authenticate")) {
			t.Errorf("%s: got %d %s %s, the registry alone says %d %s %s", scope, got.Status, got.Header.Get("WWW-Authenticate"), got.Body,
				alone.Status, alone.Header.Get("WWW-Authenticate"), alone.Body)
		}
	}
	s.keepsSecrets(t)
}

// Each read of the proxy's own is made with the token of the request that it is
// for, also when that is over.
func TestOwnReadsHaveTheirCallersToken(t *testing.T) {
	t.Parallel()
	s := newTokenSite(t, true)
	ask := func(method, path string, body []byte, header ...string) func(string, string, verifytest.Image) answer {
		return func(token, repo string, img verifytest.Image) answer {
			path := strings.NewReplacer("REPO", repo, "LAYER", img.Layers[0].Digest().String()).Replace(path)
			return do(t, method, s.base+path, body, append(header, "Authorization", "Bearer "+token)...)
		}
	}
	for _, tt := range []struct {
		is    string
		scope string
		do    func(token, repo string, img verifytest.Image) answer
		reads int // of its own
		learn bool
	}{
		{"a blob is found", "repository:REPO:pull", ask(http.MethodHead, "/v2/REPO/blobs/LAYER", nil), 1, true},
		{"a blob is mounted", "repository:REPO:pull,push repository:REPO/from:pull", ask(http.MethodPost, "/v2/REPO/blobs/uploads/?from=REPO/from&mount=LAYER", nil), 1, true},
		{"a manifest is pushed", "repository:REPO:pull,push", func(token, repo string, img verifytest.Image) answer {
			mediaType, body := img.Manifest()
			return ask(http.MethodPut, "/v2/REPO/manifests/2", body, "Content-Type", mediaType)(token, repo, img)
		}, 2, true},
		{"a record is asked for", "repository:REPO:pull", ask(http.MethodGet, "/v2/REPO/_diffids/blobs/LAYER?fetch=true", nil), 2, true},
		{"a report is asked for", "repository:REPO:pull", ask(http.MethodGet, "/v2/REPO/_diffids/manifests/1?fetch=true", nil), 3, true},
		{"a list is asked for", "registry:catalog:*", ask(http.MethodGet, "/v2/_diffids", nil), 1, false},
		{"extensions are asked for", "repository:REPO:pull", ask(http.MethodGet, "/v2/_oci/ext/discover", nil), 2, false},
	} {
		repo := strings.ReplaceAll(tt.is, " ", "-")
		scope := strings.ReplaceAll(tt.scope, "REPO", repo)
		img := imageOf(repo)
		c := &tokenClient{t: t, site: s, user: "alice", base: s.url}
		c.pushBlobs(repo, img)
		c.pushBlobs(repo+"/from", img)
		mediaType, body := img.Manifest()
		want(t, http.StatusCreated, c.do(http.MethodPut, "/v2/"+repo+"/manifests/1", body, "Content-Type", mediaType))
		s.take()
		token := s.token("alice", strings.Fields(scope)...)
		if a := tt.do(token, repo, img); a.Status/100 != 2 {
			t.Errorf("%s: got %d %s", tt.is, a.Status, a.Body)
		}
		if tt.learn {
			s.p.fact(t, img.Layers[0].Digest())
		}
		reads := 0
		for _, r := range s.take() {
			if r.authorization != "Bearer "+token {
				t.Errorf("%s: %s is asked for with %.30q", tt.is, r.path, r.authorization)
			}
			if r.agent == "diffgate" {
				reads++
			}
		}
		if reads < tt.reads {
			t.Errorf("%s: the proxy read %d times itself, want %d", tt.is, reads, tt.reads)
		}
	}
	s.keepsSecrets(t)
}

// Two who ask for the same at once are each served with their own token: who may
// not read it is told so, and does not spoil it for who may.
func TestTokensAreNotShared(t *testing.T) {
	t.Parallel()
	s := newTokenSite(t, true)
	mine, theirs := map[string]bool{}, map[string]bool{}
	var images []verifytest.Image
	for _, seed := range strings.Split("abcdefghijklmnop", "") {
		img := imageOf("shared " + seed)
		(&tokenClient{t: t, site: s, user: "alice", base: s.url}).pushBlobs("app", img)
		images = append(images, img)
	}
	s.take()
	var wg sync.WaitGroup
	for _, img := range images {
		mediaType, body := img.Manifest()
		may, mayNot := s.token("alice", "repository:app:pull,push"), s.token("alice", "repository:other:pull,push")
		mine["Bearer "+may], theirs["Bearer "+mayNot] = true, true
		for token, status := range map[string]int{may: http.StatusCreated, mayNot: http.StatusUnauthorized} {
			wg.Go(func() {
				a := do(t, http.MethodPut, s.base+"/v2/app/manifests/"+img.Digest().String(), body, "Content-Type", mediaType, "Authorization", "Bearer "+token)
				if a.Status != status {
					t.Errorf("got %d %s, want %d", a.Status, a.Body, status)
				}
			})
		}
	}
	wg.Wait()
	for _, r := range s.take() {
		if refused := len(r.challenge) > 0; refused != theirs[r.authorization] || refused == mine[r.authorization] {
			t.Errorf("%s %s with %.30q: challenge %q", r.method, r.path, r.authorization, r.challenge)
		}
	}
	s.keepsSecrets(t)
}

// A registry may ask less of a push than distribution does, which wants pull
// for it too. What the gate must read then, a client with the right to push alone
// has to have passed through the proxy; or it is asked for the right to pull.
func TestPushTokenWithoutPull(t *testing.T) {
	t.Parallel()
	for is, registry := range map[string]http.Handler{
		"distribution":            newRegistryHandler(t, nil),
		"of go-containerregistry": registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		"of CUE":                  ociserver.New(ocimem.New(), nil),
	} {
		t.Run(is, func(t *testing.T) { pushWithoutPull(t, registry) })
	}
}

func pushWithoutPull(t *testing.T, registry http.Handler) {
	s := newIssuer(t)
	s.serve(t, s.lenient(t, registry), true)
	old, img := verifytest.Honest(1), verifytest.Honest(2)
	put := func(user, reference string, img verifytest.Image, scope string) answer {
		mediaType, body := img.Manifest()
		return do(t, http.MethodPut, s.base+"/v2/app/manifests/"+reference, body, "Content-Type", mediaType,
			"Authorization", "Bearer "+s.token(user, scope))
	}
	(&tokenClient{t: t, site: s, user: "carol", base: s.base}).pushBlobs("app", old)
	s.take()
	want(t, http.StatusCreated, put("carol", "1", old, "repository:app:push"))
	if asked := s.take(); len(asked) != 1 {
		t.Errorf("the layers passed, and yet the registry is asked %v", asked)
	}
	(&tokenClient{t: t, site: s, user: "carol", base: s.url}).pushBlobs("app", img)
	for _, user := range []string{"carol", "alice"} {
		got := put(user, "1", img, "repository:app:push")
		if scope := scopeOf(got.Header.Get("WWW-Authenticate")); got.Status != http.StatusUnauthorized || scope != "repository:app:pull" {
			t.Errorf("got %d, challenge for %q, want 401 for repository:app:pull", got.Status, scope)
		}
	}
	held := do(t, http.MethodGet, s.url+"/v2/app/manifests/1", nil, "Accept", old.MediaType, "Authorization", "Bearer "+s.token("alice", "repository:app:pull"))
	if _, body := old.Manifest(); !bytes.Equal(held.Body, body) {
		t.Errorf("after a refusal the tag is %d %q", held.Status, held.Body)
	}
	if got := put("carol", "1", img, "repository:app:pull,push"); got.Status != http.StatusUnauthorized {
		t.Errorf("without the right to pull: got %d %s, want 401", got.Status, got.Body)
	}
	want(t, http.StatusCreated, put("alice", "1", img, "repository:app:pull,push"))
	s.keepsSecrets(t)
}

// lenient lets who may push push, without the right to pull.
func (s *tokenSite) lenient(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	control, err := auth.GetAccessController("token", s.settings())
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access := auth.Access{Resource: auth.Resource{Type: "repository", Name: "app"}, Action: "push"}
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			access.Action = "pull"
		}
		_, err := control.Authorized(r, access)
		var challenge auth.Challenge
		if !errors.As(err, &challenge) {
			next.ServeHTTP(w, r)
			return
		}
		challenge.SetHeaders(r, w)
		w.WriteHeader(http.StatusUnauthorized)
	})
}
