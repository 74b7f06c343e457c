package settings_test

import (
	"testing"
	"time"

	"diffgate/cmd/proxy/settings"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		about  string
		change func(*settings.Settings)
		want   string
	}{
		{
			"The defaults are right.",
			func(*settings.Settings) {},
			"",
		},
		{
			"A level that zap has, but that nothing here logs at.",
			func(s *settings.Settings) { s.Log.Level = "fatal" },
			`log.level: "fatal" is not one of debug, info, warn, error`,
		},
		{
			"Logstash is distribution's, not ours.",
			func(s *settings.Settings) { s.Log.Formatter = "logstash" },
			`log.formatter: "logstash" is not one of text, json`,
		},
		{
			"A port alone.",
			func(s *settings.Settings) { s.HTTP.Addr = "5000" },
			`http.addr: "5000" is not host:port; write one such as :5000`,
		},
		{
			"A port that does not exist.",
			func(s *settings.Settings) { s.HTTP.Addr = ":65536" },
			`http.addr: ":65536" is not host:port; write one such as :5000`,
		},
		{
			"IPv6 without brackets.",
			func(s *settings.Settings) { s.HTTP.Debug.Addr = "::1:5001" },
			`http.debug.addr: "::1:5001" is not host:port; write one such as :5000`,
		},
		{
			"IPv6 with brackets, and any free port.",
			func(s *settings.Settings) { s.HTTP.Addr = "[::1]:0" },
			"",
		},
		{
			"Nobody can do without the main listener.",
			func(s *settings.Settings) { s.HTTP.Addr = "" },
			`http.addr: "" is not host:port; write one such as :5000`,
		},
		{
			"The admin listener can be left out.",
			func(s *settings.Settings) { s.HTTP.Debug.Addr = "" },
			"",
		},
		{
			"Not to wait at all is a choice.",
			func(s *settings.Settings) { s.HTTP.DrainTimeout = 0 },
			"",
		},
		{
			"To wait for nanoseconds is a mistake.",
			func(s *settings.Settings) { s.HTTP.DrainTimeout = 60 },
			"http.draintimeout: 60ns is too short; want at least 1s, or 0s not to wait",
		},
		{
			"Time does not run backwards.",
			func(s *settings.Settings) { s.HTTP.DrainTimeout = -time.Minute },
			"http.draintimeout: -1m0s is too short; want at least 1s, or 0s not to wait",
		},
		{
			"Hashing cannot end before it begins.",
			func(s *settings.Settings) { s.Limits.Lag = -time.Second },
			"limits.lag: -1s is less than no time",
		},
		{
			"Nor can a word be believed.",
			func(s *settings.Settings) { s.API.AuthTTL = -time.Second },
			"api.authttl: -1s is less than no time",
		},
		{
			"A certificate without its key.",
			func(s *settings.Settings) { s.HTTP.TLS.Certificate = "a.pem" },
			"http.tls.certificate: needs http.tls.key too",
		},
		{
			"A key without its certificate.",
			func(s *settings.Settings) { s.Upstream.TLS.Key = "a.key" },
			"upstream.tls.key: needs upstream.tls.certificate too",
		},
		{
			"Client certificates that nothing would ask for.",
			func(s *settings.Settings) { s.HTTP.TLS.ClientCAs = []string{"ca.pem"} },
			"http.tls.clientcas: needs http.tls.certificate too",
		},
		{
			"A list with a hole.",
			func(s *settings.Settings) { s.Upstream.TLS.RootCAs = []string{"ca.pem", ""} },
			"upstream.tls.rootcas: has an empty name; write [] for none",
		},
		{
			"A TLS version that is broken.",
			func(s *settings.Settings) { s.HTTP.TLS.MinimumTLS = "tls1.1" },
			`http.tls.minimumtls: "tls1.1" is not one of tls1.2, tls1.3`,
		},
		{
			"The embedded registry needs a place.",
			func(s *settings.Settings) { s.Embedded.RootDirectory = "" },
			"embedded.rootdirectory: must not be empty",
		},
		{
			"So does the DiffID index.",
			func(s *settings.Settings) { s.Index.Bolt.Path = "" },
			"index.bolt.path: must not be empty",
		},
		{
			"A misspelt mode.",
			func(s *settings.Settings) { s.Verify.Mode = "enforced" },
			`verify.mode: "enforced" is not one of enforce, audit, off`,
		},
		{
			"A code as it is on the wire.",
			func(s *settings.Settings) { s.Verify.Code = "MANIFEST_INVALID" },
			`verify.code: "MANIFEST_INVALID" is not one of manifest_invalid, denied`,
		},
		{
			"A word that another key has.",
			func(s *settings.Settings) { s.Verify.Portability = settings.Allow },
			`verify.portability: "allow" is not one of warn, reject, off`,
		},
		{
			"Only two kinds of layers may be accepted unproven.",
			func(s *settings.Settings) { s.Verify.Unverifiable = []string{settings.Foreign, settings.Allow} },
			`verify.unverifiable: "allow" is not one of encrypted, foreign`,
		},
		{
			"Nor is schema 1.",
			func(s *settings.Settings) { s.Verify.Schema1 = settings.Warn },
			`verify.schema1: "warn" is not one of reject, allow`,
		},
		{
			"Pages have at least one entry.",
			func(s *settings.Settings) { s.API.MaxEntries = 0 },
			"api.maxentries: 0 is too small; want at least 1",
		},
		{
			"A unit was left out.",
			func(s *settings.Settings) { s.Limits.Manifest = 4 },
			"limits.manifest: 4 is too small; want at least 64KiB",
		},
		{
			"Ordinary zstd layers have windows of 8 MiB.",
			func(s *settings.Settings) { s.Limits.Window = 4 * settings.MiB },
			"limits.window: 4MiB is too small; want at least 8MiB",
		},
		{
			"The first of several problems is told.",
			func(s *settings.Settings) { s.Limits = settings.Limits{}; s.API.MaxEntries = -1 },
			"api.maxentries: -1 is too small; want at least 1",
		},
	}
	for _, test := range tests {
		s := settings.Default()
		test.change(&s)
		if got := errorText(s.Check()); got != test.want {
			t.Errorf("%s\ngot  %q\nwant %q", test.about, got, test.want)
		}
	}
}

