package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// An entrant is one of several ways to do a thing.
type entrant struct {
	name string
	run  func(context.Context) error
}

// A timing is what one way took, in seconds, round by round.
type timing struct{ wall, cpu []float64 }

// inTurns runs all entrants in every round, each round beginning with another
// one.
func (b *bench) inTurns(ctx context.Context, what string, entrants []entrant) ([]timing, error) {
	all := make([]timing, len(entrants))
	for round := range b.rounds {
		b.say("%s, round %d of %d", what, round+1, b.rounds)
		for k := range entrants {
			i := (k + round) % len(entrants)
			before, began := cpuUsed(), time.Now()
			if err := entrants[i].run(ctx); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", what, entrants[i].name, err)
			}
			all[i].wall = append(all[i].wall, time.Since(began).Seconds())
			all[i].cpu = append(all[i].cpu, cpuUsed()-before)
		}
	}
	return all, nil
}

// cpuUsed returns the seconds of processor time that this process and those it
// waited for have used.
func cpuUsed() (seconds float64) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		// It fails for a wrong argument only.
		if err := syscall.Getrusage(who, &u); err != nil {
			panic(err)
		}
		seconds += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	return seconds
}

func median(v []float64) float64 { return percentile(v, 50) }

// percentile returns the value that p percent are not above; between two values
// it is interpolated.
func percentile(v []float64, p float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	at := p / 100 * float64(len(v)-1)
	low := int(at)
	high := min(low+1, len(v)-1)
	return v[low] + (v[high]-v[low])*(at-float64(low))
}
