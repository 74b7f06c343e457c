package settings

import "testing"

// Keys that are named for secrets have none printed; there may be some one day.
func TestMasking(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, value, want string }{
		{"dsn", "postgres://bob:hunter2@db/diffids", mask},
		{"dsn", "host=db password=hunter2", mask},
		{"password", "hunter2", mask},
		{"bearertoken", "hunter2", mask},
		{"password", "", ""},
		{"url", "http://registry:5000/a@b", "http://registry:5000/a@b"},
		{"url", "http://bob:p@ss@registry", "http://***@registry"},
		{"key", "/etc/key.pem", "/etc/key.pem"},
	} {
		if got, masked := masking(tt.key, tt.value); got != tt.want || masked != (tt.want != tt.value) {
			t.Errorf("%s: %q is printed as %q, masked %v, want %q", tt.key, tt.value, got, masked, tt.want)
		}
	}
}
