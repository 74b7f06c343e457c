package index_test

import (
	"path/filepath"
	"testing"

	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) index.Store { return index.NewMemory() })
}

func TestBolt(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(t *testing.T) index.Store {
		s, _ := openBolt(t, filepath.Join(t.TempDir(), "diffids.db"))
		return s
	})
	indextest.RunDurable(t, func(t *testing.T, folder string) index.Store {
		s, _ := openBolt(t, filepath.Join(folder, "diffids.db"))
		return s
	})
}
