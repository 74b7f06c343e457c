package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

const (
	canary  = "c4n4ry" // begins every password
	realm   = "http://auth.test/token?for=tests"
	service = "registry.test, east: 1"
)

// rights are what tokens are given out for: by user and resource, the actions.
// Alice may do anything.
var rights = map[string]map[string]string{
	"":      {"repository:app": "pull"},
	"bob":   {"repository:app": "pull", "repository:bob": "pull,push"},
	"carol": {"repository:app": "push"},
}

// A tokenSite is a registry that remembers what it was asked, perhaps a proxy
// before it, and a service that gives out tokens for it.
type tokenSite struct {
	url  string     // of the registry
	base string     // for clients: of the proxy, or of the registry
	p    *testProxy // nil without one

	signer   jose.Signer
	keys     string // file with the public key
	issuer   *httptest.Server
	registry http.Handler

	mu      sync.Mutex // guards the rest
	asked   []asked
	expire  func(*http.Request) bool
	expired map[string]bool // tokens
	secrets []string
	written bytes.Buffer // to the DiffID index, in words
	errors  bytes.Buffer // bodies of them
}

// An asked is one request that the registry got, and its challenge if it had one.
type asked struct {
	method, path, agent, authorization string
	challenge                          []string
}

// newIssuer starts the service; the registry is for [tokenSite.serve].
func newIssuer(t testing.TB) *tokenSite {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &tokenSite{expired: map[string]bool{}, keys: filepath.Join(t.TempDir(), "keys.json")}
	private := jose.JSONWebKey{Key: key, KeyID: "test", Algorithm: string(jose.ES256)}
	if s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil); err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}})
	if err == nil {
		err = os.WriteFile(s.keys, public, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.issuer = newUpstream(t, http.HandlerFunc(s.giveOut))
	return s
}

// settings are those of distribution's token authorization.
func (s *tokenSite) settings() map[string]any {
	return map[string]any{"realm": realm, "service": service, "issuer": "issuer.test", "jwks": s.keys}
}

// serve starts the registry, and the proxy if there is to be one.
func (s *tokenSite) serve(t testing.TB, registry http.Handler, through bool) *tokenSite {
	t.Helper()
	s.registry = registry
	s.url = newUpstream(t, http.HandlerFunc(s.answer)).URL
	s.base = s.url
	if through {
		s.p = newProxy(t, s.url, func(c *proxy.Config) {
			c.Ahead = 0
			c.Index = &writtenIndex{c.Index.(*index.Memory), s}
		})
		s.base = newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.p.Proxy.ServeHTTP(&errorTap{ResponseWriter: w, site: s}, r)
		})).URL
	}
	return s
}

// giveOut answers a request for a token with the part of it that the user may have.
func (s *tokenSite) giveOut(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	q := r.URL.Query()
	if ok && password != canary+user || q.Get("service") != service {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": s.sign(user, time.Now(), q["scope"]...)}) // or the client is gone
}

// token returns a token of a user for the scopes, as far as the user may have it.
func (s *tokenSite) token(user string, scopes ...string) string {
	return s.sign(user, time.Now(), scopes...)
}

// old returns a token that was good yesterday.
func (s *tokenSite) old(user string) string {
	return s.sign(user, time.Now().AddDate(0, 0, -1), "repository:app:pull,push")
}

func (s *tokenSite) sign(user string, at time.Time, scopes ...string) string {
	claims := token.ClaimSet{Issuer: "issuer.test", Subject: user, Audience: token.AudienceList{service}, JWTID: rand.Text(),
		IssuedAt: at.Unix(), NotBefore: at.Unix(), Expiration: at.Add(time.Hour).Unix()}
	for _, scope := range scopes {
		for one := range strings.FieldsSeq(scope) {
			at := strings.LastIndex(one, ":")
			kind, resource, _ := strings.Cut(one[:at], ":")
			actions := strings.Split(one[at+1:], ",")
			if user != "alice" {
				mayDo := strings.Split(rights[user][one[:at]], ",")
				actions = slices.DeleteFunc(actions, func(a string) bool { return !slices.Contains(mayDo, a) })
			}
			claims.Access = append(claims.Access, &token.ResourceActions{Type: kind, Name: resource, Actions: actions})
		}
	}
	text, err := jwt.Signed(s.signer).Claims(claims).Serialize()
	if err != nil {
		panic(err) // only in a handler or a test
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, strings.Split(text, ".")[1:]...)
	return text
}

// expireBefore makes the token of the next such request one that was good
// yesterday, from then on.
func (s *tokenSite) expireBefore(which func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire = which
}

// answer is the registry, with its memory.
func (s *tokenSite) answer(w http.ResponseWriter, r *http.Request) {
	a := asked{method: r.Method, path: r.URL.Path, agent: r.UserAgent(), authorization: r.Header.Get("Authorization")}
	s.mu.Lock()
	if s.expire != nil && s.expire(r) {
		s.expire = nil
		s.expired[a.authorization] = true
	}
	expired := s.expired[a.authorization]
	s.mu.Unlock()
	if expired {
		r.Header.Set("Authorization", "Bearer "+s.old("alice"))
	}
	s.registry.ServeHTTP(w, r)
	a.challenge = w.Header().Values("WWW-Authenticate")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, a)
}

