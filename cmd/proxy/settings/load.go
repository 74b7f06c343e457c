package settings

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"

	"github.com/distribution/distribution/v3/configuration"
)

// defaultPath is read if it exists and no other file is named.
const defaultPath = "config.yml"

// An Origin tells where settings come from.
type Origin struct {
	// File is the file that was read, empty if there was none.
	File string
	// Keys tells by key, as in http.addr, what set it: file and line, as in
	// config.yml:12, or a variable. A key that has its default is absent.
	Keys map[string]string
}

// Load reads the settings from the file at path. If path is empty, it reads the
// one that DIFFGATE_CONFIGURATION_PATH names, else config.yml in the working
// directory if there is one. Variables and defaults apply as in Parse.
func Load(path string) (Settings, Origin, error) {
	named := cmp.Or(path, os.Getenv(pathVariable))
	in, err := os.ReadFile(cmp.Or(named, defaultPath))
	switch {
	case err == nil:
		return Parse(cmp.Or(named, defaultPath), in)
	case named != path:
		return Settings{}, Origin{}, fmt.Errorf("%s: %w", pathVariable, err)
	case named != "" || !errors.Is(err, fs.ErrNotExist):
		return Settings{}, Origin{}, err
	}
	s, origin, err := Parse("", []byte("version: "+version))
	delete(origin.Keys, "version")
	return s, origin, err
}

// Parse returns the settings that a file with the given content makes, with
// the DIFFGATE_* variables of the environment on top and the defaults below.
// The name of the file is for messages only. What it returns without an error
// has passed Check.
func Parse(name string, in []byte) (Settings, Origin, error) {
	f := file{name: name, lines: map[string]int{}}
	if err := f.check(in); err != nil {
		return Settings{}, Origin{}, err
	}
	variables, err := checkVariables(os.Environ())
	if err != nil {
		return Settings{}, Origin{}, err
	}
	origin := Origin{File: name, Keys: variables}
	for _, k := range allKeys() {
		line, ok := f.lines[k.name]
		if ok && variables[k.name] == "" {
			origin.Keys[k.name] = f.at(line)
		}
	}
	var s Settings
	if err := newParser().Parse(in, &s); err != nil {
		return Settings{}, Origin{}, err
	}
	if err := s.Check(); err != nil {
		return Settings{}, Origin{}, origin.locate(err)
	}
	return s, origin, nil
}

// locate adds to an error of Check what set the key that it is about.
func (o Origin) locate(err error) error {
	if e, ok := errors.AsType[*keyError](err); ok && o.Keys[e.key] != "" {
		return fmt.Errorf("%s: %w", o.Keys[e.key], err)
	}
	return err
}

// newParser returns distribution's parser for our settings and variables.
func newParser() *configuration.Parser {
	return configuration.NewParser("diffgate", []configuration.VersionedParseInfo{{
		Version: version,
		ParseAs: reflect.TypeFor[document](),
		ConversionFunc: func(v any) (any, error) {
			return (*Settings)(v.(*document)), nil
		},
	}})
}

// A document is Settings as read from a file: what the file does not say keeps
// its default. A key that it does say, even to be empty, does not.
type document Settings

// UnmarshalYAML sets d to the defaults with the file on top.
func (d *document) UnmarshalYAML(unmarshal func(any) error) error {
	type fields document // without this method
	*d = document(Default())
	return unmarshal((*fields)(d))
}
