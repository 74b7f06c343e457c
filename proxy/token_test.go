package proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// What clients of a library may and may not do with a registry that wants
// tokens, they may and may not do through the proxy, and they are told the same.
func TestLibraryWithTokens(t *testing.T) {
	t.Parallel()
	honest, other := randomImage(t), randomImage(t)
	push := func(img v1.Image) func(name.Repository, ...remote.Option) error {
		return func(repo name.Repository, options ...remote.Option) error {
			return remote.Write(repo.Tag("1"), img, options...)
		}
	}
	pull := func(repo name.Repository, options ...remote.Option) error {
		img, err := remote.Image(repo.Tag("1"), options...)
		if err != nil {
			return err
		}
		layers, err := img.Layers()
		for _, l := range layers {
			body, err := l.Compressed()
			if err != nil {
				return err
			}
			body.Close()
		}
		return err
	}
	mount := func(from string) func(name.Repository, ...remote.Option) error {
		return func(repo name.Repository, options ...remote.Option) error {
			img, err := remote.Image(repo.Registry.Repo(from).Tag("1"), options...)
			if err != nil {
				return err
			}
			return remote.Write(repo.Tag("1"), img, options...)
		}
	}
	alone, behind := newTokenSite(t, false), newTokenSite(t, true)
	for _, tt := range []struct {
		is   string
		user string
		repo string
		do   func(name.Repository, ...remote.Option) error
		want string
	}{
		{"who may push does", "alice", "app", push(honest), ""},
		{"who may pull does", "bob", "app", pull, ""},
		{"so does nobody in particular", "", "app", pull, ""},
		{"who may pull does not push", "bob", "app", push(other), "401 UNAUTHORIZED"},
		{"neither does nobody in particular", "", "app", push(other), "401 UNAUTHORIZED"},
		{"a push elsewhere", "alice", "secret", push(honest), ""},
		{"is not pulled by another", "bob", "secret", pull, "401 UNAUTHORIZED"},
		{"nor by nobody in particular", "", "secret", pull, "401 UNAUTHORIZED"},
		{"who may read one repository and write another mounts", "bob", "bob", mount("app"), ""},
		{"who may not read the one does not", "bob", "bob", mount("secret"), "401 UNAUTHORIZED"},
		{"a wrong password", "mallory", "app", pull, "401"},
	} {
		for _, s := range []*tokenSite{alone, behind} {
			repo, options := s.library(t, tt.user, tt.repo)
			if got := told(tt.do(repo, options...)); got != tt.want {
				t.Errorf("%s: through the proxy: %t: got %q, want %q", tt.is, s.p != nil, got, tt.want)
			}
		}
	}
	layers, err := honest.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		dgst, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if f := behind.p.fact(t, digest.Digest(dgst.String())); f.Source != verify.Pushed {
			t.Errorf("the DiffID index knows %s from a %s, want a push", dgst, f.Source)
		}
	}
	repo, options := behind.library(t, "alice", "app")
	if err := push(lyingImage(t, honest))(repo, options...); told(err) != "400 MANIFEST_INVALID" {
		t.Errorf("a lie: got %v, want 400 MANIFEST_INVALID", err)
	}
	behind.keepsSecrets(t)
}

func randomImage(t testing.TB) v1.Image {
	t.Helper()
	img, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// lyingImage returns an image with two diff_ids of an image in wrong order.
func lyingImage(t testing.TB, img v1.Image) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	slices.Reverse(config.RootFS.DiffIDs)
	lie, err := mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return lie
}

// told returns what a client of the library is told.
func told(err error) string {
	var e *transport.Error
	var u *url.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &u):
		return "no answer" // the library does not send a body twice
	case !errors.As(err, &e):
		return err.Error()
	case len(e.Errors) == 0:
		return fmt.Sprint(e.StatusCode)
	}
	return fmt.Sprint(e.StatusCode, " ", e.Errors[0].Code)
}

