package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

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

// What may have been changed or cut on the way does not reach a client whole
// either, but the registry is not blamed for it.
func TestDoubtfulBlobIsNotMarked(t *testing.T) {
	t.Parallel()
	blob := repeated(100_000)
	dgst := digest.FromBytes(blob)
	for _, tt := range []struct {
		is     string
		answer string // of the upstream, before it closes the connection
	}{
		{"encoded on the way", "Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\nabcdef"},
		{"cut where only the end of the connection is its end", "\r\n" + string(blob[:50_000])},
	} {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n" + tt.answer) // the proxy may have gone
			_ = buf.Flush()
			_ = conn.Close()
		}))
		p := newProxy(t, upstream.URL, nil)
		for _, path := range []string{"/v2/a/blobs/" + dgst.String(), "/v2/a/_diffids/blobs/" + dgst.String() + "?fetch=true"} {
			res, err := client.Do(newRequest(t, http.MethodGet, p.URL+path, nil))
			if err != nil {
				continue
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				t.Errorf("%s, %s: the client took %d bytes for the whole", tt.is, path, len(got))
			}
		}
		eventually(t, func() bool { return p.Logs.FilterMessageSnippet("encoded or cut on the way").Len() > 0 })
		if n := p.metric(t, "diffid_wrong_blobs_total"); n != 0 || p.Proxy.WrongBlobs(context.Background()) != "ok" {
			t.Errorf("%s: counted %v wrong blobs, the operator is told %q", tt.is, n, p.Proxy.WrongBlobs(context.Background()))
		}
	}
}

// A part that is all of a blob is proven as the whole is: some clients ask for
// bytes=0- first.
func TestWholeAsAPart(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("noise", string(repeated(200_000))))
	bad := bytes.Clone(blob)
	bad[len(bad)/2] ^= 1
	for _, tt := range []struct {
		is, asked string
		sent      []byte
		whole     bool // reaches the client
		learned   bool
	}{
		{"all of the right blob", "bytes=0-", blob, true, true},
		{"all of a wrong blob", "bytes=0-", bad, false, false},
		{"a part of the right blob", "bytes=1-", blob, true, false},
		{"a part of a wrong blob, which nobody can tell", "bytes=1-", bad, true, false},
	} {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(tt.sent))
		}))
		p := newProxy(t, upstream.URL, nil)
		res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+digest.FromBytes(blob).String(), nil, "Range", tt.asked))
		whole := err == nil
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
			whole = err == nil && res.StatusCode == http.StatusPartialContent
		}
		if whole != tt.whole {
			t.Errorf("%s: reached the client: %t, want %t", tt.is, whole, tt.whole)
		}
		if tt.learned {
			p.fact(t, digest.FromBytes(blob))
		} else if known := p.facts(t); len(known) > 0 {
			t.Errorf("%s: learned %v", tt.is, known)
		}
	}
}

// A config that the gate reads wrong is marked as a layer is.
func TestWrongConfigIsMarked(t *testing.T) {
	t.Parallel()
	d, registry := newDetour(t)
	p := newProxy(t, registry.URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, registry.URL, "app", img) // not through the proxy
	config := digest.FromBytes(img.Config())
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlobGet(r, config) {
			return false
		}
		_, err := w.Write([]byte("{}"))
		return err == nil
	})
	mediaType, body := img.Manifest()
	if a := putManifest(t, p.URL, "app", "1", mediaType, body); a.Status != http.StatusBadGateway {
		t.Errorf("got %d %s, want 502", a.Status, a.Body)
	}
	eventually(t, func() bool {
		return p.Proxy.WrongBlobs(context.Background()) == "the registry holds wrong bytes under "+config.String()
	})
	d.answerWith(nil)
	if a := putManifest(t, p.URL, "app", "1", mediaType, body); a.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", a.Status, a.Body)
	}
	eventually(t, func() bool { return p.Proxy.WrongBlobs(context.Background()) == "ok" })
}

// Clients that try again do not make the DiffID index write again.
func TestWrongBlobIsMarkedOnce(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, serveBytes([]byte("other"), true)).URL, nil)
	dgst := digest.FromString("blob")
	seen := time.Now().Add(-30 * time.Second).UTC().Truncate(time.Second)
	mark := verify.WrongBlob{Digest: dgst, Actual: digest.FromString("other"), SeenAt: seen}
	if err := p.Index.MarkWrong(context.Background(), mark); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil))
		if err == nil {
			res.Body.Close()
		}
	}
	eventually(t, func() bool { return p.metric(t, "diffid_wrong_blobs_total") == 3 })
	p.Proxy.Close() // ends what is written in the background
	if got, err := p.Index.WrongBlob(context.Background(), dgst); err != nil || got != mark {
		t.Errorf("the mark became %+v, %v", got, err)
	}
}
