package settings_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/cmd/proxy/settings"
)

// env is variables by name.
type env map[string]string

func (e env) set(t *testing.T) {
	t.Helper()
	for name, value := range e {
		t.Setenv(name, value)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		about  string
		file   string
		env    env
		change func(*settings.Settings) // of the defaults
	}{
		{
			about:  "A file that says nothing leaves the defaults.",
			file:   "version: 0.1",
			change: func(*settings.Settings) {},
		},
		{
			about:  "A key leaves the others of its section alone.",
			file:   "version: 0.1\nverify:\n  mode: audit\n",
			change: func(s *settings.Settings) { s.Verify.Mode = settings.Audit },
		},
		{
			about:  "An explicit empty value is not the default.",
			file:   "version: 0.1\nhttp:\n  draintimeout: 0s\n  debug: {addr: ''}\n",
			change: func(s *settings.Settings) { s.HTTP.DrainTimeout = 0; s.HTTP.Debug.Addr = "" },
		},
		{
			about:  "The word off is not taken for a boolean.",
			file:   "version: 0.1\nverify: {mode: off, portability: off}\n",
			change: func(s *settings.Settings) { s.Verify.Mode, s.Verify.Portability = "off", "off" },
		},
		{
			about: "Lists, sizes and durations have their own notation.",
			file: "version: 0.1\nhttp: {draintimeout: 1m30s, tls: {certificate: a, key: b, clientcas: [c, d]}}\n" +
				"limits: {manifest: 8MiB, config: 65536}\n",
			change: func(s *settings.Settings) {
				s.HTTP.DrainTimeout = 90 * time.Second
				s.HTTP.TLS.Certificate, s.HTTP.TLS.Key = "a", "b"
				s.HTTP.TLS.ClientCAs = []string{"c", "d"}
				s.Limits.Manifest, s.Limits.Config = 8*settings.MiB, 64*settings.KiB
			},
		},
		{
			about: "Trusted proxies are addresses or prefixes.",
			file:  "version: 0.1\nhttp: {trustedproxies: [10.1.2.3/8, 192.0.2.1, '::1', '::ffff:192.0.2.2']}\n",
			change: func(s *settings.Settings) {
				s.HTTP.TrustedProxies = settings.Prefixes{
					netip.MustParsePrefix("10.0.0.0/8"),
					netip.MustParsePrefix("192.0.2.1/32"),
					netip.MustParsePrefix("::1/128"),
					netip.MustParsePrefix("192.0.2.2/32"),
				}
			},
		},
		{
			about: "Variables are on top of the file.",
			file:  "version: 0.1\nhttp: {addr: ':1'}\napi: {maxentries: 1}\n",
			env:   env{"DIFFGATE_HTTP_ADDR": ":2", "DIFFGATE_UPSTREAM_URL": "http://registry:5000"},
			change: func(s *settings.Settings) {
				s.HTTP.Addr, s.Upstream.URL, s.API.MaxEntries = ":2", "http://registry:5000", 1
			},
		},
		{
			about: "Variables have every type.",
			file:  "version: 0.1",
			env: env{
				"DIFFGATE_HTTP_DRAINTIMEOUT":      "5s",
				"DIFFGATE_HTTP_TRUSTEDPROXIES":    "[10.0.0.0/8]",
				"DIFFGATE_UPSTREAM_TLS_INSECURE":  "true",
				"DIFFGATE_UPSTREAM_TLS_ROOTCAS":   "[a.pem, b.pem]",
				"DIFFGATE_LIMITS_UNPACKED":        "64GiB",
				"DIFFGATE_LIMITS_RATIO":           "1000",
				"DIFFGATE_LOG_ACCESSLOG_DISABLED": "true",
			},
			change: func(s *settings.Settings) {
				s.HTTP.DrainTimeout = 5 * time.Second
				s.HTTP.TrustedProxies = settings.Prefixes{netip.MustParsePrefix("10.0.0.0/8")}
				s.Upstream.TLS.Insecure = true
				s.Upstream.TLS.RootCAs = []string{"a.pem", "b.pem"}
				s.Limits.Unpacked = 64 * settings.GiB
				s.Limits.Ratio = 1000
				s.Log.AccessLog.Disabled = true
			},
		},
		{
			about:  "An empty variable empties text and lists.",
			file:   "version: 0.1\nhttp: {trustedproxies: [10.0.0.1]}\n",
			env:    env{"DIFFGATE_HTTP_DEBUG_ADDR": "", "DIFFGATE_HTTP_TRUSTEDPROXIES": ""},
			change: func(s *settings.Settings) { s.HTTP.Debug.Addr = "" },
		},
		{
			about:  "Brackets in a variable need the quotes of YAML.",
			file:   "version: 0.1",
			env:    env{"DIFFGATE_HTTP_ADDR": `"[::1]:5000"`},
			change: func(s *settings.Settings) { s.HTTP.Addr = "[::1]:5000" },
		},
		{
			about: "Variables that Kubernetes makes for Services are not ours.",
			file:  "version: 0.1",
			env: env{
				"DIFFGATE_SERVICE_HOST":        "10.0.0.1",
				"DIFFGATE_SERVICE_PORT":        "5000",
				"DIFFGATE_SERVICE_PORT_HTTP":   "5000",
				"DIFFGATE_PORT":                "tcp://10.0.0.1:5000",
				"DIFFGATE_PORT_5000_TCP":       "tcp://10.0.0.1:5000",
				"DIFFGATE_PORT_5000_TCP_PROTO": "tcp",
				"DIFFGATE_PORT_5000_TCP_PORT":  "5000",
				"DIFFGATE_PORT_5000_TCP_ADDR":  "10.0.0.1",
				"DIFFGATE_HTTP_PORT":           "tcp://10.0.0.2:80",
				"DIFFGATE_HTTP_SERVICE_HOST":   "10.0.0.2",
			},
			change: func(*settings.Settings) {},
		},
		{
			about: "Nor are those of other programs, nor the two that are not settings.",
			file:  "version: 0.1",
			env: env{
				"DIFFGATEWAY_ADDR":            "x",
				"REGISTRY_HTTP_ADDR":          ":1",
				"DIFFGATE_CONFIGURATION_PATH": "elsewhere.yml",
				"DIFFGATE_E2E":                "1",
			},
			change: func(*settings.Settings) {},
		},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			test.env.set(t)
			want := settings.Default()
			test.change(&want)
			got, _, err := settings.Parse("config.yml", []byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compare...); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	t.Setenv("DIFFGATE_HTTP_ADDR", ":2")
	t.Setenv("DIFFGATE_VERIFY_MODE", "audit")
	_, got, err := settings.Parse("config.yml", []byte("version: 0.1\nhttp:\n  addr: :1\n  draintimeout: 1s\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"version":           "config.yml:1",
		"http.addr":         "DIFFGATE_HTTP_ADDR",
		"http.draintimeout": "config.yml:4",
		"verify.mode":       "DIFFGATE_VERIFY_MODE",
	}
	if diff := cmp.Diff(want, got.Keys); diff != "" || got.File != "config.yml" {
		t.Errorf("file %q, -want +got:\n%s", got.File, diff)
	}
}
