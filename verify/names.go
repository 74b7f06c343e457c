package verify

import (
	"fmt"
	"slices"
)

// unmarshal is the inverse of name.
func unmarshal[T ~uint8](into *T, names []string, text []byte) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("%q is none of %q", text, names)
	}
	*into = T(i)
	return nil
}

// UnmarshalText implements encoding.TextUnmarshaler with the name of the API.
func (e *Encoding) UnmarshalText(text []byte) error { return unmarshal(e, encodingNames[:], text) }

// UnmarshalText implements encoding.TextUnmarshaler with the word of the API.
func (p *Problem) UnmarshalText(text []byte) error { return unmarshal(p, problemNames[:], text) }

// UnmarshalText implements encoding.TextUnmarshaler with the name of the API.
func (s *Source) UnmarshalText(text []byte) error { return unmarshal(s, sourceNames[:], text) }

var quirkNames = [...]string{"header_crc", "long_name", "reserved_flag", "trailing_zeros", "skippable_first", "not_tar", "large_window"}

// Names returns the words of the HTTP API for the quirks, in a fixed order; nil
// for none.
func (q Quirks) Names() []string {
	var names []string
	for i, name := range quirkNames {
		if q&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// ParseQuirks is the inverse of Names, in any order.
func ParseQuirks(names []string) (Quirks, error) {
	var q Quirks
	for _, name := range names {
		i := slices.Index(quirkNames[:], name)
		if i < 0 {
			return 0, fmt.Errorf("%q is none of %q", name, quirkNames)
		}
		q |= 1 << i
	}
	return q, nil
}
