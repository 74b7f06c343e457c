package verifytest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"diffgate/verify/verifytest"
)

// The cases are the same each time, have names of their own and say what they
// are.
func TestCases(t *testing.T) {
	t.Parallel()
	cases, again := verifytest.Cases(), verifytest.Cases()
	seen := map[string]bool{}
	for i, c := range cases {
		if c.ID != again[i].ID || c.Image.Digest() != again[i].Image.Digest() {
			t.Errorf("%s: another image in a second call", c.ID)
		}
		if seen[c.ID] || strings.ContainsAny(c.ID, " /") {
			t.Errorf("%s: not a name of its own", c.ID)
		}
		seen[c.ID] = true
		if len(c.Is) < 20 || strings.HasSuffix(c.Is, ".") || strings.Contains(c.Is, "\n") {
			t.Errorf("%s: not a sentence without its full stop: %q", c.ID, c.Is)
		}
		if (c.Answer == verifytest.Accept) != (len(c.Findings) == 0) {
			t.Errorf("%s: %s with the findings %q", c.ID, c.Answer, c.Findings)
		}
	}
	for i := 1; i <= 64; i++ {
		if id := fmt.Sprintf("M%02d", i); !seen[id] {
			t.Errorf("case %s of the matrix is missing", id)
		}
	}
}

// elsewhere are the edge cases that are another case under another name.
var elsewhere = map[int][]string{
	9:  {"M24"},
	13: {"M03", "M04"},
	14: {"M28", "M29"},
	18: {"M61", "zstd-zeros", "zstd-gzip"},
	20: {"M10", "M11", "M63", "gzip-zero", "gzip-magic", "gzip-zlib"},
	23: {"M64"},
}

// Each edge case about one image is a case: E1 to E33, but for those of
// transfers and of several manifests, which are tests of package proxy.
func TestEdgeCases(t *testing.T) {
	t.Parallel()
	var ids []string
	for _, c := range verifytest.Cases() {
		ids = append(ids, c.ID)
	}
	for i := 1; i <= 33; i++ {
		for _, id := range elsewhere[i] {
			if !slices.Contains(ids, id) {
				t.Errorf("E%d: there is no case %s", i, id)
			}
		}
		own := slices.ContainsFunc(ids, func(id string) bool { return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz") == fmt.Sprintf("E%d", i) })
		if own == (elsewhere[i] != nil) {
			t.Errorf("E%d: a case of its own: %t, and cases elsewhere: %q", i, own, elsewhere[i])
		}
	}
}
