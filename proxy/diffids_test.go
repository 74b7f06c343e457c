package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// learned is when the facts of these tests were learned.
var learned = time.Date(2026, time.November, 23, 6, 26, 18, 0, time.UTC)

// gzipFact returns a fact about a gzip blob, made from a seed.
func gzipFact(seed int) verify.Fact {
	return verify.Fact{
		Digest: digest.FromString(fmt.Sprint("blob ", seed)), Size: 121, Encoding: verify.Gzip,
		Unpacked: digest.FromString(fmt.Sprint("content ", seed)), UnpackedSize: 2048,
		Parts: 1, Source: verify.Pushed, LearnedAt: learned,
	}
}

// gzipRecord returns the record of a gzipFact.
func gzipRecord(f verify.Fact) string {
	return fmt.Sprintf(`{"digest":"%s","size":121,"encoding":"gzip","diff_id":"%s","unpacked_size":2048,"source":"push","verified_at":"2026-11-23T06:26:18Z"}`,
		f.Digest, f.Unpacked)
}

// newQueried starts a Proxy that knows facts, before a registry that lists its
// catalog to everybody.
func newQueried(t testing.TB, edit func(*proxy.Config), facts ...verify.Fact) *testProxy {
	t.Helper()
	reg := newRegistry(t)
	pushBlob(t, reg.URL, "app", nil) // distribution has no catalog before it has a repository
	p := newProxy(t, reg.URL, edit)
	p.learn(t, facts...)
	return p
}

