package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth is how deep manifests and configs may nest. Real ones stay under 10.
const maxDepth = 64

// errAmbiguousJSON marks documents that JSON parsers read differently.
var errAmbiguousJSON = errors.New("ambiguous JSON")

// A shape lists the objects of a document whose keys decide what is judged. In
// these objects no two keys may be equal except for their case: encoding/json
// accepts any case and the last duplicate, other parsers do not.
type shape struct {
	keys map[string][]string // the keys that count in an object, by its path
	lone bool                // a key that counts may be spelled in another case, if only once
}

// check reads the whole document once. It returns the keys that count and that are
// spelled in another case. The error wraps errAmbiguousJSON, or says why the bytes
// are not one JSON object in UTF-8. Time and memory are linear in the document.
func (s shape) check(body []byte) (variants []string, err error) {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return nil, errors.New("empty")
	case trimmed[0] != '{':
		return nil, errors.New("not a JSON object")
	case !utf8.Valid(body) && json.Valid(body):
		return nil, fmt.Errorf("%w: not UTF-8, which some parsers repair and others refuse", errAmbiguousJSON)
	case !utf8.Valid(body):
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	w := shapeWalker{shape: s, dec: dec}
	if err := w.value("", 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the JSON is cut")
		}
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the JSON object", errAmbiguousJSON)
	}
	return w.variants, nil
}

// elsewhere is the path of everything that is not in the shape.
const elsewhere = "-"

type shapeWalker struct {
	shape    shape
	dec      *json.Decoder
	variants []string
}

func (w *shapeWalker) value(path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested deeper than %d, where parsers differ in how deep they go", errAmbiguousJSON, maxDepth)
	}
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		return w.object(path, depth)
	case json.Delim('['):
		for w.dec.More() {
			if err := w.value(child(path, "[]"), depth+1); err != nil {
				return err
			}
		}
		_, err = w.dec.Token()
	}
	return err
}

func (w *shapeWalker) object(path string, depth int) error {
	counts, inShape := w.shape.keys[path]
	seen := map[string]string{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string) // More and a valid object leave nothing else
		next := elsewhere
		if inShape {
			folded := fold(key)
			if other, dup := seen[folded]; dup {
				return fmt.Errorf("%w: keys %+q and %+q", errAmbiguousJSON, clip(other), clip(key))
			}
			seen[folded] = key
			if i := slices.IndexFunc(counts, func(c string) bool { return strings.EqualFold(c, key) }); i >= 0 {
				if counts[i] != key && !w.shape.lone {
					return fmt.Errorf("%w: key %+q, which must be %q", errAmbiguousJSON, clip(key), counts[i])
				}
				if counts[i] != key {
					w.variants = append(w.variants, key)
				}
				next = child(path, counts[i])
			}
		}
		if err := w.value(next, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func child(path, key string) string {
	if path == elsewhere {
		return elsewhere
	}
	return path + "." + key
}

// fold maps strings that encoding/json takes for the same key to one string.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

// clip keeps what a client sent from growing our messages. What is clipped is
// printed with %+q, which keeps it printable ASCII.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
