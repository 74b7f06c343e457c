package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy/remote"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// serve returns a client of a registry that answers as h does.
func serve(t *testing.T, cfg remote.Config, h http.HandlerFunc) *remote.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	cfg.Host = strings.TrimPrefix(server.URL, "http://")
	c, err := remote.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holding answers as a registry that holds an image, under whatever name.
func holding(img verifytest.Image) http.HandlerFunc {
	blobs := img.Blobs()
	mediaType, manifest := img.Manifest()
	return func(w http.ResponseWriter, r *http.Request) {
		_, dgst, _ := strings.Cut(r.URL.Path, "/blobs/")
		blob, ok := blobs[digest.Digest(dgst)]
		switch {
		case ok:
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			w.Write(blob)
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", mediaType)
			w.Write(manifest)
		default:
			http.NotFound(w, r)
		}
	}
}

// An image is judged by what its registry holds, with and without a store of
// facts.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is    string
		img   verifytest.Image
		facts remote.Facts
		want  verify.Verdict
	}{
		{"true, nothing kept", verifytest.Honest(3), nil, verify.Match},
		{"true", verifytest.Honest(3), index.NewMemory(), verify.Match},
		{"false", verifytest.Swapped(verifytest.Honest(2)), nil, verify.Mismatch},
		{"false with a cause that takes a second look", verifytest.Unpadded(verifytest.Honest(1)), nil, verify.Mismatch},
		{"of which the config is not there", verifytest.Image{MediaType: ocispec.MediaTypeImageManifest, ConfigType: ocispec.MediaTypeImageConfig, ConfigAbsent: true}, nil, verify.Mismatch},
	} {
		var read atomic.Int64
		c := serve(t, remote.Config{Facts: tt.facts, OnRead: func(n int) { read.Add(int64(n)) }}, holding(tt.img))
		repo := c.Repository("app")
		m, err := repo.Resolve(t.Context(), "1")
		if err != nil {
			t.Fatal(err)
		}
		r, err := verify.Check(t.Context(), repo, m.MediaType, m.Body)
		if err != nil || r.Verdict != tt.want {
			t.Errorf("%s: got %s, %v", tt.is, r.Verdict, err)
		}
		if len(tt.img.Layers) > 0 && read.Load() == 0 {
			t.Errorf("%s: nothing was told of what was read", tt.is)
		}
	}
}

// Bytes that have another digest than was asked for are never believed.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	good := holding(img)
	spoilt := func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		good(rec, r)
		body := rec.Body.Bytes()
		if len(body) > 0 && rec.Code == http.StatusOK {
			body[len(body)-1] ^= 1
		}
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		w.Write(body)
	}
	facts := index.NewMemory()
	repo := serve(t, remote.Config{Facts: facts}, spoilt).Repository("app")
	layer := ocispec.Descriptor{Digest: img.Layers[0].Digest()}
	for what, read := range map[string]func(context.Context) error{
		"a layer":       func(ctx context.Context) error { _, err := repo.Fact(ctx, layer); return err },
		"a second look": func(ctx context.Context) error { _, err := repo.Look(ctx, layer); return err },
		"a config": func(ctx context.Context) error {
			_, err := repo.Config(ctx, ocispec.Descriptor{Digest: img.ConfigDigest()})
			return err
		},
		"a manifest":      func(ctx context.Context) error { _, err := repo.Resolve(ctx, img.Digest().String()); return err },
		"a sha512 of all": func(ctx context.Context) error { return sha512Of(ctx, t, img, spoilt) },
	} {
		var wrong *remote.WrongBlobError
		if err := read(t.Context()); !errors.As(err, &wrong) || wrong.Repository != "app" || wrong.Got == wrong.Want {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if st, err := facts.Stat(t.Context()); err != nil || st.Facts != 0 {
		t.Errorf("%d facts were kept, %v", st.Facts, err)
	}
}

// sha512Of reads the layer under its SHA-512 digest.
func sha512Of(ctx context.Context, t *testing.T, img verifytest.Image, h http.HandlerFunc) error {
	want := digest.SHA512.FromBytes(img.Layers[0].Blob)
	repo := serve(t, remote.Config{}, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = strings.Replace(r.URL.Path, want.String(), img.Layers[0].Digest().String(), 1)
		h(w, r)
	}).Repository("app")
	_, err := repo.Fact(ctx, ocispec.Descriptor{Digest: want})
	return err
}

