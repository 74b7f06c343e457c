//go:build linux

package e2e

import (
	"context"
	"errors"
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

const (
	disablePigz  = "CONTAINERD_DISABLE_PIGZ=1"
	disableIgzip = "CONTAINERD_DISABLE_IGZIP=1"
)

// allOracles returns every runtime, with every gzip decoder that it can use.
func allOracles() []oracle {
	return []oracle{
		{name: "crane export", builds: []string{"crane"}, tool: true, start: startCraneExport},
		{name: "crane validate", builds: []string{"crane"}, tool: true, start: startCraneValidate},
		{name: "umoci", needs: []string{"root", "skopeo", "umoci"}, start: startUmoci},
		{name: "podman", needs: []string{"root", "podman"}, start: startPodman},
		{name: "docker, unpigz", needs: dockerNeeds, slow: true, start: startDocker()},
		{name: "docker, Go", needs: dockerNeeds, slow: true, start: startDocker("MOBY_DISABLE_PIGZ=true")},
		{name: "containerd 1.6, unpigz", needs: containerdNeeds, slow: true, start: startContainerd1()},
		{name: "containerd 1.6, Go", needs: containerdNeeds, slow: true, start: startContainerd1(disablePigz)},
		{name: "containerd 2, igzip", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false)},
		{name: "containerd 2, unpigz", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false, disableIgzip)},
		{name: "containerd 2, Go", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(false, disableIgzip, disablePigz)},
		{name: "containerd 2 --local, Go", needs: containerdNeeds, builds: containerd2Builds, slow: true, start: startContainerd2(true, disableIgzip, disablePigz)},
	}
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
	named    []verify.Runtime // by warnings
	claimed  tree             // nil if no content with that diff_id is known
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
	excuses.checkUse(t, oracles, trials)
	t.Log("Warnings that name other runtimes than those that refuse the image:", misnamed(oracles, trials))
	t.Log("Images that the gate refuses, and that would run with other files:", prevented(oracles, trials))
	t.Log("What the runtimes make of the cases:", tally(oracles, trials))
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
		trial := &trial{Case: c, answer: answerOf(report), verdict: report.Verdict,
			claimed: contents.claimed(c.Image), readings: map[string]*reading{}}
		for _, f := range report.Findings {
			trial.named = append(trial.named, f.Runtimes...)
		}
		for _, o := range allOracles() {
			trial.readings[o.name] = &reading{}
		}
		trials = append(trials, trial)
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
		if o.slow && !everything() && i%sample != 0 {
			continue
		}
		r := c.readings[o.name]
		r.asked = true
		r.files, r.refused = pull(c.Case)
		if errors.Is(r.refused, errHung) || errors.Is(r.refused, errUnread) {
			t.Errorf("%s: %v", c.ID, r.refused)
		}
	}
}

// everything reports whether all oracles read all cases.
func everything() bool { return os.Getenv("DIFFGATE_ORACLES") == "all" }

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
	if c.answer == verifytest.Reject {
		return
	}
	var first string // the oracle whose files are compared with those of the others
	for _, o := range oracles {
		r := c.readings[o.name]
		if !r.asked || o.tool && c.verdict == verify.NotAnImage {
			continue
		}
		switch {
		case r.refused != nil:
			c.checkRefusal(t, o, r.refused)
			continue
		case !r.files.equal(c.claimed):
			if excuses.readsOther(o, c.Case) {
				continue
			}
			t.Errorf("%s: the gate answers %s, and %s runs %s; the diff_ids claim %s", c.ID, c.answer, o.name, r.files, c.claimed)
		}
		if first == "" {
			first = o.name
		} else if a := c.readings[first].files; !a.equal(r.files) {
			t.Errorf("%s: the gate answers %s, though %s runs %s and %s runs %s", c.ID, c.answer, first, a, o.name, r.files)
		}
	}
}

// checkRefusal fails the test if an oracle refuses an image that the gate
// accepts without a warning.
func (c *trial) checkRefusal(t *testing.T, o oracle, refused error) {
	if c.answer == verifytest.Accept && c.verdict != verify.NotAnImage && !excuses.refuses(o, c.Case) {
		t.Errorf("%s: the gate accepts without a warning, and %s refuses: %v", c.ID, o.name, refused)
	}
}