// learn puts facts into the DiffID index.
func (p *testProxy) learn(t testing.TB, facts ...verify.Fact) {
	t.Helper()
	for _, f := range facts {
		if err := p.Index.Put(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t testing.TB, target string, header ...string) answer {
	t.Helper()
	return do(t, http.MethodGet, target, nil, header...)
}

// A record says what the bytes are, and nothing about where they are. What is
// usual is left out.
func TestRecord(t *testing.T) {
	t.Parallel()
	var (
		d  = func(s string) digest.Digest { return digest.FromString(s) }
		id = d("content")
	)
	for _, tt := range []struct {
		is   string
		fact verify.Fact
		want string // without the digest
	}{
		{"a gzip layer", verify.Fact{Digest: d("1"), Size: 121, Encoding: verify.Gzip, Unpacked: id, UnpackedSize: 2048, Parts: 1, Source: verify.Pushed, LearnedAt: learned},
			`"size":121,"encoding":"gzip","diff_id":"` + id.String() + `","unpacked_size":2048,"source":"push","verified_at":"2026-11-23T06:26:18Z"}`},
		{"a gzip layer of three members and zeros behind them", verify.Fact{Digest: d("2"), Size: 121, Encoding: verify.Gzip, Unpacked: id, UnpackedSize: 2048, Parts: 3, Trailing: 512, Quirks: verify.TrailingZeros, Source: verify.Pulled, LearnedAt: learned},
			`"size":121,"encoding":"gzip","diff_id":"` + id.String() + `","unpacked_size":2048,"members":3,"trailing_bytes":512,"quirks":["trailing_zeros"],"source":"pull","verified_at":"2026-11-23T06:26:18Z"}`},
		{"a blob of no bytes", verify.Fact{Digest: d(""), Unpacked: d(""), Parts: 1, Source: verify.Fetched, LearnedAt: learned},
			`"size":0,"encoding":"identity","diff_id":"` + d("").String() + `","unpacked_size":0,"source":"fetch","verified_at":"2026-11-23T06:26:18Z"}`},
		{"a corrupt layer, which has no diff_id", verify.Fact{Digest: d("4"), Size: 60, Encoding: verify.Zstd, UnpackedSize: 7, Parts: 1, Problem: verify.Corrupt, Reason: "the stream is cut", Source: verify.Scanned, LearnedAt: learned},
			`"size":60,"encoding":"zstd","problem":"corrupt","reason":"the stream is cut","source":"scan","verified_at":"2026-11-23T06:26:18Z"}`},
		{"an xz layer, which is not decoded", verify.Fact{Digest: d("5"), Size: 60, Encoding: verify.XZ, Parts: 1, Problem: verify.Unsupported, Reason: "xz is not decoded", Source: verify.Pushed, LearnedAt: learned},
			`"size":60,"encoding":"xz","problem":"unsupported","reason":"xz is not decoded","source":"push","verified_at":"2026-11-23T06:26:18Z"}`},
	} {
		p := newQueried(t, nil, tt.fact)
		want := `{"digest":"` + tt.fact.Digest.String() + `",` + tt.want + "\n"
		got := get(t, p.URL+"/v2/_diffids/"+tt.fact.Digest.String())
		if diff := cmp.Diff(want, string(got.Body)); got.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: got %d (-want +got):\n%s", tt.is, got.Status, diff)
		}
	}
}

// The headers let a cache keep a record for a day, and a client ask whether
// it is still the same.
func TestRecordHeaders(t *testing.T) {
	t.Parallel()
	f := gzipFact(1)
	p := newQueried(t, nil, f)
	path := p.URL + "/v2/_diffids/" + f.Digest.String()
	body := gzipRecord(f) + "\n"
	sum := sha256.Sum256([]byte(body))
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	wantHeader := map[string]string{
		"Content-Type": "application/json", "Content-Length": fmt.Sprint(len(body)),
		"Docker-Distribution-Api-Version": "registry/2.0", "ETag": tag,
		"Cache-Control": "private, max-age=86400", "Vary": "Authorization, Accept",
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		got := do(t, method, path, nil)
		for k, v := range wantHeader {
			if got.Header.Get(k) != v {
				t.Errorf("%s: got %s %q, want %q", method, k, got.Header.Get(k), v)
			}
		}
		if method == http.MethodHead {
			body = ""
		}
		if got.Status != http.StatusOK || string(got.Body) != body {
			t.Errorf("%s: got %d %q, want 200 %q", method, got.Status, got.Body, body)
		}
	}
	for header, status := range map[string]int{
		tag: 304, "W/" + tag: 304, "*": 304, `"x", ` + tag: 304, `"x"`: 200, "": 200, strings.Trim(tag, `"`): 200,
	} {
		got := get(t, path, "If-None-Match", header)
		if got.Status != status || (status == 304) != (len(got.Body) == 0) || got.Header.Get("ETag") != tag {
			t.Errorf("If-None-Match %s: got %d %q, ETag %s; want %d", header, got.Status, got.Body, got.Header.Get("ETag"), status)
		}
	}
}

// What nobody hashed is not found, and not for a cache to remember; what is no
// digest is not asked for.
func TestNoRecord(t *testing.T) {
	t.Parallel()
	p := newQueried(t, nil, gzipFact(1))
	unknown := digest.FromString("unknown").String()
	for _, tt := range []struct {
		path, code string
		status     int
	}{
		{unknown, "BLOB_UNKNOWN", http.StatusNotFound},
		{digest.SHA512.FromString("").String(), "BLOB_UNKNOWN", http.StatusNotFound},
		{"sha256:abc", "DIGEST_INVALID", http.StatusBadRequest},
		{strings.ToUpper(unknown), "DIGEST_INVALID", http.StatusBadRequest},
		{"sha256:" + strings.ToUpper(strings.TrimPrefix(gzipFact(1).Digest.String(), "sha256:")), "DIGEST_INVALID", http.StatusBadRequest},
		{unknown + "0", "DIGEST_INVALID", http.StatusBadRequest},
		{"md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID", http.StatusBadRequest},
		{"latest", "DIGEST_INVALID", http.StatusBadRequest},
		{"%22%7B%25", "DIGEST_INVALID", http.StatusBadRequest},
	} {
		for _, scope := range []string{"/v2/_diffids/", "/v2/app/_diffids/blobs/"} {
			got := get(t, p.URL+scope+tt.path)
			if got.Status != tt.status || got.codes() != tt.code {
				t.Errorf("%s%s: got %d %s, want %d %s", scope, tt.path, got.Status, got.Body, tt.status, tt.code)
			}
			if c := got.Header.Get("Cache-Control"); tt.status == http.StatusNotFound && c != "no-store" {
				t.Errorf("%s%s: got Cache-Control %q, want no-store", scope, tt.path, c)
			}
			if got := do(t, http.MethodHead, p.URL+scope+tt.path, nil); got.Status != tt.status || len(got.Body) > 0 {
				t.Errorf("HEAD %s%s: got %d %q, want %d and nothing", scope, tt.path, got.Status, got.Body, tt.status)
			}
		}
	}
}

// A batch answers in the order of the questions, and names what it does not
// know.
func TestBatch(t *testing.T) {
	t.Parallel()
	facts := []verify.Fact{gzipFact(1), gzipFact(2), gzipFact(3)}
	p := newQueried(t, nil, facts...)
	unknown := []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")}
	ask := func(digests ...digest.Digest) string {
		query := ""
		for _, d := range digests {
			query += "&digest=" + d.String()
		}
		return p.URL + "/v2/_diffids?" + strings.TrimPrefix(query, "&")
	}
	many := slices.Repeat([]digest.Digest{facts[0].Digest}, 101)
	for _, tt := range []struct {
		is     string
		target string
		status int
		want   string // body, or code
	}{
		{"in the order of the request", ask(facts[2].Digest, facts[0].Digest), 200,
			`{"diffids":[` + gzipRecord(facts[2]) + "," + gzipRecord(facts[0]) + "]}\n"},
		{"some are unknown", ask(unknown[0], facts[1].Digest, unknown[1]), 200,
			`{"diffids":[` + gzipRecord(facts[1]) + `],"unknown":["` + unknown[0].String() + `","` + unknown[1].String() + `"]}` + "\n"},
		{"all are unknown", ask(unknown[0]), 200, `{"diffids":[],"unknown":["` + unknown[0].String() + `"]}` + "\n"},
		{"a hundred", ask(many[:100]...), 200, `{"diffids":[` + strings.Repeat(","+gzipRecord(facts[0]), 100)[1:] + "]}\n"},
		{"a hundred and one", ask(many...), 400, "UNSUPPORTED"},
		{"one is no digest", ask(facts[0].Digest, "sha256:x"), 400, "DIGEST_INVALID"},
		{"one is nothing", p.URL + "/v2/_diffids?digest=", 400, "DIGEST_INVALID"},
		{"both directions at once", ask(facts[0].Digest) + "&diff_id=" + facts[0].Unpacked.String(), 400, "UNSUPPORTED"},
	} {
		got := get(t, tt.target)
		if text := string(got.Body); got.Status != tt.status || text != tt.want && got.codes() != tt.want {
			t.Errorf("%s: got %d %s, want %d %s", tt.is, got.Status, got.Body, tt.status, tt.want)
		}
	}
}

// One content has many digests: of other compressors, of other levels. The
// reverse lookup names them all, by each DiffID asked for, in order.
func TestReverse(t *testing.T) {
	t.Parallel()
	facts := []verify.Fact{gzipFact(1), gzipFact(2), gzipFact(3), gzipFact(4), gzipFact(5)}
	for i := range facts[:3] {
		facts[i].Unpacked = digest.FromString("one content")
	}
	damaged := gzipFact(6)
	damaged.Unpacked, damaged.Problem, damaged.Reason = "", verify.Corrupt, "the stream is cut"
	p := newQueried(t, func(c *proxy.Config) { c.MaxEntries = 2 }, append(facts, damaged)...)
	slices.SortFunc(facts[:3], func(a, b verify.Fact) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	ask := func(ids ...digest.Digest) answer {
		query := ""
		for _, id := range ids {
			query += "&diff_id=" + id.String()
		}
		return get(t, p.URL+"/v2/_diffids?"+query[1:])
	}
	one := facts[0].Unpacked
	for _, tt := range []struct {
		is   string
		got  answer
		want string
	}{
		{"one diff_id", ask(facts[3].Unpacked), gzipRecord(facts[3])},
		{"of more digests, as many as a page has", ask(one), gzipRecord(facts[0]) + "," + gzipRecord(facts[1])},
		{"two diff_ids, in the order of the request", ask(facts[4].Unpacked, facts[3].Unpacked), gzipRecord(facts[4]) + "," + gzipRecord(facts[3])},
		{"an unknown one", ask(digest.FromString("x")), ""},
		{"the digest of a blob is no diff_id", ask(facts[3].Digest), ""},
	} {
		if diff := cmp.Diff(`{"diffids":[`+tt.want+"]}\n", string(tt.got.Body)); tt.got.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: got %d (-want +got):\n%s", tt.is, tt.got.Status, diff)
		}
	}
	if got := ask("sha256:x"); got.Status != http.StatusBadRequest || got.codes() != "DIGEST_INVALID" {
		t.Errorf("no digest: got %d %s, want 400 DIGEST_INVALID", got.Status, got.Body)
	}
}

// In a repository, a record needs the right to read the blob there; with
// fetch=true what nobody hashed yet is hashed.
func TestRecordInARepository(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	p := newProxy(t, reg.URL, nil)
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	path := "/v2/library/app/_diffids/blobs/" + pushBlob(t, reg.URL, "library/app", layer.Blob).String()
	requests.take()
	head := "HEAD /v2/library/app/blobs/" + layer.Digest().String() + " len=0"
	fetch := "GET /v2/library/app/blobs/" + layer.Digest().String() + " len=0"
	for _, tt := range []struct {
		is     string
		method string
		query  string
		status int
		asked  []string
	}{
		{"unknown, and to be cheap", http.MethodGet, "", 404, []string{head}},
		{"the same in other words", http.MethodGet, "?fetch=false", 404, []string{head}},
		{"unknown, and to be hashed", http.MethodHead, "?fetch=true", 200, []string{head, fetch}},
		{"known", http.MethodGet, "", 200, []string{head}},
		{"known, and need not be hashed", http.MethodGet, "?fetch=true", 200, []string{head}},
	} {
		got := do(t, tt.method, p.URL+path+tt.query, nil)
		if got.Status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.is, got.Status, got.Body, tt.status)
		}
		if diff := cmp.Diff(tt.asked, requests.take()); diff != "" {
			t.Errorf("%s: requests at the upstream (-want +got):\n%s", tt.is, diff)
		}
	}
	if diff := cmp.Diff(factAbout(t, layer.Blob, verify.Fetched), p.fact(t, layer.Digest())); diff != "" {
		t.Errorf("fact (-want +got):\n%s", diff)
	}
	got := get(t, p.URL+path)
	want := regexp.MustCompile(fmt.Sprintf(`^{"digest":"%s","size":%d,"encoding":"gzip","diff_id":"%s","unpacked_size":2048,"source":"fetch","verified_at":"20[^"]*Z"}\n$`,
		layer.Digest(), len(layer.Blob), layer.DiffID()))
	if !want.Match(got.Body) {
		t.Errorf("got %s, want %s", got.Body, want)
	}
}