// take returns the requests since the last call.
func (s *tokenSite) take() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.asked
	s.asked = nil
	return all
}

// library returns a repository for go-containerregistry, and how a user gets to it.
func (s *tokenSite) library(t testing.TB, user, repo string) (name.Repository, []remote.Option) {
	t.Helper()
	r, err := name.NewRepository(strings.TrimPrefix(s.base, "http://") + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == "auth.test:80" {
			addr = s.issuer.Listener.Addr().String()
		}
		return dialLoopback(ctx, network, addr)
	}
	transport := &http.Transport{DialContext: dial, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	auth := authn.Anonymous
	switch user {
	case "":
	case "mallory":
		auth = &authn.Basic{Username: "alice", Password: canary + user}
	default:
		auth = &authn.Basic{Username: user, Password: canary + user}
	}
	return r, []remote.Option{remote.WithAuth(auth), remote.WithTransport(transport), remote.WithJobs(1)}
}

// keepsSecrets fails the test if anything of a credential can be seen where it
// does not belong. The proxy learns nothing afterwards.
func (s *tokenSite) keepsSecrets(t testing.TB) {
	t.Helper()
	s.p.facts(t)
	var logs strings.Builder
	for _, e := range s.p.Logs.All() {
		fmt.Fprintln(&logs, e.Message, e.ContextMap())
	}
	values, _ := labelValues(s.p.gather(t))
	s.mu.Lock()
	defer s.mu.Unlock()
	secrets := append([]string{canary, "Bearer ey"}, s.secrets...)
	for user := range rights {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(user + ":" + canary))[:len(user)+4])
	}
	for where, text := range map[string]string{
		"the log": logs.String(), "the metrics": strings.Join(values, " "), "errors": s.errors.String(), "the DiffID index": s.written.String(),
	} {
		for _, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s: ... %s", where, text[max(at-200, 0):min(at+100, len(text))])
			}
		}
	}
	if logs.Len() == 0 {
		t.Error("the log is empty")
	}
}

// A writtenIndex remembers in words what is written to it.
type writtenIndex struct {
	*index.Memory
	site *tokenSite
}

// Put implements proxy.Index.
func (w *writtenIndex) Put(ctx context.Context, f verify.Fact) error {
	w.note(f)
	return w.Memory.Put(ctx, f)
}

// Link implements proxy.Index.
func (w *writtenIndex) Link(ctx context.Context, alias, dgst digest.Digest) error {
	w.note(alias)
	return w.Memory.Link(ctx, alias, dgst)
}

// PutJudgement implements proxy.Index.
func (w *writtenIndex) PutJudgement(ctx context.Context, j verify.Judgement) error {
	w.note(j)
	return w.Memory.PutJudgement(ctx, j)
}

func (w *writtenIndex) note(what any) {
	w.site.mu.Lock()
	defer w.site.mu.Unlock()
	fmt.Fprintf(&w.site.written, "%+v\n", what)
}

// An errorTap is a ResponseWriter that remembers bodies of errors.
type errorTap struct {
	http.ResponseWriter
	site   *tokenSite
	status int
}

// Unwrap is for http.ResponseController.
func (e *errorTap) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (e *errorTap) WriteHeader(status int) {
	e.status = status
	e.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (e *errorTap) Write(p []byte) (int, error) {
	if e.status >= http.StatusBadRequest {
		e.site.mu.Lock()
		e.site.errors.Write(p)
		e.site.mu.Unlock()
	}
	return e.ResponseWriter.Write(p)
}

// A tokenClient is a client with a token, that gets another when it is
// challenged, once for each request.
type tokenClient struct {
	t       testing.TB
	site    *tokenSite
	user    string
	base    string
	token   string
	renewed int
}

func (c *tokenClient) do(method, target string, body []byte, header ...string) answer {
	c.t.Helper()
	try := func() answer {
		return do(c.t, method, c.base+target, body, append(header, "Authorization", "Bearer "+c.token)...)
	}
	a := try()
	if a.Status == http.StatusUnauthorized {
		c.renewed++
		c.token = c.site.token(c.user, scopeOf(a.Header.Get("WWW-Authenticate")))
		a = try()
	}
	return a
}

// pushBlobs pushes what an image's manifest names, as docker does.
func (c *tokenClient) pushBlobs(repo string, img verifytest.Image) {
	c.t.Helper()
	blobs := [][]byte{}
	for _, l := range img.Layers {
		blobs = append(blobs, l.Blob)
	}
	for _, blob := range append(blobs, img.Config()) {
		path := func(a answer) string { return strings.TrimPrefix(a.location(c.t, c.base), c.base) }
		a := want(c.t, http.StatusAccepted, c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil))
		a = want(c.t, http.StatusAccepted, c.do(http.MethodPatch, path(a), blob, "Content-Type", octets))
		want(c.t, http.StatusCreated, c.do(http.MethodPut, withDigest(path(a), digest.FromBytes(blob)), nil))
	}
}
