package settings

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"
)

// A node is a value in a YAML file that is decoded later, once it is known
// which setting it is for.
type node struct {
	unmarshal func(any) error
}

// UnmarshalYAML keeps the value. The YAML package does not call it for null.
func (n *node) UnmarshalYAML(unmarshal func(any) error) error {
	n.unmarshal = unmarshal
	return nil
}

func (n node) isNull() bool { return n.unmarshal == nil }

// An entry is a key with its value, and the line that the key stands in.
type entry struct {
	key   string
	line  int
	value node
}

// entries returns the keys of a section in the order of their lines.
func (n node) entries() ([]entry, error) {
	// By pointer, so that a key that occurs twice is kept twice.
	var section map[*word]node
	if err := n.unmarshal(&section); err != nil {
		return nil, err
	}
	var entries []entry
	for w, value := range section {
		if w == nil {
			w = &word{text: "null"}
		}
		entries = append(entries, entry{w.text, w.line, value})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.key, b.key))
	})
	return entries, nil
}

// A word is a key and the line that it stands in.
type word struct {
	text string
	line int
}

// UnmarshalYAML sets w to the key. The YAML package tells lines nowhere but in
// its errors, so one is provoked.
func (w *word) UnmarshalYAML(unmarshal func(any) error) error {
	if err := unmarshal(&w.text); err != nil {
		return err
	}
	err := unmarshal(new(struct{}))
	if mistyped, ok := errors.AsType[*yaml.TypeError](err); ok {
		w.line, _, _ = cutLine(mistyped.Errors[0])
	}
	return nil
}

// cutLine splits text like "line 3: rest".
func cutLine(text string) (line int, rest string, ok bool) {
	text, ok = strings.CutPrefix(text, "line ")
	if !ok {
		return 0, "", false
	}
	number, rest, ok := strings.Cut(text, ": ")
	if !ok {
		return 0, "", false
	}
	line, err := strconv.Atoi(number)
	return line, rest, err == nil
}
