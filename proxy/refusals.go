package proxy

import (
	"slices"

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

// abridged returns a report that is fit to be kept: of an image with more layers
// than anybody mounts, or of very many findings, not all.
func abridged(r verify.Report) verify.Report {
	const most = 128
	if len(r.Layers) > most {
		r.Layers = nil
	}
	r.Findings = slices.Clone(r.Findings[:min(len(r.Findings), most)])
	r.Children = slices.Clone(r.Children[:min(len(r.Children), most)])
	return r
}
