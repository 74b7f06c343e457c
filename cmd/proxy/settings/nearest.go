package settings

import "strings"

// maxTypos is how far a misspelt name may be from the one that was meant; two
// letters swapped count as two.
const maxTypos = 2

// didYouMean ends a sentence about an unknown name with the one that was
// probably meant, if there is one.
func didYouMean(name string, known []string) string {
	best, typos := "", maxTypos+1
	for _, candidate := range known {
		if n := distance(strings.ToLower(name), strings.ToLower(candidate)); n < typos {
			best, typos = candidate, n
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance returns how many letters must be added, removed or replaced to turn
// a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
