package proxy_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// There are three outcomes: true, false, and could not find out. When the
// upstream fails while the gate reads, the answer is a 5xx that can be tried
// again; it is never a 400, and nobody is called a liar.
func TestUpstreamThatFails(t *testing.T) {
	t.Parallel()
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	const (
		failed      = "this could not be judged, because the registry answered "
		unreachable = "the upstream registry cannot be reached"
	)
	for _, tt := range []struct {
		is      string
		answer  func(http.ResponseWriter, *http.Request)
		status  int
		code    string
		message string // its begin
	}{
		{"it fails", status(500), 503, "UNAVAILABLE", failed},
		{"it is overloaded", status(503, "Retry-After", "7"), 503, "UNAVAILABLE", failed},
		{"it answers nonsense", status(299), 503, "UNAVAILABLE", failed},
		{"it answers with a part", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-1/100")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "ab")
		}, 503, "UNAVAILABLE", failed},
		{"it cuts the connection at once", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "UNAVAILABLE", unreachable},
		{"it cuts the connection in the middle", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "abc")
		}, 502, "UNAVAILABLE", unreachable},
		{"it is silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, "UNAVAILABLE", "the upstream registry did not answer in time"},
		{"it holds other bytes", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }, 502, "UNAVAILABLE", "the registry holds wrong bytes under sha256:"},
		{"it holds no bytes", status(200), 502, "UNAVAILABLE", "the registry holds wrong bytes under sha256:"},
		{"it redirects without end", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, 502, "UNAVAILABLE", unreachable},
		{"it redirects to a file", status(307, "Location", "file:///etc/passwd"), 502, "UNAVAILABLE", unreachable},
		{"it redirects nowhere", status(307), 502, "UNAVAILABLE", unreachable},
		{"it asks for patience", status(429, "Retry-After", "7"), 429, "TOOMANYREQUESTS", "too many requests"},
		{"it forbids the read", status(403), 403, "DENIED", "requested access"},
		{"it does not hold the blob", status(404), 400, "MANIFEST_BLOB_UNKNOWN", ""},
	} {
		for part, dgst := range map[string]func(verifytest.Image) digest.Digest{
			"config": verifytest.Image.ConfigDigest,
			"layer":  func(img verifytest.Image) digest.Digest { return img.Layers[0].Digest() },
		} {
			t.Run(tt.is+", "+part, func(t *testing.T) {
				t.Parallel()
				d, reg := newDetour(t)
				p := newProxy(t, reg.URL, func(c *proxy.Config) {
					if tt.status == http.StatusGatewayTimeout { // the others answer, however slowly
						c.Transport.(*http.Transport).ResponseHeaderTimeout = time.Second
					}
				})
				img := verifytest.Honest(1)
				pushBlobs(t, reg.URL, "app", img)
				d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, dgst(img).String()) {
						tt.answer(w, r)
						return true
					}
					return false
				})
				got := pushManifest(t, p.URL, img)
				errs := got.errors(t)
				if got.Status != tt.status || got.codes() != tt.code || !strings.HasPrefix(errs[0].Message, tt.message) {
					t.Errorf("got %d %s, want %d %s %q", got.Status, got.Body, tt.status, tt.code, tt.message)
				}
				if tt.status >= 500 && got.Header.Get("Retry-After") == "" || tt.status == 429 && got.Header.Get("Retry-After") != "7" {
					t.Errorf("got Retry-After %q", got.Header.Get("Retry-After"))
				}
				if strings.Contains(string(got.Body), "127.0.0.1") || strings.Contains(string(got.Body), "mismatch") {
					t.Errorf("the answer tells too much: %s", got.Body)
				}
				if stored := storedManifest(t, reg.URL, "app", "1.4"); stored != nil {
					t.Errorf("the upstream holds %s", stored)
				}
				if n := p.metric(t, "diffid_blobs_hashed_total", "direction", "fetch", "result", "indexed"); part == "layer" && n != 0 {
					t.Errorf("got %v facts of fetches, want none", n)
				}
				d.answerWith(nil)
				if got := pushManifest(t, p.URL, img); got.Status != http.StatusCreated {
					t.Errorf("when all is well again: got %d %s, want 201", got.Status, got.Body)
				}
			})
		}
	}
}

