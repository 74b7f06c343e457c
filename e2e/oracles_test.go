//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// An oracle is a real runtime, or a client that unpacks images as one does.
type oracle struct {
	name   string
	needs  []string // programs on the PATH
	builds []string // programs that clients/build has built
	slow   bool     // by default it reads only some of the cases
	tool   bool     // it unpacks whatever it is given, and runs nothing

	// start returns what pulls a case from the registry and reads its files.
	start func(t *testing.T, registry http.Handler) (puller, error)
}

// A puller pulls a case as a runtime does. It returns the files that the
// runtime would run, or why the runtime refuses to. It remembers nothing of
// earlier cases.
type puller func(c verifytest.Case) (tree, error)

// A reading is what an oracle made of a case.
type reading struct {
	asked   bool
	files   tree  // nil if the oracle refuses the case
	refused error // nil if the oracle runs the case
}

// A trial is a case, the answer of the gate, and what each oracle made of it.
type trial struct {
	verifytest.Case

	answer   verifytest.Answer
	verdict  verify.Verdict
	claimed  tree // nil if no content with that diff_id is known
	readings map[string]*reading
}

// Real runtimes pull every case of package verifytest, without the gate between.
// The test holds the gate's answers against what the runtimes would run.
// By default the daemons read a sample of the cases; DIFFGATE_ORACLES=all makes
// them read all.
func TestRuntimesReadCases(t *testing.T) {
	t.Parallel()
	trials := judgeCases(t)
	registry := shelf(trials)
	oracles := allOracles()
	t.Run("read", func(t *testing.T) {
		for _, o := range oracles {
			t.Run(o.name, func(t *testing.T) {
				t.Parallel()
				o.read(t, registry, trials)
			})
		}
	})
	for _, c := range trials {
		c.check(t, oracles)
	}
	t.Log(tally(oracles, trials))
}

// judgeCases returns all cases with the answer that the gate gives now.
func judgeCases(t *testing.T) (trials []*trial) {
	t.Helper()
	cases := verifytest.Cases()
	contents := contentsOf(cases)
	for _, c := range cases {
		mediaType, body := c.Image.Manifest()
		report, err := verify.Check(context.Background(), verifytest.Repo(c.Image.Blobs()), mediaType, body)
		if err != nil {
			t.Fatalf("%s: %v", c.ID, err)
		}
		trials = append(trials, &trial{Case: c, answer: answerOf(report), verdict: report.Verdict,
			claimed: contents.claimed(c.Image), readings: map[string]*reading{}})
	}
	for _, o := range allOracles() {
		for _, c := range trials {
			c.readings[o.name] = &reading{}
		}
	}
	return trials
}

// answerOf returns the answer of the default policy to a report.
func answerOf(r verify.Report) verifytest.Answer {
	switch p := (verify.Policy{}); {
	case len(p.Rejections(r.Findings)) > 0:
		return verifytest.Reject
	case len(p.Warnings(r.Findings)) > 0:
		return verifytest.Warn
	}
	return verifytest.Accept
}

// read lets an oracle read the cases, one after the other.
func (o oracle) read(t *testing.T, registry http.Handler, trials []*trial) {
	for _, p := range o.needs {
		if what := lacks(p); what != "" {
			missing(t.Skip, t.Fatalf, what)
		}
	}
	for _, p := range o.builds {
		built(t, p)
	}
	pull, err := o.start(t, registry)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range trials {
		if o.slow && os.Getenv("DIFFGATE_ORACLES") != "all" && i%sample != 0 {
			continue
		}
		r := c.readings[o.name]
		r.asked = true
		r.files, r.refused = pull(c.Case)
		if hung(r.refused) {
			t.Errorf("%s: %v", c.ID, r.refused)
		}
	}
}

// A daemon reads one of so many cases by default.
const sample = 6

// built returns the path of a program that clients/build has built.
func built(t *testing.T, name string) string {
	return tools(func(format string, args ...any) {
		missing(t.Skip, t.Fatalf, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}, "clients/build", "-n", name) + "/" + name
}

// check compares the answer to a case with what the oracles made of it.
func (c *trial) check(t *testing.T, oracles []oracle) {
	var first string // the oracle whose files are compared with those of the others
	for _, o := range oracles {
		r := c.readings[o.name]
		switch image := c.verdict != verify.NotAnImage; {
		case !r.asked || c.answer == verifytest.Reject, o.tool && !image:
		case r.refused == nil && !r.files.equal(c.claimed):
			t.Errorf("%s: the gate answers %s, and %s runs %s; the diff_ids claim %s", c.ID, c.answer, o.name, r.files, c.claimed)
		case r.refused != nil && image && c.answer == verifytest.Accept && !excused(o, c.Case):
			t.Errorf("%s: the gate accepts without a warning, and %s refuses: %v", c.ID, o.name, r.refused)
		}
		if !r.asked || r.refused != nil || o.tool && c.verdict == verify.NotAnImage {
			continue
		}
		if first == "" {
			first = o.name
		} else if a := c.readings[first].files; !a.equal(r.files) && c.answer != verifytest.Reject {
			t.Errorf("%s: the gate answers %s, though %s runs %s and %s runs %s", c.ID, c.answer, first, a, o.name, r.files)
		}
	}
}
