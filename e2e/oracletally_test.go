//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// tally returns a table: what each oracle made of the cases, by the gate's answer.
func tally(oracles []oracle, trials []*trial) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	answers := []verifytest.Answer{verifytest.Accept, verifytest.Warn, verifytest.Reject}
	fmt.Fprintln(w, "\naccept: as claimed\tother\trefused\twarn: as claimed\tother\trefused\treject: as claimed\tother\trefused\tthe gate; below, the runtime\t")
	for _, o := range oracles {
		n := counts(o, trials)
		for _, a := range answers {
			fmt.Fprintf(w, "%d\t%d\t%d\t", n[a][0], n[a][1], n[a][2])
		}
		fmt.Fprintf(w, "%s\t\n", o.name)
	}
	w.Flush()
	return out.String()
}

// counts returns how many cases an oracle runs as claimed, runs with other
// files, and refuses.
func counts(o oracle, trials []*trial) map[verifytest.Answer][3]int {
	n := map[verifytest.Answer][3]int{}
	for _, c := range trials {
		r := c.readings[o.name]
		if !r.asked {
			continue
		}
		count := n[c.answer]
		switch {
		case r.refused != nil:
			count[2]++
		case r.files.equal(c.claimed):
			count[0]++
		default:
			count[1]++
		}
		n[c.answer] = count
	}
	return n
}

// prevented lists, for each oracle, the images that the gate refuses and that
// the oracle would run with other files than the diff_ids claim.
func prevented(oracles []oracle, trials []*trial) string {
	var out strings.Builder
	for _, o := range oracles {
		var ids []string
		for _, c := range trials {
			r := c.readings[o.name]
			if r.asked && r.refused == nil && c.answer == verifytest.Reject && !r.files.equal(c.claimed) {
				ids = append(ids, c.ID)
			}
		}
		fmt.Fprintf(&out, "\n%s, %d: %s", o.name, len(ids), strings.Join(ids, " "))
	}
	return out.String()
}

// is reports whether the gate means an oracle when a warning names a runtime.
func (o oracle) is(r verify.Runtime) bool {
	switch r {
	case verify.WithPigz:
		return strings.HasSuffix(o.name, "unpigz") || strings.HasSuffix(o.name, "igzip")
	case verify.WithoutPigz:
		return strings.HasSuffix(o.name, "Go")
	}
	return strings.HasPrefix(o.name, string(r))
}

// misnamed lists the warnings that name other runtimes than those that refuse
// the image.
func misnamed(oracles []oracle, trials []*trial) string {
	var out strings.Builder
	for _, c := range trials {
		if c.answer != verifytest.Warn || c.verdict != verify.Match {
			continue
		}
		for _, r := range c.named {
			if !slices.ContainsFunc(oracles, func(o oracle) bool { return o.is(r) && (c.refusedBy(o) || !c.readings[o.name].asked) }) {
				fmt.Fprintf(&out, "\n%s: a warning names %s, which pulls the image", c.ID, r)
			}
		}
		for _, o := range oracles {
			if c.refusedBy(o) && !slices.ContainsFunc(c.named, o.is) && !excuses.refuses(o, c.Case) {
				fmt.Fprintf(&out, "\n%s: no warning names %s: %v", c.ID, o.name, c.readings[o.name].refused)
			}
		}
	}
	return out.String()
}

func (c *trial) refusedBy(o oracle) bool { return c.readings[o.name].refused != nil }
