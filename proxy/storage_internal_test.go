package proxy

import (
	"net/url"
	"strings"
	"testing"
)

// Where a redirect of the upstream may lead: to storage anywhere, but to this
// machine, its link and its cloud only if the upstream is there itself.
func TestWhereStorageMayBe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		upstream, address string
		allowed           bool
	}{
		{"http://registry.example", "203.0.113.7:443", true},
		{"http://registry.example", "[2001:db8::7]:443", true},
		{"http://registry.example", "10.0.0.1:9000", true}, // object storage lives on private networks
		{"http://registry.example", "[fd12::1]:9000", true},
		{"http://registry.example", "127.0.0.1:80", false},
		{"http://registry.example", "127.9.9.9:80", false},
		{"http://registry.example", "[::1]:80", false},
		{"http://registry.example", "[::ffff:127.0.0.1]:80", false},
		{"http://registry.example", "0.0.0.0:80", false},
		{"http://registry.example", "[::]:80", false},
		{"http://registry.example", "169.254.169.254:80", false},
		{"http://registry.example", "[::ffff:169.254.169.254]:80", false},
		{"http://registry.example", "[fe80::1%eth0]:80", false},
		{"http://registry.example", "[fd00:ec2::254]:80", false},
		{"http://registry.example", "100.100.100.200:80", false},
		{"http://localhost:5000", "127.0.0.1:9000", true},
		{"http://LOCALHOST", "[::1]:9000", true},
		{"http://localhost", "10.0.0.1:9000", true},
		{"http://localhost", "169.254.169.254:80", false},
		{"http://localhost", "[::ffff:a9fe:a9fe]:80", false},
		{"http://localhost", "[fe80::1%eth0]:80", false},
		{"http://localhost", "[fd00:ec2::254]:80", false},
		{"http://localhost", "0.0.0.0:80", false},
		{"http://localhost.example", "127.0.0.1:80", false},
		{"http://127.0.0.1:5000", "127.0.0.2:9000", true},
		{"http://127.0.0.1:5000", "[::1]:9000", true},
		{"http://[::1]:5000", "127.0.0.1:9000", true},
		{"http://[::ffff:127.0.0.1]", "127.0.0.1:9000", true},
		{"http://127.0.0.1", "169.254.169.254:80", false},
		{"http://127.0.0.1", "[fe80::1]:80", false},
		{"http://127.0.0.1", "[::]:80", false},
		{"http://169.254.7.7", "169.254.7.7:9000", true},
		{"http://169.254.7.7", "[::ffff:169.254.7.7]:9000", true},
		{"http://169.254.7.7", "169.254.169.254:80", false},
		{"http://169.254.7.7", "127.0.0.1:80", false},
		{"http://[fe80::1%25eth0]:5000", "[fe80::1%eth0]:9000", true},
		{"http://[fe80::1%25eth0]:5000", "[fe80::2%eth0]:9000", false},
		{"http://0.0.0.0:5000", "0.0.0.0:9000", true},
		{"http://10.0.0.1", "10.0.0.2:9000", true},
		{"http://10.0.0.1", "127.0.0.1:80", false},
	}
	for _, tt := range tests {
		base, err := url.Parse(tt.upstream)
		if err != nil {
			t.Fatal(err)
		}
		err = (&upstream{base: base}).checkStorage(t.Context(), "tcp", tt.address, nil)
		if (err == nil) != tt.allowed || err != nil && !strings.Contains(err.Error(), "is not followed") {
			t.Errorf("an upstream at %s redirects to %s: got %v, want it allowed: %t", tt.upstream, tt.address, err, tt.allowed)
		}
	}
}