func TestCheckUpstreamURL(t *testing.T) {
	t.Parallel()
	const (
		notURL      = "upstream.url: not a URL of a registry; write one such as http://registry:5000"
		credentials = "upstream.url: must not hold credentials; those of each client are forwarded"
		tooLong     = "upstream.url: after the host, only a plain path such as /reg may follow, with no slash at its end; the registry is at /v2/ under it"
	)
	tests := []struct {
		about string
		url   string
		want  string
	}{
		{"None means the embedded registry.", "", ""},
		{"A name and a port.", "http://registry:5000", ""},
		{"A name alone.", "https://registry.example.com", ""},
		{"An IPv6 address.", "http://[::1]:5000", ""},
		{"The scheme in capitals.", "HTTP://registry:5000", ""},
		{"No scheme, so that the host looks like one.", "registry:5000", notURL},
		{"No scheme at all.", "//registry", notURL},
		{"Another scheme.", "ftp://registry", notURL},
		{"No host.", "http://:5000", notURL},
		{"A space.", "http://registry 5000", notURL},
		{"A password, which is not repeated.", "http://user:secret@registry", credentials},
		{"A password that is not even valid.", "http://user:se%cret@registry", notURL},
		{"A user alone.", "http://user@registry", credentials},
		{"The root.", "http://registry/", tooLong},
		{"A path that the registry is under.", "http://registry:5000/reg", ""},
		{"A longer one.", "https://registry/artifactory/api/docker/my_repo-1.0~x", ""},
		{"A slash at its end.", "http://registry/reg/", tooLong},
		{"Where the API is, which goes without saying.", "http://registry/v2/", tooLong},
		{"The same without the slash.", "http://registry/reg/v2", tooLong},
		{"A way up.", "http://registry/a/../reg", tooLong},
		{"A way up at the end.", "http://registry/reg/..", tooLong},
		{"A way nowhere.", "http://registry/./reg", tooLong},
		{"Two slashes.", "http://registry//reg", tooLong},
		{"Two slashes within.", "http://registry/a//reg", tooLong},
		{"An escape.", "http://registry/r%65g", tooLong},
		{"An escaped slash.", "http://registry/a%2Freg", tooLong},
		{"A space.", "http://registry/my reg", tooLong},
		{"A parameter.", "http://registry/reg;a=b", tooLong},
		{"Letters that need escapes.", "http://registry/ré", tooLong},
		{"A path and a query.", "http://registry/reg?a=b", tooLong},
		{"A query.", "http://registry?a=b", tooLong},
		{"An empty query.", "http://registry?", tooLong},
		{"An empty fragment.", "http://registry#", tooLong},
		{"A port that does not exist.", "http://registry:65536", "upstream.url: port 65536 is out of range"},
	}
	for _, test := range tests {
		s := settings.Default()
		s.Upstream.URL = test.url
		if got := errorText(s.Check()); got != test.want {
			t.Errorf("%s %q\ngot  %q\nwant %q", test.about, test.url, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
