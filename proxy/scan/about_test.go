package scan

import (
	"strings"
	"testing"
	"time"
)

// What a config says of its age and platform, and that nothing it says is an
// error.
func FuzzParseAbout(f *testing.F) {
	for _, tt := range []struct {
		config, platform, created string
	}{
		{`{"created":"2026-01-02T03:04:05.6Z","os":"linux","architecture":"arm64","variant":"v8","rootfs":{"type":"layers","diff_ids":[]}}`, "linux/arm64/v8", "2026-01-02T03:04:05.6Z"},
		{`{"created":"yesterday","os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`, "linux/amd64", ""},
		{`{"created":7}`, "", ""},
		{`{}`, "", ""},
		{"", "", ""},
	} {
		got := parseAbout([]byte(tt.config))
		created := ""
		if !got.created.IsZero() {
			created = got.created.Format(time.RFC3339Nano)
		}
		if got.platform != tt.platform || created != tt.created {
			f.Errorf("%s: %q, %q", tt.config, got.platform, created)
		}
		f.Add([]byte(tt.config))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		if a := parseAbout(config); strings.Count(a.platform, "/") > len(config) {
			t.Errorf("platform %q", a.platform)
		}
	})
}
