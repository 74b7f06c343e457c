package settings_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/cmd/proxy/settings"
)

// printed returns what Print prints.
func printed(t *testing.T, s settings.Settings, origin settings.Origin) string {
	t.Helper()
	var b strings.Builder
	if err := s.Print(&b, origin); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// mustLoadAgain wants what Print prints to be the same settings, and to have
// every key.
func mustLoadAgain(t *testing.T, about string, s settings.Settings) {
	t.Helper()
	text := printed(t, s, settings.Origin{})
	again, origin, err := settings.Parse("again.yml", []byte(text))
	if diff := cmp.Diff(s, again, compare...); err != nil || diff != "" {
		t.Errorf("%s: %v (-printed +read):\n%s\n%s", about, err, diff, text)
		return
	}
	for _, key := range keysOf(reflect.TypeFor[settings.Settings]()) {
		if origin.Keys[key] == "" {
			t.Errorf("%s: %s is not printed", about, key)
		}
	}
}

func TestPrintLoadsAgain(t *testing.T) {
	mustLoadAgain(t, "The defaults.", settings.Default())

	s := settings.Default()
	s.Log = settings.Log{Level: "debug", Formatter: settings.JSON, AccessLog: settings.AccessLog{Disabled: true}}
	s.HTTP.Addr, s.HTTP.DrainTimeout, s.HTTP.Debug.Addr = "[::1]:5000", 1500*time.Millisecond, ""
	s.HTTP.TrustedProxies = settings.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	s.HTTP.TLS = settings.ServerTLS{Certificate: "/etc/a.pem", Key: "/etc/b.pem", ClientCAs: []string{"a,b.pem", "c: d"}, MinimumTLS: settings.TLS13}
	s.Upstream.URL, s.Upstream.TLS.Insecure = "https://registry:5000/reg", true
	s.Limits.Unpacked, s.Limits.Ratio, s.Limits.Lag = 3*settings.GiB+1, 7, time.Hour
	mustLoadAgain(t, "Settings of every type.", s)

	for _, text := range []string{
		"true", "null", "~", "12", "1.5", "1e3", "0x10", "2026-11-23", "12:30:45", "<<", "=", "no", ".inf", "-", "- a", "a: b", "a #b", "a:", "@a", "+1",
		" ", " a ", "'", `"`, `\`, "#", "%", "&a", "*a", "!a", "|", ">", "{a}", "[a]", "a, b", "a\nb", "a\tb", "\x7f", "\u0085", "\u2028", "\ufeff", "é", "🙂", "\U000e0001",
		"data//x@y", strings.Repeat("long ", 100) + "x",
	} {
		s := settings.Default()
		s.Embedded.RootDirectory, s.Index.Bolt.Path, s.HTTP.TLS = text, text, settings.ServerTLS{
			Certificate: text, Key: text, ClientCAs: []string{text, text}, MinimumTLS: settings.TLS12}
		mustLoadAgain(t, fmt.Sprintf("A file named %q.", text), s)
	}
}

func TestPrintSaysWhatSetAKey(t *testing.T) {
	env{"DIFFGATE_HTTP_DEBUG_ADDR": ":2", "DIFFGATE_UPSTREAM_TLS_ROOTCAS": "[a.pem]"}.set(t)
	s, origin, err := settings.Parse("config.yml", []byte("version: 0.1\nhttp:\n  addr: :1\n  debug: {addr: ':3'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := printed(t, s, origin)
	for _, line := range []string{
		"version: 0.1 # config.yml:1\n",
		"log:\n  level: info # default\n",
		"http:\n  addr: :1 # config.yml:3\n  draintimeout: 1m0s # default\n",
		"  debug:\n    addr: :2 # DIFFGATE_HTTP_DEBUG_ADDR\n",
		"    rootcas: [\"a.pem\"] # DIFFGATE_UPSTREAM_TLS_ROOTCAS\n",
		"  manifest: 4MiB # default\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	origin.Keys["log.level"] = "a\nb: c.yml:1"
	if text := printed(t, s, origin); !strings.Contains(text, `level: info # "a\nb: c.yml:1"`+"\n") {
		t.Errorf("the name of a file ends a line of\n%s", text)
	}
}

// What may be a secret is not printed, even if serve would refuse it there.
func TestPrintMasksSecrets(t *testing.T) {
	t.Parallel()
	s := settings.Default()
	s.Upstream.URL = "https://bob:hunter2@registry:5000/reg"
	s.Upstream.TLS.Key = "-----BEGIN PRIVATE KEY-----\nhunter2"
	s.Upstream.TLS.RootCAs = []string{"a.pem", "https://hunter2@ca"}
	text := printed(t, s, settings.Origin{Keys: map[string]string{"upstream.url": "config.yml:3"}})
	for _, line := range []string{
		`url: "https://***@registry:5000/reg" # config.yml:3, masked`,
		`key: "***" # default, masked`,
		`rootcas: ["a.pem", "https://***@ca"] # default, masked`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "hunter2") || strings.Contains(text, "bob") {
		t.Errorf("a secret is in\n%s", text)
	}
}
