package settings

import (
	"time"

	"github.com/distribution/distribution/v3/configuration"
)

// version is the only version of the file's format so far.
const version configuration.Version = "0.1"

// Default returns the settings of a program that was told nothing. The shipped
// config.yml says the same.
func Default() Settings {
	return Settings{
		Version: version,
		Log:     Log{Level: "info", Formatter: Text},
		HTTP: HTTP{
			Addr:         ":5000",
			DrainTimeout: time.Minute,
			TLS:          ServerTLS{MinimumTLS: TLS12},
			// Profiles and the web pages are for whoever is on the machine.
			Debug: Debug{Addr: "127.0.0.1:5001"},
		},
		Upstream: Upstream{Redirects: Follow},
		Embedded: Embedded{RootDirectory: "data/registry"},
		Index:    Index{Bolt: Bolt{Path: "data/diffids.db"}},
		Verify: Verify{
			Mode:         Enforce,
			Pulls:        Off,
			Code:         ManifestInvalid,
			Portability:  Warn,
			Unverifiable: Unproven{}, // none
			Schema1:      Reject,
		},
		API: API{MaxEntries: 1000, AuthTTL: 5 * time.Second},
		Limits: Limits{
			Manifest: 4 * MiB, // as distribution itself
			Config:   4 * MiB,
			Unpacked: TiB,
			Ratio:    40000,
			Window:   512 * MiB, // as containerd
			Fetches:  4,
			Ahead:    256,
			Sessions: 1024,
		},
	}
}
