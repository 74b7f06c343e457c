package verify_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What may not be in the dependency graph of what. Package verify can be
// checked without knowing HTTP; the stores and the proxy do not know each
// other.
func TestImports(t *testing.T) {
	t.Parallel()
	for pkg, banned := range map[string][]string{
		"diffgate/verify": {
			"net/http", "go.uber.org/zap", "go.etcd.io/bbolt", "github.com/gorilla/mux",
			"diffgate/verify/index", "diffgate/proxy",
		},
		"diffgate/verify/index": {"diffgate/proxy"},
		"diffgate/verify/layout": {
			"net/http", "go.uber.org/zap", "go.etcd.io/bbolt", "github.com/gorilla/mux",
			"diffgate/verify/index", "diffgate/proxy",
		},
		"diffgate/verify/repair": {
			"net/http", "go.uber.org/zap", "go.etcd.io/bbolt", "github.com/gorilla/mux",
			"diffgate/verify/index", "diffgate/proxy",
		},
		"diffgate/proxy": {"diffgate/verify/index"},
	} {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
			if err != nil {
				t.Fatalf("go list -deps %s: %v", pkg, err)
			}
			deps := map[string]bool{}
			for dep := range strings.Lines(string(out)) {
				deps[strings.TrimSpace(dep)] = true
			}
			if !deps[pkg] {
				t.Fatalf("go list -deps %s does not list the package itself", pkg)
			}
			for _, path := range banned {
				if deps[path] {
					t.Errorf("%s depends on %s", pkg, path)
				}
			}
		})
	}
}
