package settings_test

import (
	"os"
	"strings"
	"testing"

	"diffgate/cmd/proxy/settings"
)

func TestLoad(t *testing.T) {
	const (
		missing = ": no such file or directory"
		named   = "DIFFGATE_CONFIGURATION_PATH"
	)
	tests := []struct {
		about string
		files []string // those that exist; each sets http.addr to its own name and :1
		path  string
		env   env
		addr  string // wanted
		file  string // wanted
		err   string // wanted
	}{
		{about: "Nothing at all: the defaults.", addr: ":5000"},
		{about: "Variables work without a file.", env: env{"DIFFGATE_HTTP_ADDR": ":2"}, addr: ":2"},
		{
			about: "The file in the working directory.",
			files: []string{"config.yml"}, addr: "config.yml:1", file: "config.yml",
		},
		{
			about: "The one that the variable names goes before it.",
			files: []string{"config.yml", "b.yml"}, env: env{named: "b.yml"},
			addr: "b.yml:1", file: "b.yml",
		},
		{
			about: "The one asked for goes before both.",
			files: []string{"config.yml", "a.yml", "b.yml"}, path: "a.yml", env: env{named: "b.yml"},
			addr: "a.yml:1", file: "a.yml",
		},
		{
			about: "An empty variable names no file.",
			env:   env{named: ""}, addr: ":5000",
		},
		{
			about: "A file that is asked for must exist.",
			files: []string{"config.yml"}, path: "a.yml", err: "open a.yml" + missing,
		},
		{
			about: "So must one that the variable names.",
			files: []string{"config.yml"}, env: env{named: "b.yml"}, err: named + ": open b.yml" + missing,
		},
		{
			about: "What is there but cannot be read is not passed over.",
			files: []string{"config.yml/"}, err: "read config.yml: is a directory",
		},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			t.Chdir(t.TempDir())
			test.env.set(t)
			for _, name := range test.files {
				create(t, name)
			}
			s, origin, err := settings.Load(test.path)
			if s.HTTP.Addr != test.addr || origin.File != test.file || errorText(err) != test.err {
				t.Errorf("got %q from %q, error %v\nwant %q from %q, error %s",
					s.HTTP.Addr, origin.File, err, test.addr, test.file, test.err)
			}
		})
	}
}

func TestLoadOriginWithoutFile(t *testing.T) {
	t.Chdir(t.TempDir())
	_, origin, err := settings.Load("")
	if err != nil || len(origin.Keys) != 0 {
		t.Errorf("got keys set by %v, error %v; want all at their defaults", origin.Keys, err)
	}
}

// create makes a settings file, or a directory if the name ends in a slash.
func create(t *testing.T, name string) {
	t.Helper()
	err := os.WriteFile(name, []byte("version: 0.1\nhttp: {addr: '"+name+":1'}\n"), 0o600)
	if strings.HasSuffix(name, "/") {
		err = os.Mkdir(name, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzParse wants of any file either settings that make sense or an error in
// one line that names the file.
func FuzzParse(f *testing.F) {
	shippedFile, err := os.ReadFile(shipped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shippedFile)
	for _, seed := range []string{
		"", "---", "- a", "version: 0.1\n? [a]\n: b", "version: 0.1\nlog: &a {<<: *a}",
		"version: 0.1\nhttp: {<<: {addr: ':1'}, addr: ':2'}", "version: !!binary MC4x",
		"version: 0.1\nlimits: {manifest: !!float 1, ratio: .nan}", "\xff", "version: 0.1\n...\n%",
		`"~"`, "version: 0.1\nhttp: {addr: \"~\", \"null\": 1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, _, err := settings.Parse("config.yml", in)
		if err == nil {
			err = s.Check()
			if err != nil {
				t.Errorf("passed, but does not pass Check: %v", err)
			}
			return
		}
		if text := err.Error(); !strings.HasPrefix(text, "config.yml:") || strings.Contains(text, "\n") {
			t.Errorf("got error %q", text)
		}
	})
}
