package settings_test

import (
	"reflect"
	"strings"
	"testing"

	"diffgate/cmd/proxy/settings"
)

func TestParseVariableErrors(t *testing.T) {
	tests := []struct {
		about string
		env   env
		want  string
	}{
		{
			"Two letters swapped.",
			env{"DIFFGATE_UPSTREAM_ULR": "http://registry"},
			"unknown variable DIFFGATE_UPSTREAM_ULR; did you mean DIFFGATE_UPSTREAM_URL?",
		},
		{
			"A name that is like no other.",
			env{"DIFFGATE_NOTIFICATIONS": "x"},
			"unknown variable DIFFGATE_NOTIFICATIONS",
		},
		{
			"The version is the file's.",
			env{"DIFFGATE_VERSION": "0.1"},
			"unknown variable DIFFGATE_VERSION",
		},
		{
			"Below a key that is no section.",
			env{"DIFFGATE_HTTP_ADDR_HOST": "a"},
			"unknown variable DIFFGATE_HTTP_ADDR_HOST",
		},
		{
			"A port that is not of a Service.",
			env{"DIFFGATE_HTTP_PORT": "5000"},
			"unknown variable DIFFGATE_HTTP_PORT",
		},
		{
			"A section.",
			env{"DIFFGATE_HTTP_TLS": "{certificate: a}"},
			"DIFFGATE_HTTP_TLS: a section is not set as a whole; set its keys, such as DIFFGATE_HTTP_TLS_CERTIFICATE",
		},
		{
			"An element of a list.",
			env{"DIFFGATE_HTTP_TLS_CLIENTCAS_0": "ca.pem"},
			"DIFFGATE_HTTP_TLS_CLIENTCAS_0: a list is not set element by element; write DIFFGATE_HTTP_TLS_CLIENTCAS='[a, b]'",
		},
		{
			"Not a number.",
			env{"DIFFGATE_API_MAXENTRIES": "many"},
			"DIFFGATE_API_MAXENTRIES: want a whole number",
		},
		{
			"No value for what cannot be empty.",
			env{"DIFFGATE_HTTP_DRAINTIMEOUT": ""},
			"DIFFGATE_HTTP_DRAINTIMEOUT: no value; unset it to keep the default",
		},
		{
			"No size.",
			env{"DIFFGATE_LIMITS_CONFIG": "big"},
			`DIFFGATE_LIMITS_CONFIG: "big" is not a size; write one such as 4MiB`,
		},
		{
			"Text that is YAML's syntax.",
			env{"DIFFGATE_HTTP_ADDR": "[::1]:5000"},
			`DIFFGATE_HTTP_ADDR: want text; the value is read as YAML and needs quotes of its own, as in '"[::1]:5000"'`,
		},
		{
			"A list that is not YAML.",
			env{"DIFFGATE_HTTP_TRUSTEDPROXIES": "[10.0.0.1"},
			"DIFFGATE_HTTP_TRUSTEDPROXIES: want a list such as [a, b]",
		},
		{
			"A value that makes no sense.",
			env{"DIFFGATE_VERIFY_MODE": "on"},
			`DIFFGATE_VERIFY_MODE: verify.mode: "on" is not one of enforce, audit, off`,
		},
		{
			"The first of several by name.",
			env{"DIFFGATE_ZZZ": "1", "DIFFGATE_AAA": "1"},
			"unknown variable DIFFGATE_AAA",
		},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			test.env.set(t)
			_, _, err := settings.Parse("config.yml", []byte("version: 0.1"))
			if got := errorText(err); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestEveryKeyHasItsVariable(t *testing.T) {
	for _, key := range keysOf(reflect.TypeFor[settings.Settings]()) {
		if key == "version" {
			continue
		}
		t.Run(key, func(t *testing.T) {
			name := "DIFFGATE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			t.Setenv(name, "{}") // which is no value of any key
			_, _, err := settings.Parse("config.yml", readShipped(t))
			if got := errorText(err); !strings.HasPrefix(got, name+": ") {
				t.Errorf("%s={}: got %q", name, got)
			}
		})
	}
}
