package settings

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// Variables of ours that are not settings.
const (
	pathVariable = "DIFFGATE_CONFIGURATION_PATH" // of the file, see Load
	testVariable = "DIFFGATE_E2E"                // for the end-to-end tests
)

// checkVariables returns the variable that sets each key, or the first problem
// in the order of names. It refuses what the parser would pass over, and what
// it would do badly: an element of a list becomes "", a whole section loses
// its defaults.
func checkVariables(environ []string) (map[string]string, error) {
	// No variable sets the version: it is about the file.
	keys := slices.DeleteFunc(allKeys(), func(k key) bool { return k.name == "version" })
	set := map[string]string{}
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, prefix) || isForeign(name, value) {
			continue
		}
		i := slices.IndexFunc(keys, func(k key) bool { return variable(k.name) == name })
		if i < 0 {
			return nil, unknownVariable(name, keys)
		}
		if err := checkVariable(keys[i].typ, value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		set[keys[i].name] = name
	}
	return set, nil
}

// serviceLink matches the names that Kubernetes gives to the variables of every
// container for each Service, here for one whose name begins with diffgate.
var serviceLink = regexp.MustCompile(
	`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// portLink matches the value of the one whose name alone could be a misspelt
// setting.
var portLink = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// isForeign reports whether a variable with our prefix is not a setting.
func isForeign(name, value string) bool {
	return name == pathVariable || name == testVariable || serviceLink.MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && portLink.MatchString(value)
}

// checkVariable reports what is wrong with the value of a variable for a
// setting of type t.
func checkVariable(t reflect.Type, value string) error {
	unmarshal := func(v any) error { return yaml.Unmarshal([]byte(value), v) }
	mayBeEmpty := t.Kind() == reflect.String || t.Kind() == reflect.Slice
	var n node
	if err := unmarshal(&n); err == nil && n.isNull() && !mayBeEmpty {
		return errors.New("no value; unset it to keep the default")
	}
	err := checkValue(t, unmarshal)
	if err != nil && t.Kind() == reflect.String {
		return fmt.Errorf("%w; the value is read as YAML and needs quotes of its own, "+
			`as in '"[::1]:5000"'`, err)
	}
	return err
}

// unknownVariable says what to write instead of a variable that sets nothing.
func unknownVariable(name string, keys []key) error {
	var names []string
	for _, k := range keys {
		known := variable(k.name)
		switch {
		case strings.HasPrefix(known, name+"_"):
			return fmt.Errorf("%s: a section is not set as a whole; set its keys, such as %s", name, known)
		case strings.HasPrefix(name, known+"_") && k.typ.Kind() == reflect.Slice:
			return fmt.Errorf("%s: a list is not set element by element; write %s='[a, b]'", name, known)
		}
		names = append(names, known)
	}
	return fmt.Errorf("unknown variable %s%s", name, didYouMean(name, names))
}