// Lists are read to their end, page by page, and a bad page is an error that says
// which list it is of.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is      string
		answers map[string]string // by query
		link    map[string]string
		want    []string
		fails   string
	}{
		{"one page", map[string]string{"n=500": `{"tags":["a","b"]}`}, nil, []string{"a", "b"}, ""},
		{"none", map[string]string{"n=500": `{"tags":null}`}, nil, nil, ""},
		{"three pages, linked in three ways", map[string]string{"n=500": `{"tags":["a"]}`, "last=a": `{"tags":["b"]}`, "last=b": `{"tags":["c"]}`},
			map[string]string{"n=500": `</v2/app/tags/list?last=a>; rel="next"`, "last=a": `<?last=b>; rel=next`}, []string{"a", "b", "c"}, ""},
		{"a link to another host leads to our own", map[string]string{"n=500": `{"tags":["a"]}`, "last=a": `{"tags":["b"]}`},
			map[string]string{"n=500": `<http://evil.invalid/v2/app/tags/list?last=a>; rel="next"`}, []string{"a", "b"}, ""},
		{"a page that links to itself", map[string]string{"n=500": `{"tags":["a"]}`},
			map[string]string{"n=500": `</v2/app/tags/list?n=500>; rel="next"`}, []string{"a"}, ""},
		{"no JSON", map[string]string{"n=500": `<html>`}, nil, nil, "not a page of the list"},
		{"a link that would change the host", map[string]string{"n=500": `{"tags":["a"]}`}, map[string]string{"n=500": `<x:@evil.invalid/p>; rel="next"`}, nil, "malformed Link"},
		{"a link that is none", map[string]string{"n=500": `{"tags":["a"]}`}, map[string]string{"n=500": `next`}, nil, "malformed Link"},
		{"a second page that is gone", map[string]string{"n=500": `{"tags":["a"]}`},
			map[string]string{"n=500": `</v2/app/tags/list?last=a>; rel="next"`}, []string{"a"}, "not found"},
		{"a page without end", map[string]string{"n=500": `{"tags":["` + strings.Repeat("a", 9<<20) + `"]}`}, nil, nil, "more than"},
	} {
		c := serve(t, remote.Config{}, func(w http.ResponseWriter, r *http.Request) {
			body, ok := tt.answers[r.URL.RawQuery]
			if !ok {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Link", tt.link[r.URL.RawQuery])
			io.WriteString(w, body)
		})
		var got []string
		var failed error
		for tag, err := range c.Tags(t.Context(), "app") {
			if err != nil {
				failed = err
				break
			}
			got = append(got, tag)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.is, diff)
		}
		if text := fmt.Sprint(failed); (failed != nil) != (tt.fails != "") || !strings.Contains(text, tt.fails) && tt.fails != "" {
			t.Errorf("%s: got error %v, want %q", tt.is, failed, tt.fails)
		}
	}
}

// A bearer token is fetched for what is asked, and used; the registry says who may
// not read.
func TestTokens(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	have := holding(img)
	var self string
	h := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":%q}`, "may "+r.URL.Query().Get("scope"))
		case r.Header.Get("Authorization") == "Bearer may repository:app:pull":
			have(w, r)
		default:
			name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+self+`/token",service="test",scope="repository:`+name+`:pull"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}`, http.StatusUnauthorized)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(h))
	defer server.Close()
	self = server.URL
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tt := range []struct {
		password string
		repo     string
		ok       bool
	}{{"s3cret", "app", true}, {"s3cret", "other", false}, {"guess", "app", false}} {
		c, err := remote.New(t.Context(), remote.Config{Host: host, Username: "me", Password: tt.password})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Repository(tt.repo).Resolve(t.Context(), "1"); (err == nil) != tt.ok {
			t.Errorf("%s with %s: %v", tt.repo, tt.password, err)
		}
	}
}

// A layer that is cut is no fact, and no wrong blob either.
func TestCut(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	repo := serve(t, remote.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.Write(img.Layers[0].Blob[:20])
		}
	}).Repository("app")
	_, err := repo.Fact(t.Context(), ocispec.Descriptor{Digest: img.Layers[0].Digest()})
	var wrong *remote.WrongBlobError
	if err == nil || errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
}

// An upload goes to where the registry is, over what it is asked with, wherever
// the registry thinks it is.
func TestPushLocation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is, location string // HOST stands for the registry's
		fails        string
	}{
		{"a path", "/upload?state=a", ""},
		{"a URL with another protocol", "https://HOST/upload?state=a", ""},
		{"another host", "http://evil.invalid/upload", "at another host, evil.invalid"},
	} {
		body := []byte("{}")
		var got []byte
		c := serve(t, remote.Config{}, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", strings.Replace(tt.location, "HOST", r.Host, 1))
				w.WriteHeader(http.StatusAccepted)
				return
			}
			if r.Method == http.MethodPut && r.URL.Query().Get("state") == "a" && r.URL.Query().Get("digest") == digest.FromBytes(body).String() {
				got, _ = io.ReadAll(r.Body)
				w.WriteHeader(http.StatusCreated)
			}
		})
		err := c.Repository("app").PushConfig(t.Context(), digest.FromBytes(body), body)
		if text := fmt.Sprint(err); (err != nil) != (tt.fails != "") || tt.fails != "" && !strings.Contains(text, tt.fails) {
			t.Errorf("%s: %v", tt.is, err)
		}
		if tt.fails == "" && string(got) != string(body) {
			t.Errorf("%s: the registry got %q", tt.is, got)
		}
	}
}
