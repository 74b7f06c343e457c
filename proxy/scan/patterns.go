package scan

import (
	"fmt"
	"path"
	"strings"
)

// Patterns select repositories by name. A pattern is one of [path.Match], in
// which "*" ends at a slash; "/**" at its end stands for all that is below, and
// "**" alone for everything. None at all select everything.
type Patterns []string

// Check returns an error for a pattern that is malformed.
func (p Patterns) Check() error {
	for _, pattern := range p {
		if _, err := path.Match(below(pattern), ""); err != nil || pattern == "" {
			return fmt.Errorf("%q is not a pattern; write a name, or one such as team/* or team/**", pattern)
		}
	}
	return nil
}

// Match reports whether one of the patterns selects a repository.
func (p Patterns) Match(name string) bool {
	for _, pattern := range p {
		if match(pattern, name) {
			return true
		}
	}
	return len(p) == 0
}

func match(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	if top := below(pattern); top != pattern {
		depth := strings.Count(top, "/") + 1
		parts := strings.SplitN(name, "/", depth+1)
		if len(parts) <= depth {
			return false
		}
		pattern, name = top, strings.Join(parts[:depth], "/")
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// below returns the pattern of the folder whose repositories are all meant.
func below(pattern string) string { return strings.TrimSuffix(pattern, "/**") }

// names returns the repositories that are meant when no pattern leaves a choice:
// then the catalog, which not every registry has, need not be asked.
func (p Patterns) names() []string {
	for _, pattern := range p {
		if strings.ContainsAny(pattern, `*?[\`) {
			return nil
		}
	}
	return p
}
