//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"diffgate/verify/verifytest"
)

// An excuse is a reason why a runtime need not pull an image that the gate
// accepts without a warning.
type excuse struct {
	oracles string // what their names begin with; empty means all
	why     string
	of      func(verifytest.Case) bool
}

var excuses = []excuse{}

func excused(o oracle, c verifytest.Case) bool {
	for _, e := range excuses {
		if strings.HasPrefix(o.name, e.oracles) && e.of(c) {
			return true
		}
	}
	return false
}

// tally returns a table: what each oracle made of the cases, by the gate's answer.
func tally(oracles []oracle, trials []*trial) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	answers := []verifytest.Answer{verifytest.Accept, verifytest.Warn, verifytest.Reject}
	fmt.Fprintln(w, "\naccept: as claimed\tother\trefused\twarn: as claimed\tother\trefused\treject: as claimed\tother\trefused\tthe gate; below, the runtime\t")
	for _, o := range oracles {
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
		for _, a := range answers {
			fmt.Fprintf(w, "%d\t%d\t%d\t", n[a][0], n[a][1], n[a][2])
		}
		fmt.Fprintf(w, "%s\t\n", o.name)
	}
	w.Flush()
	return out.String()
}
