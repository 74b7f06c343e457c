package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// Every case of the kit gets its answer from the gate, by whatever way its
// blobs came to a real registry, by tag and by digest, enforcing and in audit
// mode, and the registry holds what was accepted and nothing else.
//
// With the race detector, which makes this four times as slow, each case goes
// by one of the ways in turn.
func TestCases(t *testing.T) {
	t.Parallel()
	all := verifytest.Cases()
	reg := newUpstream(t, newRegistryHandler(t, func(c *configuration.Configuration) {
		c.Validation.Manifests.URLs.Allow = []string{"^https://layers\\.example/"}
	}))
	race := raceEnabled(t)
	for i, way := range pushWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			var together []verifytest.Case
			for k, c := range all {
				switch {
				case way.cannot != nil && way.cannot(c.Image), race && k%len(pushWays) != i:
				case way.alone, missing(c.Image) > 0: // what others teach the proxy it must not know
					pushCases(t, reg.URL, way, c)
				default:
					together = append(together, c)
				}
			}
			pushCases(t, reg.URL, way, together...)
		})
	}
}

// raceEnabled reports whether the tests look for data races.
func raceEnabled(t *testing.T) bool {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the test does not know how it was built")
	}
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// pushCases pushes cases, each to a repository of its own, through two proxies
// that share a DiffID index: they know what they saw of these cases by this way.
func pushCases(t *testing.T, registry string, way pushWay, cases ...verifytest.Case) {
	enforce := newProxy(t, registry, nil)
	audit := newProxy(t, registry, func(cfg *proxy.Config) { cfg.Mode, cfg.Index = proxy.Audit, enforce.Index })
	judged := map[verify.Verdict]float64{}
	for _, c := range cases {
		s := site{registry, enforce.URL, way.name + "-" + strings.ToLower(c.ID)}
		for dgst, blob := range c.Image.Blobs() {
			way.push(t, s, dgst, blob)
		}
		checkCase(t, s, "1.4", c, answerTo(c, proxy.Enforce))
		checkCase(t, s, c.Image.Digest().String(), c, answerTo(c, proxy.Enforce))
		s.proxy = audit.URL
		checkCase(t, s, "1.4", c, answerTo(c, proxy.Audit))
		judged[c.Verdict]++
	}
	for verdict, n := range judged {
		if got := enforce.metric(t, "diffid_manifests_checked_total", "verdict", string(verdict)); got != 2*n {
			t.Errorf("%s: got %v manifests counted as %s, want %v", way.name, got, verdict, 2*n)
		}
		if got := audit.metric(t, "diffid_manifests_checked_total", "verdict", string(verdict)); got != n {
			t.Errorf("%s: got %v manifests counted as %s in audit mode, want %v", way.name, got, verdict, n)
		}
	}
}

// checkCase pushes the manifest of a case and compares what comes of it.
func checkCase(t *testing.T, s site, reference string, c verifytest.Case, want caseAnswer) {
	t.Helper()
	mediaType, body := c.Image.Manifest()
	a := putManifest(t, s.proxy, s.repo, reference, mediaType, body)
	got := caseAnswer{Status: a.Status, Codes: a.codes()}
	for _, line := range a.Header.Values("Warning") {
		got.Warnings++
		if strings.HasSuffix(line, `(audit mode)"`) {
			got.Audited++
		}
	}
	checkWarnings(t, a.Header.Values("Warning"))
	if want.Findings != nil {
		got.Findings = a.findings(t)
	}
	stored := storedManifest(t, s.registry, s.repo, reference)
	if stored != nil && !bytes.Equal(stored, body) {
		t.Errorf("%s: the registry holds %s, not %s", s.repo, stored, body)
	}
	got.Stored = stored != nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s: PUT %s: %s (-want +got):\n%s", s.repo, c.Is, reference, a.Body, diff)
	}
}

// A caseAnswer is what a client, and then the registry, has of a case.
type caseAnswer struct {
	Status   int
	Codes    string   // one for each error
	Findings []string // in the details of a refusal by the gate
	Warnings int
	Audited  int // warnings of what would have been refused
	Stored   bool
}

// answerTo returns what is to become of a case.
func answerTo(c verifytest.Case, mode proxy.Mode) caseAnswer {
	bad := rejected(c)
	switch {
	case mode == proxy.Enforce && len(bad) > 0:
		code := "MANIFEST_INVALID"
		if strings.HasSuffix(bad[0], "blob_unknown") {
			code = "MANIFEST_BLOB_UNKNOWN"
		}
		return caseAnswer{Status: http.StatusBadRequest, Codes: codes(code, len(bad)), Findings: bad}
	case isNowhere(c.Image): // what distribution says of a foreign layer without URLs
		return caseAnswer{Status: http.StatusInternalServerError, Codes: "UNKNOWN,UNKNOWN,MANIFEST_BLOB_UNKNOWN"}
	case missing(c.Image) > 0: // distribution refuses what the gate lets pass
		return caseAnswer{Status: http.StatusBadRequest, Codes: codes("MANIFEST_BLOB_UNKNOWN", missing(c.Image))}
	}
	return caseAnswer{Status: http.StatusCreated, Warnings: len(c.Findings), Audited: len(bad), Stored: true}
}

// rejected returns the findings of a case for which it is refused.
func rejected(c verifytest.Case) []string {
	return slices.DeleteFunc(slices.Clone(c.Findings), func(f string) bool {
		return strings.HasSuffix(f, ": not_portable") || f == "image: not_an_image"
	})
}

// isNowhere reports whether an image has a foreign layer that is neither in the
// registry nor at any URL.
func isNowhere(img verifytest.Image) bool {
	return slices.ContainsFunc(img.Layers, func(l verifytest.Layer) bool { return l.Absent && isForeign(l) && len(l.URLs) == 0 })
}

func isForeign(l verifytest.Layer) bool {
	return strings.Contains(l.MediaType, ".foreign.") || strings.Contains(l.MediaType, ".nondistributable.")
}

// missing counts the descriptors of blobs that distribution misses.
func missing(img verifytest.Image) int {
	n := 0
	if img.ConfigAbsent {
		n++
	}
	for _, l := range img.Layers {
		if l.Absent && !isForeign(l) {
			n++
		}
	}
	return n
}

func codes(code string, n int) string {
	return strings.Join(slices.Repeat([]string{code}, n), ",")
}

// findings returns what the details of a refusal say, as cases say it.
func (a answer) findings(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, e := range a.errors(t) {
		d := e.detail(t)
		at, cause := "image", ""
		if d.Layer != nil {
			at = fmt.Sprint(*d.Layer)
		}
		if d.Cause != "" {
			cause = fmt.Sprintf(" (%s)", d.Cause)
		}
		found = append(found, fmt.Sprintf("%s: %s%s", at, d.Reason, cause))
	}
	return found
}