// An index that fails is not an index that does not know.
func TestQueriesToAnIndexThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	store := &brokenStore{Memory: index.NewMemory(), get: broken, query: broken}
	p := newQueried(t, func(c *proxy.Config) { c.Index = store })
	pushBlob(t, p.URL, "app", []byte("x"))
	dgst := digest.FromString("x").String()
	for _, path := range []string{
		"/v2/_diffids", "/v2/_diffids?digest=" + dgst, "/v2/_diffids/" + dgst, "/v2/app/_diffids/blobs/" + dgst,
	} {
		got := get(t, p.URL+path)
		if got.Status != http.StatusServiceUnavailable || got.codes() != "UNAVAILABLE" || bytes.Contains(got.Body, []byte("input/output")) {
			t.Errorf("%s: got %d %s, want 503 UNAVAILABLE without the cause", path, got.Status, got.Body)
		}
	}
}

// An export of which the rest cannot be read is cut: nobody takes it for whole.
func TestExportThatIsCut(t *testing.T) {
	t.Parallel()
	store := &brokenStore{Memory: index.NewMemory(), query: errors.New("input/output error"), lists: 3}
	p := newQueried(t, func(c *proxy.Config) { c.Index, c.MaxEntries = store, 50 })
	for i := range 500 {
		if err := store.Memory.Put(t.Context(), gzipFact(i)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/_diffids", nil, "Accept", "application/x-ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil || len(body) == 0 || bytes.Contains(body, []byte("count")) {
		t.Errorf("got %d bytes, %v; want some, and the connection cut", len(body), err)
	}
}
