package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify/verifytest"
)

// A guard lets users into repositories of theirs. Alice alone may see the
// catalog.
type guard struct {
	next http.Handler

	mu   sync.Mutex // guards seen
	seen []string   // requests, each as "user METHOD path"
}

const (
	challenge  = `Basic realm="the registry", charset="UTF-8"`
	repoAlice  = "secret"
	repoBob    = "bob"
	repoShared = "shared"
)

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	g.mu.Lock()
	g.seen = append(g.seen, user+" "+r.Method+" "+r.URL.Path)
	g.mu.Unlock()
	allowed := map[string][]string{"alice": {repoAlice, repoShared, "_catalog"}, "bob": {repoBob, repoShared}}[user]
	w.Header().Set("Content-Type", "application/json")
	switch repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/"); {
	case allowed == nil || password != user+"-password":
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	case repo != "" && !slices.Contains(allowed, repo):
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"not yours"}]}`)
	default:
		g.next.ServeHTTP(w, r)
	}
}

// take returns the requests since the last call.
func (g *guard) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	g.seen = nil
	return seen
}

// A user sends requests with a password, or without one when it has no name.
type user string

func (u user) do(t testing.TB, method, target string, body []byte, header ...string) answer {
	t.Helper()
	req := newRequest(t, method, target, strings.NewReader(string(body)), header...)
	if u != "" {
		req.SetBasicAuth(string(u), string(u)+"-password")
	}
	return send(t, req)
}

// push pushes a blob, and returns its digest.
func (u user) push(t testing.TB, base, repo string, data []byte) digest.Digest {
	t.Helper()
	dgst := digest.FromBytes(data)
	a := u.do(t, http.MethodPost, base+"/v2/"+repo+"/blobs/uploads/", nil)
	if a = u.do(t, http.MethodPut, withDigest(a.location(t, base), dgst), data); a.Status != http.StatusCreated {
		t.Fatalf("%s pushes %s to %s: got %d %s, want 201", u, dgst, repo, a.Status, a.Body)
	}
	return dgst
}

// put pushes a manifest.
func (u user) put(t testing.TB, base, repo, reference, mediaType string, body []byte) answer {
	t.Helper()
	return u.do(t, http.MethodPut, base+"/v2/"+repo+"/manifests/"+reference, body, "Content-Type", mediaType)
}

// newGuarded starts a registry that asks for passwords, and a Proxy before it
// that knows a layer of Alice's.
func newGuarded(t testing.TB) (g *guard, p *testProxy, secret verifytest.Layer) {
	t.Helper()
	g = &guard{next: newRegistryHandler(t, func(c *configuration.Configuration) {
		c.Validation.Manifests.URLs.Allow = []string{"^https://mirror[.]test/"}
	})}
	p = newProxy(t, newUpstream(t, g).URL, nil)
	secret = verifytest.GzipLayer(verifytest.Tar("etc/key", "nobody knows\n"))
	p.fact(t, user("alice").push(t, p.URL, repoAlice, secret.Blob))
	g.take()
	return g, p, secret
}

// The DiffID index tells nobody what the registry would not: it asks the
// registry, in the name of who asks.
func TestQueriesAreAuthorised(t *testing.T) {
	t.Parallel()
	g, p, secret := newGuarded(t)
	unknown := digest.FromString("nobody pushed this")
	const (
		denied = `{"errors":[{"code":"DENIED","message":"not yours"}]}`
		login  = `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`
		// HEAD has no body, so these words are ours.
		headDenied = `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}` + "\n"
		headLogin  = `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}` + "\n"
		none       = `{"errors":[{"code":"BLOB_UNKNOWN","message":"no such digest in the DiffID index"}]}` + "\n"
	)
	for _, tt := range []struct {
		is     string
		user   user
		path   string
		status int
		body   string   // "" when it is not compared
		asked  []string // what the upstream was asked
	}{
		{"the owner asks about a blob of hers", "alice", "/v2/secret/_diffids/blobs/" + secret.Digest().String(), 200, "",
			[]string{"alice HEAD /v2/secret/blobs/" + secret.Digest().String()}},
		{"a stranger asks in the owner's repository", "bob", "/v2/secret/_diffids/blobs/" + secret.Digest().String(), 403, headDenied,
			[]string{"bob HEAD /v2/secret/blobs/" + secret.Digest().String()}},
		{"a stranger asks in his own repository", "bob", "/v2/bob/_diffids/blobs/" + secret.Digest().String(), 404, none,
			[]string{"bob HEAD /v2/bob/blobs/" + secret.Digest().String()}},
		{"the same, to be fetched", "bob", "/v2/bob/_diffids/blobs/" + secret.Digest().String() + "?fetch=true", 404, none,
			[]string{"bob HEAD /v2/bob/blobs/" + secret.Digest().String()}},
		{"a stranger asks for what nobody knows", "bob", "/v2/bob/_diffids/blobs/" + unknown.String(), 404, none,
			[]string{"bob HEAD /v2/bob/blobs/" + unknown.String()}},
		{"the owner asks in a repository without the blob", "alice", "/v2/shared/_diffids/blobs/" + secret.Digest().String(), 404, none,
			[]string{"alice HEAD /v2/shared/blobs/" + secret.Digest().String()}},
		{"nobody in particular asks", "", "/v2/secret/_diffids/blobs/" + secret.Digest().String(), 401, headLogin,
			[]string{" HEAD /v2/secret/blobs/" + secret.Digest().String()}},
		{"who sees the catalog sees all digests", "alice", "/v2/_diffids/" + secret.Digest().String(), 200, "", []string{"alice GET /v2/_catalog"}},
		{"who does not see the catalog, does not", "bob", "/v2/_diffids/" + secret.Digest().String(), 403, denied, []string{"bob GET /v2/_catalog"}},
		{"nor the list", "bob", "/v2/_diffids", 403, denied, []string{"bob GET /v2/_catalog"}},
		{"nor the list spelled otherwise", "bob", "/v2/%5fdiffids/", 403, denied, []string{"bob GET /v2/_catalog"}},
		{"nor a batch", "bob", "/v2/_diffids?digest=" + secret.Digest().String(), 403, denied, []string{"bob GET /v2/_catalog"}},
		{"nor the other direction", "bob", "/v2/_diffids?diff_id=" + secret.DiffID(), 403, denied, []string{"bob GET /v2/_catalog"}},
		{"the list is for nobody in particular neither", "", "/v2/_diffids", 401, login, []string{" GET /v2/_catalog"}},
		{"a report needs the manifest", "bob", "/v2/secret/_diffids/manifests/1.4", 403, denied, []string{"bob GET /v2/secret/manifests/1.4"}},
		{"and a password", "", "/v2/secret/_diffids/manifests/1.4", 401, login, []string{" GET /v2/secret/manifests/1.4"}},
		{"extensions are for who may ask the base route", "", "/v2/_oci/ext/discover", 401, login, []string{" GET /v2/_oci/ext/discover", " GET /v2/"}},
	} {
		got := tt.user.do(t, http.MethodGet, p.URL+tt.path, nil)
		if got.Status != tt.status || tt.body != "" && string(got.Body) != tt.body {
			t.Errorf("%s: got %d %s, want %d %s", tt.is, got.Status, got.Body, tt.status, tt.body)
		}
		if c := got.Header.Get("WWW-Authenticate"); got.Status == http.StatusUnauthorized && c != challenge {
			t.Errorf("%s: got the challenge %q, want %q", tt.is, c, challenge)
		}
		if diff := cmp.Diff(tt.asked, g.take()); diff != "" {
			t.Errorf("%s: requests at the upstream (-want +got):\n%s", tt.is, diff)
		}
	}
}

// What the registry has forgotten, the DiffID index does not tell, though it
// still knows it: not even when it comes back elsewhere.
func TestDeletedBlobsAreNotTold(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	alice := user("alice")
	ask := p.URL + "/v2/secret/_diffids/blobs/" + secret.Digest().String()
	if got := alice.do(t, http.MethodDelete, p.URL+"/v2/secret/blobs/"+secret.Digest().String(), nil); got.Status != http.StatusAccepted {
		t.Fatalf("DELETE: got %d %s, want 202", got.Status, got.Body)
	}
	if got := alice.do(t, http.MethodGet, ask, nil); got.Status != http.StatusNotFound {
		t.Errorf("after the deletion: got %d %s, want 404", got.Status, got.Body)
	}
	alice.push(t, p.URL, repoShared, secret.Blob)
	if got := alice.do(t, http.MethodGet, ask, nil); got.Status != http.StatusNotFound {
		t.Errorf("after a push to another repository: got %d %s, want 404", got.Status, got.Body)
	}
}

// Answers to two users never change places, however many ask at once.
func TestAnswersAreNotShared(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	var wg sync.WaitGroup
	for _, who := range []struct {
		user   user
		status int
	}{{"alice", http.StatusOK}, {"bob", http.StatusForbidden}, {"", http.StatusUnauthorized}} {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					if got := who.user.do(t, http.MethodGet, p.URL+"/v2/secret/_diffids/blobs/"+secret.Digest().String(), nil); got.Status != who.status {
						t.Errorf("%q asks: got %d %s, want %d", who.user, got.Status, got.Body, who.status)
					}
				}
			})
		}
	}
	wg.Wait()
}

// Bob cannot learn of Alice's layer by pushing guesses about it: whether it is
// known, and whether his guess is right, changes neither status nor text, nor
// what the reports say afterwards.
func TestGuessesLearnNothing(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	own := verifytest.GzipLayer(verifytest.Tar("bob", "bob\n"))
	bob := user("bob")
	bob.push(t, p.URL, repoBob, own.Blob)
	foreign := "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	for _, tt := range []struct {
		is    string
		claim func(diffID string) []string // the diff_ids of the config
		edit  func(mediaType string, urls string) (string, string)
	}{
		{"a diff_id", func(id string) []string { return []string{id, own.DiffID()} }, nil},
		{"a diff_id beside one that is wrong", func(id string) []string { return []string{id, id} }, nil},
		{"a wrong count", func(id string) []string { return []string{id, own.DiffID(), id} }, nil},
		{"a diff_id of SHA-512, which cannot be compared", func(string) []string {
			return []string{digest.SHA512.FromString("").String(), own.DiffID()}
		}, nil},
		{"a diff_id of a layer that the registry does not look for", func(id string) []string { return []string{id, own.DiffID()} },
			func(string, string) (string, string) { return foreign, `"urls":["https://mirror.test/x"],` }},
		{"a SHA-512 diff_id of such a layer", func(string) []string {
			return []string{digest.SHA512.FromString("").String(), own.DiffID()}
		}, func(string, string) (string, string) { return foreign, `"urls":["https://mirror.test/x"],` }},
	} {
		// story is all that Bob sees, with the digests that he chose taken out.
		story := func(blob digest.Digest, diffID string) string {
			config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, strings.Join(tt.claim(diffID), `","`))
			mediaType, urls := ocispec.MediaTypeImageLayerGzip, ""
			if tt.edit != nil {
				mediaType, urls = tt.edit(mediaType, urls)
			}
			manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},`+
				`"layers":[{"mediaType":%q,%s"digest":%q,"size":%d},{"mediaType":%q,"digest":%q,"size":%d}]}`,
				ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, bob.push(t, p.URL, repoBob, config), len(config),
				mediaType, urls, blob, len(secret.Blob), ocispec.MediaTypeImageLayerGzip, own.Digest(), len(own.Blob))
			dgst := digest.FromBytes(manifest)
			push := bob.put(t, p.URL, repoBob, dgst.String(), ocispec.MediaTypeImageManifest, manifest)
			report := bob.do(t, http.MethodGet, p.URL+"/v2/bob/_diffids/manifests/"+dgst.String(), nil)
			return strings.NewReplacer(dgst.String(), "MANIFEST", digest.FromBytes(config).String(), "CONFIG",
				blob.String(), "BLOB", blob.String()[:19], "BLOB", diffID, "GUESS").
				Replace(fmt.Sprintln(push.Status, string(push.Body), push.Header.Values("Warning"), report.Status, string(report.Body)))
		}
		wrong := digest.FromString("wrong").String()
		unknown := story(digest.FromString("nobody pushed this"), wrong)
		if strings.Contains(unknown, secret.DiffID()) || !strings.Contains(unknown, "BLOB") {
			t.Fatalf("%s: a strange story: %s", tt.is, unknown)
		}
		for _, guess := range []string{wrong, secret.DiffID()} {
			if diff := cmp.Diff(unknown, story(secret.Digest(), guess)); diff != "" {
				t.Errorf("%s: Bob sees (-when the layer is unknown +when he guesses %s):\n%s", tt.is, guess, diff)
			}
		}
	}
}

