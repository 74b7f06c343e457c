package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"diffgate/cmd/proxy/settings"
	"diffgate/proxy"
)

// docs/operate.md names every metric of the program, and no other.
func TestDocsNameEveryMetric(t *testing.T) {
	t.Parallel()
	var have names
	proxy.NewMetrics(&have)
	store, err := openIndex(settings.Index{Bolt: settings.Bolt{Path: filepath.Join(t.TempDir(), "index.db")}}, &have, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`diffid_[a-z_]+`).FindAllString(string(page), -1)
	slices.Sort(documented)
	slices.Sort(have)
	if diff := cmp.Diff([]string(have), slices.Compact(documented)); diff != "" {
		t.Errorf("metrics (-program +docs):\n%s", diff)
	}
}

// names is a prometheus.Registerer that collects the names of metrics.
type names []string

var fqName = regexp.MustCompile(`fqName: "([^"]*)"`)

func (n *names) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 16)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		*n = append(*n, fqName.FindStringSubmatch(d.String())[1])
	}
	return nil
}

func (n *names) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := n.Register(c); err != nil {
			panic(err)
		}
	}
}

func (n *names) Unregister(prometheus.Collector) bool { return false }
