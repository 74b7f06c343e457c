package proxy

import (
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const (
	// refusalsKept is how many refused manifests are remembered, so that the
	// report that a refusal points to can be read.
	refusalsKept = 256
	// looksKept is how many layers' looks are remembered: clients push a
	// refused image again at once, up to four times.
	looksKept = 256
)

// A refusal is a manifest that the gate refused.
type refusal struct {
	contentType string
	report      verify.Report
}

type refusalKey struct {
	repo     string
	manifest digest.Digest
}