// Nor can he learn what is in a config of Alice's that passed a moment ago.
func TestConfigsOfOthersAreNotTold(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	bob := user("bob")
	bob.push(t, p.URL, repoBob, secret.Blob) // now the layer is his, too
	story := func(config []byte) string {
		img := verifytest.NewImage(secret)
		img.RawConfig = config
		mediaType, manifest := img.Manifest()
		push := bob.put(t, p.URL, repoBob, img.Digest().String(), mediaType, manifest)
		report := bob.do(t, http.MethodGet, p.URL+"/v2/bob/_diffids/manifests/"+img.Digest().String(), nil)
		return strings.NewReplacer(img.Digest().String(), "MANIFEST", img.ConfigDigest().String(), "CONFIG").
			Replace(fmt.Sprintln(push.Status, string(push.Body), report.Status, string(report.Body)))
	}
	unknown := story([]byte("{}"))
	for is, config := range map[string][]byte{
		"true":    verifytest.NewImage(secret).Config(),
		"false":   verifytest.WrongDigit(verifytest.NewImage(secret)).Config(),
		"no JSON": []byte(`{"rootfs":`),
	} {
		user("alice").push(t, p.URL, repoAlice, config)
		if diff := cmp.Diff(unknown, story(config)); diff != "" {
			t.Errorf("Bob sees (-when the config is unknown +when Alice's is %s):\n%s", is, diff)
		}
	}
}

