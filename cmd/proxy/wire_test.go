package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"diffgate/cmd/proxy/settings"
)

// Every setting that is about the proxy reaches it: a change of any changes what
// the Proxy is made of.
func TestSettingsArrive(t *testing.T) {
	t.Parallel()
	before := proxyConfig(settings.Default())
	changes := map[string]func(*settings.Settings){
		"http.trustedproxies": func(s *settings.Settings) {
			s.HTTP.TrustedProxies = settings.Prefixes{netip.MustParsePrefix("10.0.0.0/8")}
		},
		"upstream.redirects":     func(s *settings.Settings) { s.Upstream.Redirects = settings.Pass },
		"log.accesslog.disabled": func(s *settings.Settings) { s.Log.AccessLog.Disabled = true },
		"verify.mode":            func(s *settings.Settings) { s.Verify.Mode = settings.Audit },
		"verify.pulls":           func(s *settings.Settings) { s.Verify.Pulls = settings.Audit },
		"verify.code":            func(s *settings.Settings) { s.Verify.Code = settings.Denied },
		"verify.portability":     func(s *settings.Settings) { s.Verify.Portability = settings.Reject },
		"verify.unverifiable":    func(s *settings.Settings) { s.Verify.Unverifiable = []string{settings.Encrypted} },
		"verify.schema1":         func(s *settings.Settings) { s.Verify.Schema1 = settings.Allow },
	}
	for _, group := range []string{"API", "Limits"} { // of numbers alone
		fields := reflect.TypeFor[settings.Settings]()
		f, _ := fields.FieldByName(group)
		for i := range f.Type.NumField() {
			changes[group+"."+f.Type.Field(i).Name] = func(s *settings.Settings) {
				v := reflect.ValueOf(s).Elem().FieldByName(group).Field(i)
				v.SetInt(v.Int() + int64(time.Second))
			}
		}
	}
	for key, change := range changes {
		s := settings.Default()
		change(&s)
		if reflect.DeepEqual(before, proxyConfig(s)) {
			t.Errorf("%s changes nothing", key)
		}
	}
}
