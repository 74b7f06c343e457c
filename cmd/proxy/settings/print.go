package settings

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v2"
)

// mask stands for what is not printed.
const mask = "***"

// Print writes every setting to w as YAML, which Parse reads as the same
// settings, and behind each what set it: an entry of origin, or "default". What
// may be a secret is masked, and does not come back: values of keys named for
// one, PEM blocks, and what a URL has before the @. Names of files are none.
func (s Settings) Print(w io.Writer, origin Origin) error {
	var b bytes.Buffer
	printSection(&b, "", reflect.ValueOf(s), origin)
	_, err := w.Write(b.Bytes())
	return err
}

// printSection prints the keys of a section, whose full name this is.
func printSection(b *bytes.Buffer, section string, v reflect.Value, origin Origin) {
	for i := range v.NumField() {
		key := keyName(v.Type().Field(i))
		name, value := join(section, key), v.Field(i)
		indent := strings.Repeat("  ", strings.Count(name, "."))
		if isSection(value.Type()) {
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			printSection(b, name, value, origin)
			continue
		}
		text, masked := yamlOf(key, value)
		from := oneLine(cmp.Or(origin.Keys[name], "default"))
		if masked {
			from += ", masked"
		}
		fmt.Fprintf(b, "%s%s: %s # %s\n", indent, key, text, from)
	}
}

// yamlOf returns the value of a key on one line, and whether some of it is
// masked.
func yamlOf(key string, v reflect.Value) (text string, masked bool) {
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String(), false
	case fmt.Stringer: // a size
		return value.String(), false
	}
	switch v.Kind() {
	case reflect.Slice:
		var texts []string
		for i := range v.Len() {
			element, hidden := masking(key, fmt.Sprint(v.Index(i)))
			texts, masked = append(texts, quoted(element)), masked || hidden
		}
		return "[" + strings.Join(texts, ", ") + "]", masked
	case reflect.String:
		text, masked = masking(key, v.String())
		if v.Type() == reflect.TypeFor[string]() {
			text = yamlString(text)
		}
		return text, masked
	default:
		return fmt.Sprint(v), false
	}
}

// plain matches what needs no quotes, unless it reads as another type.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@+-]+$`)

// yamlString returns a string as YAML on one line.
func yamlString(s string) string {
	var value any
	if plain.MatchString(s) && yaml.Unmarshal([]byte("- "+s), &value) == nil && reflect.DeepEqual(value, []any{s}) {
		return s
	}
	return quoted(s)
}

// quoted returns a string in quotes that Go and YAML have in common.
func quoted(s string) string {
	if s == "~" || s == "null" { // which the YAML package takes for nothing even so
		return "!!str " + strconv.Quote(s)
	}
	return strconv.Quote(s)
}

// oneLine returns what set a key so that it ends with its line.
func oneLine(from string) string {
	if strings.ContainsFunc(from, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(from)
	}
	return from
}

var (
	// secretKey matches the keys whose values are secret.
	secretKey = regexp.MustCompile(`passw|secret|token|dsn|credential|passphrase`)

	// userInfo matches what a URL has between // and @.
	userInfo = regexp.MustCompile(`://[^/?#]*@`)
)

// masking returns the value of a key without what may be a secret.
func masking(key, value string) (text string, masked bool) {
	switch {
	case value == "":
		return "", false
	case secretKey.MatchString(key), strings.Contains(value, "-----BEGIN "):
		return mask, true
	}
	text = userInfo.ReplaceAllLiteralString(value, "://"+mask+"@")
	return text, text != value
}
