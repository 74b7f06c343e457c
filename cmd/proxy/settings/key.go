package settings

import (
	"errors"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v2"
)

// prefix begins the name of every variable of ours.
const prefix = "DIFFGATE_"

// A key is one thing that can be set.
type key struct {
	name string // as in http.tls.certificate
	typ  reflect.Type
}

// allKeys returns every key there is.
func allKeys() []key { return keysOf("", reflect.TypeFor[Settings]()) }

// keysOf returns the keys in the section of type t, in the order of its fields.
func keysOf(section string, t reflect.Type) []key {
	var keys []key
	for i := range t.NumField() {
		field := t.Field(i)
		name := join(section, keyName(field))
		if isSection(field.Type) {
			keys = append(keys, keysOf(name, field.Type)...)
		} else {
			keys = append(keys, key{name, field.Type})
		}
	}
	return keys
}

// keyName returns the key of a field. The YAML package derives the same, and
// distribution's parser the same in upper case.
func keyName(field reflect.StructField) string { return strings.ToLower(field.Name) }

func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

// join returns the full name of a key of a section; the outermost has no name.
func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// variable returns the name of the variable that overrides a key.
func variable(name string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// checkValue reports what is wrong with the YAML value that unmarshal decodes,
// if a setting of type t is to have it.
func checkValue(t reflect.Type, unmarshal func(any) error) error {
	err := unmarshal(reflect.New(t).Interface())
	switch {
	case err == nil && isExact(t, unmarshal):
		return nil
	case err == nil, isYAML(err):
		return errors.New("want " + description(t))
	default:
		return err // a type of ours says itself what it wants
	}
}

// isExact reports whether a value that decodes into t means what it says:
// the YAML package cuts 1.5 to the integer 1 and takes 60 for 60 nanoseconds.
func isExact(t reflect.Type, unmarshal func(any) error) bool {
	var value any
	if unmarshal(&value) != nil {
		return false
	}
	switch t {
	case reflect.TypeFor[int](), reflect.TypeFor[int64]():
		_, isFloat := value.(float64)
		return !isFloat
	case reflect.TypeFor[time.Duration]():
		_, isText := value.(string)
		return isText
	}
	return true
}

// isYAML reports whether err is the YAML package's own.
func isYAML(err error) bool {
	return isMistyped(err) || strings.HasPrefix(err.Error(), "yaml: ")
}

// isMistyped reports whether err is about a value of the wrong type, not about
// YAML that cannot be read.
func isMistyped(err error) bool {
	_, ok := errors.AsType[*yaml.TypeError](err)
	return ok
}

// description says what the values of a setting look like.
func description(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 60s"
	case reflect.TypeFor[Size]():
		return "a size such as 4MiB"
	case reflect.TypeFor[Unproven]():
		return "a list of encrypted and foreign, such as [encrypted]; [] accepts neither"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list such as [a, b]"
	default:
		return "text"
	}
}
