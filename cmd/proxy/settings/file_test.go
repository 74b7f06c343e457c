package settings_test

import (
	"testing"

	"diffgate/cmd/proxy/settings"
)

func TestParseFileErrors(t *testing.T) {
	tests := []struct {
		about string
		file  string
		want  string
	}{
		{
			"An empty file has no version.",
			"",
			`config.yml: no version; put "version: 0.1" at the top`,
		},
		{
			"Nor has one of comments.",
			"# nothing\n---\n",
			`config.yml: no version; put "version: 0.1" at the top`,
		},
		{
			"Nor has one that is no mapping.",
			"- version: 0.1\n",
			`config.yml: no version; put "version: 0.1" at the top`,
		},
		{
			"The version is missed before anything else.",
			"upstraem: {}\n",
			`config.yml: no version; put "version: 0.1" at the top`,
		},
		{
			"A file of the future.",
			"version: 0.2\n",
			`config.yml: version "0.2" is not supported; want "version: 0.1"`,
		},
		{
			"A misspelt section.",
			"version: 0.1\n\nupstraem:\n  url: http://registry:5000\n",
			`config.yml:3: unknown key "upstraem"; did you mean upstream?`,
		},
		{
			"A misspelt key, deep down.",
			"version: 0.1\nhttp:\n  addr: :1\n  tls:\n    certifcate: a.pem\n",
			`config.yml:5: unknown key "certifcate" in http.tls; did you mean certificate?`,
		},
		{
			"Keys are in lower case.",
			"version: 0.1\nhttp:\n  trustedProxies: []\n",
			`config.yml:3: unknown key "trustedProxies" in http; did you mean trustedproxies?`,
		},
		{
			"A key of distribution's that does nothing here.",
			"version: 0.1\nhttp:\n  relativeurls: true\n",
			`config.yml:3: unknown key "relativeurls" in http`,
		},
		{
			"A key without a name.",
			"version: 0.1\nlog: {~: 1}\n",
			`config.yml: unknown key "null" in log`,
		},
		{
			"A key twice.",
			"version: 0.1\napi:\n  maxentries: 1\n  maxentries: 2\n",
			`config.yml:4: api.maxentries: already set in line 3`,
		},
		{
			"A key twice in one line.",
			"version: 0.1\napi: {maxentries: 1, maxentries: 1}\n",
			`config.yml:2: api.maxentries: already set in line 2`,
		},
		{
			"A section twice.",
			"version: 0.1\nhttp:\n  addr: :1\napi:\n  maxentries: 1\nhttp:\n  addr: :2\n",
			`config.yml:6: http: already set in line 2`,
		},
		{
			"A section with all its keys commented out.",
			"version: 0.1\nhttp:\n#  addr: :1\n",
			`config.yml:2: http: no value; remove the key to keep its default`,
		},
		{
			"A key without a value.",
			"version: 0.1\nhttp:\n  debug:\n    addr:\n",
			`config.yml:4: http.debug.addr: no value; remove the key to keep its default`,
		},
		{
			"A value in place of a section.",
			"version: 0.1\nhttp:\n  debug: :5001\n",
			`config.yml:3: http.debug: want keys with values of their own`,
		},
		{
			"A section in place of text.",
			"version: 0.1\nhttp:\n  addr:\n    host: a\n",
			`config.yml:3: http.addr: want text`,
		},
		{
			"A duration without a unit, which is not one of nanoseconds.",
			"version: 0.1\nhttp:\n  draintimeout: 60\n",
			`config.yml:3: http.draintimeout: want a duration such as 60s`,
		},
		{
			"A word that is no duration.",
			"version: 0.1\nhttp:\n  draintimeout: soon\n",
			`config.yml:3: http.draintimeout: want a duration such as 60s`,
		},
		{
			"A word that is no boolean.",
			"version: 0.1\nupstream: {tls: {insecure: maybe}}\n",
			`config.yml:2: upstream.tls.insecure: want true or false`,
		},
		{
			"A fraction, which is not cut.",
			"version: 0.1\napi:\n  maxentries: 1.5\n",
			`config.yml:3: api.maxentries: want a whole number`,
		},
		{
			"A number that no machine has.",
			"version: 0.1\nlimits:\n  ratio: 1e30\n",
			`config.yml:3: limits.ratio: want a whole number`,
		},
		{
			"Text in place of a list.",
			"version: 0.1\nupstream:\n  tls:\n    rootcas: ca.pem\n",
			`config.yml:4: upstream.tls.rootcas: want a list such as [a, b]`,
		},
		{
			"A list of sections.",
			"version: 0.1\nhttp:\n  trustedproxies: [{a: b}]\n",
			`config.yml:3: http.trustedproxies: want a list such as [a, b]`,
		},
		{
			"An address that is none.",
			"version: 0.1\nhttp:\n  trustedproxies:\n  - 10.0.0.1\n  - 10.0.0.256\n",
			`config.yml:3: http.trustedproxies: "10.0.0.256" is not an IP address or prefix; write one such as 10.0.0.0/8`,
		},
		{
			"A zone, which no address would match.",
			"version: 0.1\nhttp:\n  trustedproxies: ['fe80::1%eth0']\n",
			`config.yml:3: http.trustedproxies: "fe80::1%eth0" is not an IP address or prefix; write one such as 10.0.0.0/8`,
		},
		{
			"A size with an odd unit.",
			"version: 0.1\nlimits:\n  manifest: 4XB\n",
			`config.yml:3: limits.manifest: "4XB" is not a size; write one such as 4MiB`,
		},
		{
			"A negative size.",
			"version: 0.1\nlimits:\n  manifest: -4MiB\n",
			`config.yml:3: limits.manifest: "-4MiB" is not a size; write one such as 4MiB`,
		},
		{
			"A list in place of a size.",
			"version: 0.1\nlimits:\n  manifest: [4MiB]\n",
			`config.yml:3: limits.manifest: want a size such as 4MiB`,
		},
		{
			"A value that makes no sense has its line too.",
			"version: 0.1\nverify:\n  code: denied\n  mode: enforced\n",
			`config.yml:4: verify.mode: "enforced" is not one of enforce, audit, off`,
		},
		{
			"The first of several problems is told.",
			"version: 0.1\nlog: {level: 1}\napi: {maxentries: x}\nnope: 1\n",
			`config.yml:3: api.maxentries: want a whole number`,
		},
		{
			"Not YAML.",
			"version: 0.1\nhttp:\n  addr: a: b\n",
			`config.yml:3: mapping values are not allowed in this context`,
		},
		{
			"A second document would be passed over.",
			"version: 0.1\n---\nhttp: {addr: ':1'}\n",
			`config.yml: more than one document; remove what follows the second ---`,
		},
	}
	for _, test := range tests {
		_, _, err := settings.Parse("config.yml", []byte(test.file))
		if got := errorText(err); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.about, got, test.want)
		}
	}
}