// pushManifest pushes the manifest of an image alone.
func pushManifest(t testing.TB, base string, img verifytest.Image) answer {
	t.Helper()
	mediaType, body := img.Manifest()
	return putManifest(t, base, "app", "1.4", mediaType, body)
}

// An upstream that is not there is named as the reason, to every question.
func TestUpstreamThatIsGone(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "http://127.0.0.1:1", nil)
	img := verifytest.Honest(1)
	mediaType, manifest := img.Manifest()
	dgst := img.Layers[0].Digest().String()
	for _, tt := range []struct{ method, path string }{
		{http.MethodPut, "/v2/app/manifests/1.4"},
		{http.MethodGet, "/v2/_diffids"},
		{http.MethodGet, "/v2/_diffids/" + dgst},
		{http.MethodGet, "/v2/app/_diffids/blobs/" + dgst},
		{http.MethodGet, "/v2/app/_diffids/manifests/1.4"},
		{http.MethodGet, "/v2/_oci/ext/discover"},
	} {
		var body []byte
		if tt.method == http.MethodPut {
			body = manifest
		}
		got := do(t, tt.method, p.URL+tt.path, body, "Content-Type", mediaType)
		const want = `{"errors":[{"code":"UNAVAILABLE","message":"the upstream registry cannot be reached"}]}` + "\n"
		if got.Status != http.StatusBadGateway || string(got.Body) != want || got.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: got %d %s, want 502 %s", tt.method, tt.path, got.Status, got.Body, want)
		}
		if v := got.Header.Get("Docker-Distribution-Api-Version"); v != "registry/2.0" {
			t.Errorf("%s %s: got Docker-Distribution-Api-Version %q", tt.method, tt.path, v)
		}
	}
}

// What the registry says to a true manifest reaches the client as it is.
func TestTheRegistrysOwnRefusal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
	}{
		{http.StatusBadRequest, `{"errors":[{"code":"MANIFEST_INVALID","message":"no tags on Sundays"}]}`},
		{http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"quota"}]}`},
		{http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such project"}]}`},
		{http.StatusRequestEntityTooLarge, ``},
		{http.StatusInternalServerError, `oops`},
	} {
		d, reg := newDetour(t)
		p := newProxy(t, reg.URL, nil)
		img := verifytest.Honest(1)
		pushBlobs(t, p.URL, "app", img)
		d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.body)
			return true
		})
		if got := pushManifest(t, p.URL, img); got.Status != tt.status || string(got.Body) != tt.body {
			t.Errorf("got %d %q, want %d %q", got.Status, got.Body, tt.status, tt.body)
		}
	}
}

// A config that is too large to be judged is refused by name of the limit.
func TestConfigSizes(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	limit := len(img.Config())
	larger := img
	larger.RawConfig = append(img.Config(), ' ')
	for _, tt := range []struct {
		image  verifytest.Image
		status int
		body   string
	}{
		{img, http.StatusCreated, ""},
		{larger, http.StatusBadRequest, fmt.Sprintf(`{"errors":[{"code":"MANIFEST_INVALID","message":"over limit: the config is larger than %d bytes (limits.config)",`+
			`"detail":{"reason":"over_limit","digest":"%s","report":"/v2/app/_diffids/manifests/%s"}}]}`+"\n", limit, larger.ConfigDigest(), larger.Digest())},
	} {
		reg := newRegistry(t)
		p := newProxy(t, reg.URL, func(c *proxy.Config) { c.MaxConfig = int64(limit) })
		pushBlobs(t, reg.URL, "app", tt.image)
		if got := pushManifest(t, p.URL, tt.image); got.Status != tt.status || string(got.Body) != tt.body {
			t.Errorf("a config of %d bytes: got %d %s, want %d %s", len(tt.image.Config()), got.Status, got.Body, tt.status, tt.body)
		}
	}
}

// A Proxy that lacks a part is not made, and the error names the part.
func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	upstream := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	for _, tt := range []struct {
		cfg  proxy.Config
		want string
	}{
		{proxy.Config{Index: index.NewMemory()}, "proxy: no upstream URL"},
		{proxy.Config{Index: index.NewMemory(), Upstream: &url.URL{Path: "/v2"}}, "proxy: no upstream URL"},
		{proxy.Config{Upstream: upstream}, "proxy: no DiffID index"},
	} {
		if _, err := proxy.New(tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	p, err := proxy.New(proxy.Config{Index: index.NewMemory(), Upstream: upstream})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}
