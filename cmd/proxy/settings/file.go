package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"go.yaml.in/yaml/v2"
)

// A file is a settings file being checked: for keys that do not exist, occur
// twice, or have a value of the wrong type.
type file struct {
	name  string         // for messages
	lines map[string]int // where each key was found
}

// check reads the whole file and returns the first problem.
func (f *file) check(in []byte) error {
	var root node
	decoder := yaml.NewDecoder(bytes.NewReader(in))
	err := decoder.Decode(&root)
	if err != nil && !errors.Is(err, io.EOF) && !isMistyped(err) {
		return f.syntaxError(err)
	}
	if err := f.checkVersion(root); err != nil {
		return err
	}
	if err := f.checkSection("", reflect.TypeFor[Settings](), root); err != nil {
		return err
	}
	// The parser reads one document and does not look further.
	err = decoder.Decode(new(any))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return f.syntaxError(err)
	}
	return fmt.Errorf("%s: more than one document; remove what follows the second ---", f.name)
}

// checkVersion comes first, as the version decides what the other keys mean.
func (f *file) checkVersion(root node) error {
	var head struct{ Version configuration.Version }
	if root.isNull() || root.unmarshal(&head) != nil || head.Version == "" {
		return fmt.Errorf("%s: no version; put \"version: %s\" at the top", f.name, version)
	}
	if head.Version != version {
		return fmt.Errorf("%s: version %q is not supported; want \"version: %s\"",
			f.name, head.Version, version)
	}
	return nil
}

// checkSection checks the keys of a section, which is of type t.
func (f *file) checkSection(section string, t reflect.Type, n node) error {
	entries, err := n.entries()
	if err != nil {
		return f.errorf(f.lines[section], "%s: want keys with values of their own", section)
	}
	for _, e := range entries {
		if err := f.checkEntry(section, t, e); err != nil {
			return err
		}
	}
	return nil
}

// checkEntry checks one key of a section of type t.
func (f *file) checkEntry(section string, t reflect.Type, e entry) error {
	var names []string
	for i := range t.NumField() {
		field := t.Field(i)
		if keyName(field) == e.key {
			return f.checkField(join(section, e.key), field.Type, e)
		}
		names = append(names, keyName(field))
	}
	where := ""
	if section != "" {
		where = " in " + section
	}
	return f.errorf(e.line, "unknown key %q%s%s", e.key, where, didYouMean(e.key, names))
}

// checkField checks the value of a key that exists.
func (f *file) checkField(name string, t reflect.Type, e entry) error {
	if line, ok := f.lines[name]; ok {
		return f.errorf(e.line, "%s: already set in line %d", name, line)
	}
	f.lines[name] = e.line
	switch {
	case e.value.isNull():
		return f.errorf(e.line, "%s: no value; remove the key to keep its default", name)
	case isSection(t):
		return f.checkSection(name, t, e.value)
	}
	if err := checkValue(t, e.value.unmarshal); err != nil {
		return f.errorf(e.line, "%s: %w", name, err)
	}
	return nil
}

func (f *file) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{f.at(line)}, args...)...)
}

func (f *file) at(line int) string {
	if line == 0 {
		return f.name
	}
	return fmt.Sprintf("%s:%d", f.name, line)
}

// syntaxError words an error like "yaml: line 3: did not find expected key" as
// the others here.
func (f *file) syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if n, rest, ok := cutLine(text); ok {
		line, text = n, rest
	}
	return f.errorf(line, "%s", text)
}
