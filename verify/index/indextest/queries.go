package indextest

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

func sorted(facts []verify.Fact) []verify.Fact {
	return slices.SortedFunc(slices.Values(facts), func(a, b verify.Fact) int { return cmp.Compare(a.Digest, b.Digest) })
}

func testListPages(t *testing.T, s index.Store) {
	want := put(t, s, Facts(100)...)
	for _, n := range []int{1, 7, 99, 100, 101} {
		var got []verify.Fact
		after := digest.Digest("")
		for {
			page := list(t, s, after, n)
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1].Digest
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", n, diff)
		}
	}
	if got := append(list(t, s, "", 0), list(t, s, "", -1)...); len(got) != 0 {
		t.Errorf("List of no facts = %v", got)
	}
}

func testListAfter(t *testing.T, s index.Store) {
	facts := Facts(200)
	lowest, highest := Fact(0), Fact(0)
	lowest.Digest = "sha256:" + digest.Digest(strings.Repeat("0", 64))
	highest.Digest = "sha256:" + digest.Digest(strings.Repeat("f", 64))
	facts = put(t, s, append(facts, lowest, highest)...)

	tests := []string{
		"", "\x00", "a", "md5:00", "sha256", "sha256:", "sha256;", "sha512:00", "t", "\xff",
		"sha256:\x00", "sha256:/", "sha256::", "sha256:@", "sha256:A", "sha256:`", "sha256:g", "sha256:\xff",
		string(lowest.Digest), string(highest.Digest), string(highest.Digest) + "0",
	}
	for i := range 16 {
		digit := "0123456789abcdef"[i : i+1]
		for _, tail := range []string{"", "0", "f", "00", "ff", "/", ":", "A", "g", strings.Repeat("f", 63)} {
			tests = append(tests, "sha256:"+digit+tail)
		}
	}
	for _, f := range facts[:40] {
		d := string(f.Digest)
		for _, cut := range []int{8, 20, 70} {
			for _, tail := range []string{"", "0", "f", "F", "g"} {
				tests = append(tests, d[:cut]+tail)
			}
		}
		tests = append(tests, d, d+"\x00", strings.ToUpper(d))
	}
	for _, after := range tests {
		want := slices.Clone(facts)
		want = slices.DeleteFunc(want, func(f verify.Fact) bool { return string(f.Digest) <= after })
		got := list(t, s, digest.Digest(after), len(facts))
		if len(got) != len(want) || len(got) > 0 && got[0].Digest != want[0].Digest {
			t.Errorf("List(%q) has %d facts, want %d", after, len(got), len(want))
		}
	}
}

func testByDiffID(t *testing.T, s index.Store) {
	facts := Facts(30)
	for i := range facts {
		if facts[i].Problem == verify.None {
			facts[i].Unpacked = Digest("shared tar", i%3)
		}
	}
	put(t, s, facts...)
	for i := range 3 {
		id := Digest("shared tar", i)
		want := slices.DeleteFunc(slices.Clone(facts), func(f verify.Fact) bool { return f.Unpacked != id })
		if diff := gocmp.Diff(sorted(want), byDiffID(t, s, id, 100)); diff != "" {
			t.Errorf("ByDiffID (-want +got):\n%s", diff)
		}
	}
	if got := byDiffID(t, s, facts[0].Digest, 100); len(got) != 0 {
		t.Errorf("ByDiffID of the digest of a blob = %v", got)
	}
}

func testByDiffIDLimit(t *testing.T, s index.Store) {
	facts := make([]verify.Fact, 10)
	for i := range facts {
		facts[i] = Fact(0)
		facts[i].Digest = Digest("twin", i)
	}
	facts = put(t, s, facts...)
	for limit := -1; limit <= len(facts)+1; limit++ {
		want := facts[:max(0, min(limit, len(facts)))]
		if diff := gocmp.Diff(want, byDiffID(t, s, facts[0].Unpacked, limit)); diff != "" {
			t.Errorf("ByDiffID with limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func testNeighbours(t *testing.T, s index.Store) {
	common := string(Digest("blob", 0))[:7+2*20]
	var facts []verify.Fact
	for _, blob := range "0123" {
		f := Fact(0)
		f.Digest = digest.Digest(common + strings.Repeat(string(blob), 24))
		f.Unpacked = digest.Digest(common + strings.Repeat(string(blob&^1), 24))
		facts = append(facts, f)
	}
	put(t, s, facts...)
	for _, want := range [][]verify.Fact{facts[:2], facts[2:]} {
		if diff := gocmp.Diff(want, byDiffID(t, s, want[0].Unpacked, 10)); diff != "" {
			t.Errorf("ByDiffID (-want +got):\n%s", diff)
		}
	}
	unknown(t, s, digest.Digest(common+strings.Repeat("4", 24)))
}