// A challenge is passed on byte for byte, and it is that of the request that
// the client made, not of one that the proxy made.
func TestChallengesPass(t *testing.T) {
	t.Parallel()
	s := newTokenSite(t, true)
	img := verifytest.Honest(1)
	dgst := img.Layers[0].Digest().String()
	mediaType, body := img.Manifest()
	for _, tt := range []struct {
		method, path string
		scope        string
	}{
		{http.MethodGet, "/v2/", ""},
		{http.MethodGet, "/v2/_catalog", "registry:catalog:*"},
		{http.MethodGet, "/v2/app/tags/list", "repository:app:pull"},
		{http.MethodHead, "/v2/app/manifests/1", "repository:app:pull"},
		{http.MethodGet, "/v2/app/manifests/1", "repository:app:pull"},
		{http.MethodHead, "/v2/app/blobs/" + dgst, "repository:app:pull"},
		{http.MethodGet, "/v2/app/blobs/" + dgst, "repository:app:pull"},
		{http.MethodPost, "/v2/app/blobs/uploads/", "repository:app:pull,push"},
		{http.MethodPost, "/v2/app/blobs/uploads/?from=secret&mount=" + dgst, "repository:app:pull,push repository:secret:pull"},
		{http.MethodPatch, "/v2/app/blobs/uploads/1", "repository:app:pull,push"},
		{http.MethodPut, "/v2/app/blobs/uploads/1?digest=" + dgst, "repository:app:pull,push"},
		{http.MethodPut, "/v2/app/manifests/1", "repository:app:pull,push"},
		{http.MethodDelete, "/v2/app/blobs/" + dgst, "repository:app:delete"},
		{http.MethodDelete, "/v2/app/manifests/" + dgst, "repository:app:delete"},
		{http.MethodGet, "/v2/_diffids", "registry:catalog:*"},
		{http.MethodGet, "/v2/app/_diffids/blobs/" + dgst, "repository:app:pull"},
		{http.MethodGet, "/v2/app/_diffids/manifests/1", "repository:app:pull"},
		{http.MethodGet, "/v2/_oci/ext/discover", ""},
	} {
		for _, with := range []string{"", "Bearer nonsense", "Bearer " + s.old("alice"), "Basic " + canary} {
			var content []byte
			if tt.method == http.MethodPut && strings.Contains(tt.path, "/manifests/") {
				content = body
			}
			s.take()
			got := do(t, tt.method, s.base+tt.path, content, "Authorization", with, "Content-Type", mediaType)
			asked := s.take()
			if len(asked) == 0 || got.Status != http.StatusUnauthorized {
				t.Errorf("%s %s with %.20q: got %d %s after %v", tt.method, tt.path, with, got.Status, got.Body, asked)
				continue
			}
			if diff := cmp.Diff(asked[len(asked)-1].challenge, got.Header.Values("WWW-Authenticate")); diff != "" {
				t.Errorf("%s %s: challenge (-of the registry +to the client):\n%s", tt.method, tt.path, diff)
			}
			if scope := scopeOf(got.Header.Get("WWW-Authenticate")); scope != tt.scope {
				t.Errorf("%s %s: challenged for %q, want %q", tt.method, tt.path, scope, tt.scope)
			}
		}
	}
	s.keepsSecrets(t)
}

