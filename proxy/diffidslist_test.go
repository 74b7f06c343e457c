package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
)

// manyFacts returns facts in the order of their digests.
func manyFacts(n int) []verify.Fact {
	var facts []verify.Fact
	for i := range n {
		facts = append(facts, gzipFact(i))
	}
	slices.SortFunc(facts, func(a, b verify.Fact) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return facts
}

// digestsOf returns the digests of a page.
func digestsOf(t testing.TB, a answer) []digest.Digest {
	t.Helper()
	var page struct {
		DiffIDs []struct{ Digest digest.Digest }
	}
	a.decode(t, &page)
	var digests []digest.Digest
	for _, r := range page.DiffIDs {
		digests = append(digests, r.Digest)
	}
	return digests
}

// next returns the URL that the answer's Link leads to, or "".
func (a answer) next(t testing.TB, base string) string {
	t.Helper()
	link := a.Header.Get("Link")
	if link == "" {
		return ""
	}
	m := regexp.MustCompile(`^<([^>]*)>; rel="next"$`).FindStringSubmatch(link)
	if m == nil {
		t.Fatalf("got Link %q", link)
	}
	from, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	to, err := from.Parse(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return to.String()
}

// A page, as the API's contract shows it.
func TestListBody(t *testing.T) {
	t.Parallel()
	facts := manyFacts(3)
	p := newQueried(t, nil, facts...)
	got := get(t, p.URL+"/v2/_diffids?n=2")
	want := `{"diffids":[` + gzipRecord(facts[0]) + "," + gzipRecord(facts[1]) + "]}\n"
	if diff := cmp.Diff(want, string(got.Body)); got.Status != http.StatusOK || diff != "" {
		t.Errorf("got %d (-want +got):\n%s", got.Status, diff)
	}
	for k, v := range map[string]string{
		"Content-Type":                    "application/json",
		"Docker-Distribution-Api-Version": "registry/2.0",
		"Link":                            `</v2/_diffids?last=sha256%3A` + facts[1].Digest.Encoded() + `&n=2>; rel="next"`,
		"Cache-Control":                   "private, no-cache",
		"Vary":                            "Authorization, Accept",
	} {
		if got.Header.Get(k) != v {
			t.Errorf("got %s %q, want %q", k, got.Header.Get(k), v)
		}
	}
	for _, spelled := range []string{"/v2/_diffids/", "/v2/%5fdiffids", "/v2/%5Fdiffids/"} {
		if again := get(t, p.URL+spelled+"?n=2"); !bytes.Equal(again.Body, got.Body) {
			t.Errorf("%s: got %d %s, want the same as /v2/_diffids", spelled, again.Status, again.Body)
		}
	}
	head := do(t, http.MethodHead, p.URL+"/v2/_diffids?n=2", nil)
	if head.Status != http.StatusOK || len(head.Body) > 0 || head.Header.Get("Link") == "" || head.Header.Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("HEAD: got %d %q %v, want the headers of GET", head.Status, head.Body, head.Header)
	}
}

// Following the links leads once past every record, in order of the digests.
func TestListPages(t *testing.T) {
	t.Parallel()
	facts := manyFacts(250)
	p := newQueried(t, func(c *proxy.Config) { c.MaxEntries = 200 }, facts...)
	var want []digest.Digest
	for _, f := range facts {
		want = append(want, f.Digest)
	}
	for _, tt := range []struct {
		query string
		pages []int // records on each page
	}{
		{"", []int{100, 100, 50}},
		{"?n=125", []int{125, 125}}, // and no third page, which would be empty
		{"?n=124", []int{124, 124, 2}},
		{"?n=200", []int{200, 50}},
		{"?n=201", []int{200, 50}}, // clamped, as tags are
		{"?n=1000000000", []int{200, 50}},
		{"?n=", []int{100, 100, 50}},
	} {
		var got []digest.Digest
		var pages []int
		for target := p.URL + "/v2/_diffids" + tt.query; target != ""; {
			a := get(t, target)
			if a.Status != http.StatusOK {
				t.Fatalf("GET %s: got %d %s", target, a.Status, a.Body)
			}
			page := digestsOf(t, a)
			got, pages = append(got, page...), append(pages, len(page))
			target = a.next(t, p.URL)
		}
		if diff := cmp.Diff(tt.pages, pages); diff != "" {
			t.Errorf("%q: pages (-want +got):\n%s", tt.query, diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: records (-want +got):\n%s", tt.query, diff)
		}
	}
}

// Facts that are learned between two pages may be missed; none comes twice.
func TestListWhileItGrows(t *testing.T) {
	t.Parallel()
	facts := manyFacts(60)
	p := newQueried(t, nil)
	var even []digest.Digest
	for i := 0; i < len(facts); i += 2 {
		p.learn(t, facts[i])
		even = append(even, facts[i].Digest)
	}
	var got []digest.Digest
	for target, i := p.URL+"/v2/_diffids?n=7", 1; target != ""; i += 2 {
		a := get(t, target)
		got = append(got, digestsOf(t, a)...)
		target = a.next(t, p.URL)
		p.learn(t, facts[i], facts[len(facts)-i])
	}
	for i := range got[1:] {
		if got[i] >= got[i+1] {
			t.Errorf("got %s before %s", got[i], got[i+1])
		}
	}
	for _, d := range even {
		if !slices.Contains(got, d) {
			t.Errorf("%s, which was there all the time, is missing", d)
		}
	}
}

// The marks of a page: n is a number from 0; last is any text, and is left out
// itself.
func TestListParameters(t *testing.T) {
	t.Parallel()
	facts := manyFacts(4)
	p := newQueried(t, nil, facts...)
	all := []digest.Digest{facts[0].Digest, facts[1].Digest, facts[2].Digest, facts[3].Digest}
	between := facts[1].Digest[:len(facts[1].Digest)-2] + "zz"
	for _, tt := range []struct {
		is, query string
		want      []digest.Digest
		code      string
	}{
		{"nothing is wanted", "n=0", nil, ""},
		{"less than nothing", "n=-1", nil, "PAGINATION_NUMBER_INVALID"},
		{"no number", "n=abc", nil, "PAGINATION_NUMBER_INVALID"},
		{"no whole number", "n=1.5", nil, "PAGINATION_NUMBER_INVALID"},
		{"a number with an exponent", "n=1e9", nil, "PAGINATION_NUMBER_INVALID"},
		{"a number over 2^63", "n=9223372036854775808", nil, "PAGINATION_NUMBER_INVALID"},
		{"after a record", "last=" + facts[1].Digest.String(), all[2:], ""},
		{"after what is no record", "last=" + between.String(), all[2:], ""},
		{"after the last", "last=" + facts[3].Digest.String(), nil, ""},
		{"after a part of a digest", "last=sha256:", all, ""},
		{"after what sorts before all", "last=%00", all, ""},
		{"after what sorts behind all", "last=zzz", nil, ""},
	} {
		got := get(t, p.URL+"/v2/_diffids?"+tt.query)
		if tt.code != "" {
			if got.Status != http.StatusBadRequest || got.codes() != tt.code {
				t.Errorf("%s: got %d %s, want 400 %s", tt.is, got.Status, got.Body, tt.code)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, digestsOf(t, got)); got.Status != http.StatusOK || diff != "" || got.Header.Get("Link") != "" {
			t.Errorf("%s: got %d, Link %q (-want +got):\n%s", tt.is, got.Status, got.Header.Get("Link"), diff)
		}
		if tt.want == nil && string(got.Body) != `{"diffids":[]}`+"\n" {
			t.Errorf("%s: got %s, want an empty list, not null", tt.is, got.Body)
		}
	}
}

// The tag of a list changes with the DiffID index, so a client that polls pays
// only for what is new.
func TestListETag(t *testing.T) {
	t.Parallel()
	p := newQueried(t, nil, gzipFact(1))
	first := get(t, p.URL+"/v2/_diffids")
	tag := first.Header.Get("ETag")
	if !regexp.MustCompile(`^W/"[!#-~]+"$`).MatchString(tag) {
		t.Fatalf("got ETag %q, want a weak one", tag)
	}
	same := get(t, p.URL+"/v2/_diffids", "If-None-Match", tag)
	if same.Status != http.StatusNotModified || len(same.Body) > 0 || same.Header.Get("ETag") != tag {
		t.Errorf("when nothing is new: got %d %q, ETag %s; want 304", same.Status, same.Body, same.Header.Get("ETag"))
	}
	if other := get(t, p.URL+"/v2/_diffids", "If-None-Match", strings.TrimPrefix(tag, "W/")); other.Status != http.StatusNotModified {
		t.Errorf("with the tag made strong: got %d, want 304, for the comparison is weak", other.Status)
	}
	p.learn(t, gzipFact(2))
	fresh := get(t, p.URL+"/v2/_diffids", "If-None-Match", tag)
	if fresh.Status != http.StatusOK || fresh.Header.Get("ETag") == tag || len(digestsOf(t, fresh)) != 2 {
		t.Errorf("when there is more: got %d %s, ETag %s; want 200 and another", fresh.Status, fresh.Body, fresh.Header.Get("ETag"))
	}
	if old := get(t, newQueried(t, nil, gzipFact(1)).URL+"/v2/_diffids", "If-None-Match", tag); old.Status != http.StatusOK {
		t.Errorf("of another DiffID index: got %d, want 200", old.Status)
	}
}

// Who wants something else says so: an explicit version, lines for a shell, or
// the whole index as a stream.
func TestContentTypes(t *testing.T) {
	t.Parallel()
	facts := manyFacts(2)
	damaged := gzipFact(7)
	damaged.Unpacked, damaged.Problem, damaged.Reason = "", verify.Corrupt, "the stream is cut"
	p := newQueried(t, nil, append(facts, damaged)...)
	lines := fmt.Sprintf("%s %s\n%s %s\n", facts[0].Digest, facts[0].Unpacked, facts[1].Digest, facts[1].Unpacked)
	line := fmt.Sprintf("%s %s\n", facts[0].Digest, facts[0].Unpacked)
	const list, one = "/v2/_diffids", "/v2/_diffids/"
	for _, tt := range []struct {
		path, accept string
		want         string // Content-Type, or "" for 406
		body         string // when it is not JSON
	}{
		{list, "", "application/json", ""},
		{list, "*/*", "application/json", ""},
		{list, "application/json", "application/json", ""},
		{list, "application/*", "application/json", ""},
		{list, "text/html, application/json;q=0.9", "application/json", ""},
		{list, "Application/JSON", "application/json", ""},
		{list, "application/vnd.diffid.v1+json", "application/vnd.diffid.v1+json", ""},
		{list, "text/plain", "text/plain", lines},
		{list, "text/*", "text/plain", lines},
		{list, "text/html", "", ""},
		{list, "application/vnd.diffid.v2+json", "", ""},
		{list + "?digest=" + facts[0].Digest.String(), "text/plain", "text/plain", line},
		{list + "?digest=" + facts[0].Digest.String(), "application/x-ndjson", "", ""}, // which is for all
		{one + facts[0].Digest.String(), "", "application/json", ""},
		{one + facts[0].Digest.String(), "application/vnd.diffid.v1+json", "application/vnd.diffid.v1+json", ""},
		{one + facts[0].Digest.String(), "text/plain", "text/plain", line},
		{one + damaged.Digest.String(), "text/plain", "text/plain", ""},
		{one + facts[0].Digest.String(), "application/x-ndjson", "", ""},
	} {
		got := get(t, p.URL+tt.path, "Accept", tt.accept)
		switch ct := got.Header.Get("Content-Type"); {
		case tt.want == "":
			if got.Status != http.StatusNotAcceptable || got.codes() != "UNSUPPORTED" {
				t.Errorf("%s as %q: got %d %s, want 406", tt.path, tt.accept, got.Status, got.Body)
			}
		case got.Status != http.StatusOK, ct != tt.want:
			t.Errorf("%s as %q: got %d %s, want %s", tt.path, tt.accept, got.Status, ct, tt.want)
		case strings.Contains(tt.want, "json") != json.Valid(got.Body), tt.body != "" && string(got.Body) != tt.body:
			t.Errorf("%s as %q: got %q, want %q", tt.path, tt.accept, got.Body, tt.body)
		}
	}
}

// An export is the whole DiffID index, a record on each line; the last line
// counts them, so that one that was cut is found out.
func TestExport(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 99, 100, 250} {
		facts := manyFacts(n)
		p := newQueried(t, func(c *proxy.Config) { c.MaxEntries = 50 }, facts...)
		got := get(t, p.URL+"/v2/_diffids", "Accept", "application/x-ndjson")
		if ct, cc := got.Header.Get("Content-Type"), got.Header.Get("Cache-Control"); got.Status != http.StatusOK || ct != "application/x-ndjson" || cc != "no-store" {
			t.Errorf("%d records: got %d, %s, %s", n, got.Status, ct, cc)
		}
		var want []string
		for _, f := range facts {
			want = append(want, gzipRecord(f))
		}
		want = append(want, fmt.Sprintf(`{"count":%d}`, n))
		var lines []string
		for s := bufio.NewScanner(bytes.NewReader(got.Body)); s.Scan(); {
			lines = append(lines, s.Text())
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("%d records (-want +got):\n%s", n, diff)
		}
		head := do(t, http.MethodHead, p.URL+"/v2/_diffids", nil, "Accept", "application/x-ndjson")
		if head.Status != http.StatusOK || len(head.Body) > 0 || head.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("HEAD: got %d %q %v", head.Status, head.Body, head.Header)
		}
		eventually(t, func() bool {
			return p.metric(t, "diffid_http_requests_total", "route", "diffids", "method", "HEAD", "code", "200") == 1
		})
	}
}

// The DiffID index is written by evidence alone: there is nothing to write
// through the API.
func TestNothingToWrite(t *testing.T) {
	t.Parallel()
	f := gzipFact(1)
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, nil)
	p.learn(t, f)
	for _, path := range []string{
		"/v2/_diffids", "/v2/_diffids/", "/v2/_diffids/" + f.Digest.String(), "/v2/_diffids/latest",
		"/v2/app/_diffids/blobs/" + f.Digest.String(), "/v2/library/app/_diffids/manifests/1.4",
		"/v2/_oci/ext/discover",
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			got := do(t, method, p.URL+path, nil)
			if allow := got.Header.Get("Allow"); got.Status != http.StatusMethodNotAllowed || got.codes() != "UNSUPPORTED" || allow != "GET, HEAD, OPTIONS" {
				t.Errorf("%s %s: got %d %s, Allow %q; want 405 and what is allowed", method, path, got.Status, got.Body, allow)
			}
		}
		got := do(t, http.MethodOptions, p.URL+path, nil)
		if allow := got.Header.Get("Allow"); got.Status != http.StatusNoContent || allow != "GET, HEAD, OPTIONS" {
			t.Errorf("OPTIONS %s: got %d, Allow %q; want 204 and what is allowed", path, got.Status, allow)
		}
	}
	if seen := requests.take(); len(seen) > 0 {
		t.Errorf("the upstream was asked %q", seen)
	}
}