// A mount that the registry does not grant teaches nobody anything.
func TestMountWithoutARight(t *testing.T) {
	t.Parallel()
	_, p, secret := newGuarded(t)
	got := user("bob").do(t, http.MethodPost, p.URL+"/v2/bob/blobs/uploads/?from=secret&mount="+secret.Digest().String(), nil)
	if got.Status != http.StatusAccepted && got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want what the registry says", got.Status, got.Body)
	}
	direct := user("bob").do(t, http.MethodHead, p.URL+"/v2/bob/blobs/"+secret.Digest().String(), nil)
	asked := user("bob").do(t, http.MethodGet, p.URL+"/v2/bob/_diffids/blobs/"+secret.Digest().String(), nil)
	if direct.Status != asked.Status {
		t.Errorf("the registry answers %d about the blob, the DiffID index %d", direct.Status, asked.Status)
	}
}

// Who may list all digests is asked again only after AuthTTL; who may not, and
// who may read what is in one repository, is asked each time.
func TestListersAreRemembered(t *testing.T) {
	t.Parallel()
	log := recordRequests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "alice" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	p := newProxy(t, newUpstream(t, log).URL, func(c *proxy.Config) { c.AuthTTL = time.Hour })
	for _, tt := range []struct {
		who, path string
		status    int
		asks      int
	}{
		{"alice", "/v2/_diffids", 200, 1},
		{"alice", "/v2/_diffids", 200, 0},
		{"alice", "/v2/_diffids/" + objectDigest, 404, 0},
		{"bob", "/v2/_diffids", 403, 1},
		{"bob", "/v2/_diffids", 403, 1},
		{"alice", "/v2/a/_diffids/blobs/" + objectDigest, 404, 1},
		{"alice", "/v2/a/_diffids/blobs/" + objectDigest, 404, 1},
	} {
		a := do(t, http.MethodGet, p.URL+tt.path, nil, "Authorization", tt.who)
		if asked := log.take(); a.Status != tt.status || len(asked) != tt.asks {
			t.Errorf("%s asks for %s: got %d, and the upstream was asked %v; want %d, %d times", tt.who, tt.path, a.Status, asked, tt.status, tt.asks)
		}
	}
}