// scopeOf returns the scope of a challenge in one order: distribution has none.
func scopeOf(challenge string) string {
	_, scope, _ := strings.Cut(challenge, `scope="`)
	scope, _, _ = strings.Cut(scope, `"`)
	all := strings.Fields(scope)
	for i, one := range all {
		at := strings.LastIndex(one, ":") + 1
		actions := strings.Split(one[at:], ",")
		slices.Sort(actions)
		all[i] = one[:at] + strings.Join(actions, ",")
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A client of the library goes on, or not, after its token expired, as it does
// without a proxy.
func TestLibraryWhenTokensExpire(t *testing.T) {
	t.Parallel()
	for is, before := range map[string]func(*http.Request) bool{
		"a blob is looked for": func(r *http.Request) bool { return r.Method == http.MethodHead },
		"an upload opens":      func(r *http.Request) bool { return r.Method == http.MethodPost },
		"the bytes":            func(r *http.Request) bool { return r.Method == http.MethodPatch },
		"an upload ends":       func(r *http.Request) bool { return r.Method == http.MethodPut && isUpload(r) },
		"the manifest":         func(r *http.Request) bool { return r.Method == http.MethodPut && !isUpload(r) },
	} {
		img := randomImage(t)
		var heard []string
		for _, through := range []bool{false, true} {
			s := newTokenSite(t, through)
			s.expireBefore(before)
			repo, options := s.library(t, "alice", "app")
			heard = append(heard, told(remote.Write(repo.Tag("1"), img, options...)))
			if through {
				s.keepsSecrets(t)
			}
		}
		if heard[0] != heard[1] {
			t.Errorf("the token expires before %s: the client says %q, and through the proxy %q", is, heard[0], heard[1])
		}
	}
}

// A registry that gives out its tokens itself names the client's host, and the
// client gets them through the proxy.
func TestTokensOfTheRegistryItself(t *testing.T) {
	t.Parallel()
	s := newIssuer(t)
	settings := s.settings()
	settings["autoredirect"], settings["autoredirectpath"] = true, "/v2/token"
	registry := newRegistryHandler(t, func(c *configuration.Configuration) { c.Auth = configuration.Auth{"token": settings} })
	s.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/token" {
			s.giveOut(w, r)
			return
		}
		registry.ServeHTTP(w, r)
	}), true)
	s.issuer.Close() // nobody asks there
	got := do(t, http.MethodGet, s.base+"/v2/", nil).Header.Get("WWW-Authenticate")
	if want := fmt.Sprintf(`Bearer realm="%s/v2/token",service=%q`, s.base, service); got != want {
		t.Errorf("challenge %s, want %s", got, want)
	}
	img := randomImage(t)
	for _, tt := range []struct{ user, want string }{{"mallory", "401"}, {"alice", ""}} {
		repo, options := s.library(t, tt.user, "app")
		if got := told(remote.Write(repo.Tag("1"), img, options...)); got != tt.want {
			t.Errorf("%s pushes: got %q, want %q", tt.user, got, tt.want)
		}
	}
	s.keepsSecrets(t)
}

// Passwords pass as tokens do.
func TestLibraryWithPasswords(t *testing.T) {
	t.Parallel()
	img := randomImage(t)
	for _, through := range []bool{false, true} {
		s := newIssuer(t).serve(t, newRegistryHandler(t, func(c *configuration.Configuration) {
			c.Auth = configuration.Auth{"htpasswd": {"realm": `the "registry"`, "path": writePasswords(t, "alice")}}
		}), through)
		for _, tt := range []struct{ user, want string }{{"mallory", "401"}, {"", "401"}, {"alice", ""}} {
			repo, options := s.library(t, tt.user, "app")
			err := remote.Write(repo.Tag("1"), img, options...)
			if err == nil {
				_, err = remote.Image(repo.Tag("1"), options...)
			}
			if got := told(err); got != tt.want {
				t.Errorf("%q pushes and pulls, through the proxy: %t: got %q, want %q", tt.user, through, got, tt.want)
			}
		}
		mediaType, body := verifytest.Honest(1).Manifest()
		s.take()
		a := want(t, http.StatusUnauthorized, putManifest(t, s.base, "app", "1", mediaType, body))
		asked := s.take()
		if got := a.Header.Values("WWW-Authenticate"); !slices.Equal(got, []string{`Basic realm="the \"registry\""`}) || !slices.Equal(got, asked[len(asked)-1].challenge) {
			t.Errorf("challenge %q", got)
		}
		if through {
			s.keepsSecrets(t)
		}
	}
}

// writePasswords writes a file of bcrypt hashes.
func writePasswords(t testing.TB, users ...string) string {
	t.Helper()
	var lines strings.Builder
	for _, user := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(canary+user), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newTokenSite starts distribution's registry with tokens.
func newTokenSite(t testing.TB, through bool) *tokenSite {
	t.Helper()
	s := newIssuer(t)
	return s.serve(t, newRegistryHandler(t, func(c *configuration.Configuration) {
		c.Auth = configuration.Auth{"token": s.settings()}
	}), through)
}
