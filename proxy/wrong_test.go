package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// wrongBytes is what the API says of a blob that the registry holds wrong.
type wrongBytes struct {
	WrongBytes *struct {
		Digest digest.Digest `json:"digest"`
	} `json:"wrong_bytes"`
}

// A blob that the registry gives out wrong is marked, whoever read it, until
// the registry gives it out right.
func TestWrongBlobIsMarked(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("etc/motd", "hello"))
	bad := append(bytes.Clone(blob), 'x')
	dgst, path := digest.FromBytes(blob), "/v2/a/b/blobs/"+digest.FromBytes(blob).String()
	for _, tt := range []struct {
		how  string
		read func(t *testing.T, p *testProxy) // once, unless the index knows better
	}{
		{"a client that pulls it", func(t *testing.T, p *testProxy) {
			res, err := client.Do(newRequest(t, http.MethodGet, p.URL+path, nil))
			if err == nil {
				res.Body.Close()
			}
		}},
		{"a client that asks for its diff_id", func(t *testing.T, p *testProxy) {
			do(t, http.MethodGet, p.URL+"/v2/a/b/_diffids/blobs/"+dgst.String()+"?fetch=true", nil)
		}},
		{"a client that finds it", func(t *testing.T, p *testProxy) { do(t, http.MethodHead, p.URL+path, nil) }},
	} {
		t.Run(tt.how, func(t *testing.T) {
			t.Parallel()
			d, registry := newDetour(t)
			p := newProxy(t, registry.URL, func(c *proxy.Config) { c.Ahead = 0 })
			pushBlob(t, registry.URL, "a/b", blob) // not through the proxy
			rotten := func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlobGet(r, dgst) {
					return false
				}
				_, err := w.Write(bad)
				return err == nil
			}
			d.answerWith(rotten)

			tt.read(t, p)
			eventually(t, func() bool { return p.Proxy.WrongBlobs(context.Background()) != "ok" })
			if said := p.Proxy.WrongBlobs(context.Background()); said != "the registry holds wrong bytes under "+dgst.String() {
				t.Errorf("the operator is told %q", said)
			}
			if n := p.Logs.FilterMessageSnippet("wrong blob").FilterField(zap.String("vars.name", "a/b")).Len(); n != 1 {
				t.Errorf("the log names the repository %d times, want once", n)
			}
			if n := p.metric(t, "diffid_wrong_blobs_total"); n != 1 {
				t.Errorf("counted %v wrong blobs, want 1", n)
			}
			wantWrong(t, p, "/v2/_diffids/"+dgst.String(), http.StatusNotFound, digest.FromBytes(bad))
			wantWrong(t, p, "/v2/a/b/_diffids/blobs/"+dgst.String(), http.StatusNotFound, digest.FromBytes(bad))
			if err := p.Index.Put(context.Background(), factAbout(t, blob, verify.Pushed)); err != nil {
				t.Fatal(err)
			}
			wantWrong(t, p, "/v2/_diffids/"+dgst.String(), http.StatusOK, digest.FromBytes(bad))

			// Pushing it again does not mend it: the registry keeps the file that it
			// has. Diffgate looks, and the mark stays.
			pushBlob(t, p.URL, "a/b", blob)
			eventually(t, func() bool { return p.metric(t, "diffid_wrong_blobs_total") == 2 })
			wantWrong(t, p, "/v2/_diffids/"+dgst.String(), http.StatusOK, digest.FromBytes(bad))

			d.answerWith(nil)
			pushBlob(t, p.URL, "a/b", blob)
			eventually(t, func() bool { return p.Proxy.WrongBlobs(context.Background()) == "ok" })
			wantWrong(t, p, "/v2/_diffids/"+dgst.String(), http.StatusOK, "")
		})
	}
}

// A pull that comes right takes the mark off, too.
func TestWrongBlobComesRight(t *testing.T) {
	t.Parallel()
	registry := newUpstream(t, newRegistryHandler(t, nil))
	p := newProxy(t, registry.URL, nil)
	dgst := pushBlob(t, registry.URL, "a/b", []byte("blob"))
	if err := p.Index.MarkWrong(context.Background(), verify.WrongBlob{Digest: dgst, Actual: digest.FromString("x")}); err != nil {
		t.Fatal(err)
	}
	do(t, http.MethodGet, p.URL+"/v2/a/b/blobs/"+dgst.String(), nil)
	eventually(t, func() bool {
		_, err := p.Index.WrongBlob(context.Background(), dgst)
		return errors.Is(err, verify.ErrUnknown)
	})
}

// Of many wrong blobs the operator is told of some.
func TestManyWrongBlobs(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "http://upstream", nil)
	for _, s := range []string{"1", "2", "3", "4"} {
		w := verify.WrongBlob{Digest: digest.FromString(s), Actual: digest.FromString("x")}
		if err := p.Index.MarkWrong(context.Background(), w); err != nil {
			t.Fatal(err)
		}
	}
	said := p.Proxy.WrongBlobs(context.Background())
	if strings.Count(said, "sha256:") != 3 || !strings.HasSuffix(said, " and others") {
		t.Errorf("the operator is told %q", said)
	}
}

// wantWrong asks for a record and checks what it says of the registry's bytes.
func wantWrong(t *testing.T, p *testProxy, path string, status int, actual digest.Digest) {
	t.Helper()
	a := do(t, http.MethodGet, p.URL+path, nil)
	var said wrongBytes
	if status == http.StatusOK {
		a.decode(t, &said)
	} else {
		var body struct{ Errors []struct{ Detail wrongBytes } }
		a.decode(t, &body)
		if len(body.Errors) == 1 {
			said = body.Errors[0].Detail
		}
	}
	var got digest.Digest
	if said.WrongBytes != nil {
		got = said.WrongBytes.Digest
	}
	cached := strings.Contains(a.Header.Get("Cache-Control"), "max-age")
	if a.Status != status || got != actual || cached != (actual == "") {
		t.Errorf("%s: got %d %s, Cache-Control %q; want %d, wrong bytes %q", path, a.Status, a.Body, a.Header.Get("Cache-Control"), status, actual)
	}
}
