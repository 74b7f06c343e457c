package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A span is where a JSON value is in a document.
type span struct{ start, end int }

func (s span) of(doc []byte) []byte { return doc[s.start:s.end] }

// A container is a JSON object or array in a document.
type container struct {
	at       span
	members  map[string]span // of an object; the last of equal keys
	elements []span          // of an array
}

// empty reports whether nothing is in it.
func (c container) empty() bool { return len(c.members)+len(c.elements) == 0 }

var (
	errNoObject = errors.New("it is not a JSON object")
	errNoArray  = errors.New("it is not a JSON array")
	errPlaces   = errors.New("the places of its JSON values were not found")
)

// object finds the members of the object at s.
func object(doc []byte, s span) (container, error) {
	return contents(doc, s, json.Delim('{'), errNoObject)
}

// array finds the elements of the array at s.
func array(doc []byte, s span) (container, error) {
	return contents(doc, s, json.Delim('['), errNoArray)
}

// contents finds what is in the object or array at s, which may have blanks
// before it. Nothing is read behind its end.
func contents(doc []byte, s span, open json.Delim, otherwise error) (container, error) {
	text := s.of(doc)
	dec := json.NewDecoder(bytes.NewReader(text))
	tok, err := dec.Token()
	if err != nil || tok != open {
		return container{}, otherwise
	}
	c := container{at: span{s.start + int(dec.InputOffset()) - 1, 0}, members: map[string]span{}}
	for dec.More() {
		var key string
		if open == '{' {
			tok, err := dec.Token()
			if err != nil {
				return container{}, fmt.Errorf("not valid JSON: %w", err)
			}
			key, _ = tok.(string)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return container{}, fmt.Errorf("not valid JSON: %w", err)
		}
		end := int(dec.InputOffset())
		v := span{s.start + end - len(raw), s.start + end}
		if !bytes.Equal(v.of(doc), raw) {
			return container{}, errPlaces
		}
		if open == '{' {
			c.members[key] = v
		} else {
			c.elements = append(c.elements, v)
		}
	}
	if _, err := dec.Token(); err != nil {
		return container{}, fmt.Errorf("not valid JSON: %w", err)
	}
	c.at.end = s.start + int(dec.InputOffset())
	return c, nil
}

// edits are the values of a document that are to be replaced.
type edits struct {
	document string
	places   []edit
	changes  []Change
}

type edit struct {
	at   span
	text []byte
}

// replace replaces the value at s, unless it says the same already.
func (e *edits) replace(doc []byte, s span, path string, text []byte) {
	before, after := shown(s.of(doc)), shown(text)
	if sameJSON(s.of(doc), text) {
		return
	}
	e.places = append(e.places, edit{s, text})
	e.changes = append(e.changes, Change{e.document, path, before, after})
}

// set replaces a member of an object, or adds it at its end.
func (e *edits) set(doc []byte, object container, key, path string, text []byte) {
	if at, ok := object.members[key]; ok {
		e.replace(doc, at, path, text)
		return
	}
	member := slices.Concat(quote(key), []byte(":"), text)
	if !object.empty() {
		member = slices.Concat([]byte(","), member)
	}
	last := object.at.end - 1
	e.places = append(e.places, edit{span{last, last}, member})
	e.changes = append(e.changes, Change{Document: e.document, Path: path, New: shown(text)})
}

// apply returns a copy of the document with the edits made.
func (e *edits) apply(doc []byte) []byte {
	slices.SortStableFunc(e.places, func(a, b edit) int { return a.at.start - b.at.start })
	var out []byte
	at := 0
	for _, p := range e.places {
		out = append(out, doc[at:p.at.start]...)
		out = append(out, p.text...)
		at = p.at.end
	}
	return append(out, doc[at:]...)
}

// sameJSON reports whether two values, of which the second is a string or a
// whole number of ours, say the same.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var s, t string
	return json.Unmarshal(a, &s) == nil && json.Unmarshal(b, &t) == nil && s == t && !bytes.Equal(a, []byte("null"))
}

// maxDiffIDs bounds the changes to tell of. No runtime mounts a tenth of it.
const maxDiffIDs = 10_000

// diffIDEdits are what makes the diff_ids of a config say ids. As long as
// their number is right each is replaced where it stands.
func diffIDEdits(config []byte, ids []string) (*edits, error) {
	top, err := object(config, span{0, len(config)})
	if err != nil {
		return nil, fmt.Errorf("the config: %w", err)
	}
	at, ok := top.members["rootfs"]
	if !ok {
		return nil, errors.New("the config has no rootfs: it does not say that it is an image's")
	}
	rootFS, err := object(config, at)
	if err != nil {
		return nil, fmt.Errorf("rootfs of the config: %w", err)
	}
	e := &edits{document: "config"}
	const path = "rootfs.diff_ids"
	all, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	at, ok = rootFS.members["diff_ids"]
	list, err := array(config, at)
	switch {
	case len(list.elements) > maxDiffIDs:
		return nil, fmt.Errorf("the config lists %d diff_ids, and more than %d are not looked at", len(list.elements), maxDiffIDs)
	case !ok:
		e.set(config, rootFS, "diff_ids", path, all)
		e.changes = elementChanges(nil, nil, ids)
	case err != nil:
		e.replace(config, at, path, all)
	case len(list.elements) == len(ids):
		for i, at := range list.elements {
			e.replace(config, at, fmt.Sprintf("%s[%d]", path, i), quote(ids[i]))
		}
	default:
		e.places = []edit{{at, all}}
		e.changes = elementChanges(config, list.elements, ids)
	}
	return e, nil
}

// elementChanges tells of two lists of different lengths, place by place.
func elementChanges(config []byte, before []span, after []string) []Change {
	var changes []Change
	for i := range max(len(before), len(after)) {
		c := Change{Document: "config", Path: fmt.Sprintf("rootfs.diff_ids[%d]", i)}
		if i < len(before) {
			c.Old = shown(before[i].of(config))
		}
		if i < len(after) {
			c.New = after[i]
		}
		if c.Old != c.New {
			changes = append(changes, c)
		}
	}
	return changes
}

// quote returns a digest, a key or base64 as JSON: nothing in it is escaped.
func quote(s string) []byte { return []byte(`"` + s + `"`) }

// shown is a JSON value for people.
func shown(value []byte) string {
	var s string
	if json.Unmarshal(value, &s) != nil || s == "" {
		s = string(value)
	}
	return clip(s)
}

// clip keeps what others wrote from growing what we print.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}
