package api

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// ReasonWrongBytes is of a registry, or file, that gives out other bytes than it was
// asked for: nobody can pull such an image. Clients find it; the proxy, which cuts
// such a blob off, has no report then.
const ReasonWrongBytes verify.Reason = "wrong_bytes"

// A Report is an answer of /v2/<name>/_diffids/manifests/<reference>.
type Report struct {
	Name      string         `json:"name"`
	Reference string         `json:"reference"`
	Digest    digest.Digest  `json:"digest"`
	MediaType string         `json:"media_type"`
	Config    digest.Digest  `json:"config,omitempty"`
	Platform  string         `json:"platform,omitempty"`
	Verdict   verify.Verdict `json:"verdict"`
	Message   string         `json:"message,omitempty"`
	Warnings  []string       `json:"warnings,omitempty"`
	Findings  []Found        `json:"findings,omitempty"` // the message and the warnings, for programs
	Layers    []Layer        `json:"layers,omitempty"`
	Manifests []Child        `json:"manifests,omitempty"` // of an image index
}

// A Finding is what was found about an image.
type Finding struct {
	Reason       verify.Reason    `json:"reason"`
	Cause        verify.Cause     `json:"cause,omitempty"`
	Layer        *int             `json:"layer,omitempty"` // from 0
	Digest       digest.Digest    `json:"digest,omitempty"`
	ConfigDiffID verify.DiffID    `json:"config_diff_id,omitempty"`
	DiffID       verify.DiffID    `json:"diff_id,omitempty"`
	Manifest     digest.Digest    `json:"manifest,omitempty"` // of an image index, that it is about
	Runtimes     []verify.Runtime `json:"runtimes,omitempty"` // that will not pull the image
}

// A Found is a finding with its sentence.
type Found struct {
	Finding
	Message string `json:"message"`
}

// A Layer is what is known about one layer of an image.
type Layer struct {
	Index        int           `json:"index"`
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"media_type"`
	Size         int64         `json:"size"`
	UnpackedSize *int64        `json:"unpacked_size,omitempty"`
	Encoding     string        `json:"encoding,omitempty"`
	ConfigDiffID string        `json:"config_diff_id,omitempty"`
	DiffID       verify.DiffID `json:"diff_id,omitempty"`
	ChainID      digest.Digest `json:"chain_id,omitempty"`
	TOC          string        `json:"toc_digest,omitempty"` // claimed; lazy pullers trust it instead
	Status       verify.Status `json:"status"`
}

// A Child is the answer about one manifest of an image index.
type Child struct {
	Digest   digest.Digest  `json:"digest"`
	Platform string         `json:"platform,omitempty"`
	Verdict  verify.Verdict `json:"verdict"`
}

// A Subject is the manifest that a report is on.
type Subject struct {
	Name      string // of the repository
	Reference string // as it was asked for
	Digest    digest.Digest
	MediaType string
}

// NewReport returns the report on a manifest. What the policy rejects becomes
// the message, what it only warns of the warnings.
func NewReport(s Subject, r verify.Report, policy verify.Policy) Report {
	out := Report{Name: s.Name, Reference: s.Reference, Digest: s.Digest, MediaType: s.MediaType,
		Config: r.Config, Platform: Platform(&r.Platform), Verdict: r.Verdict}
	if bad := policy.Rejections(r.Findings); len(bad) > 0 {
		out.Message = bad[0].Message
	}
	for _, f := range policy.Warnings(r.Findings) {
		out.Warnings = append(out.Warnings, f.Message)
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, Found{NewFinding(f), f.Message})
	}
	for i, l := range r.Layers {
		out.Layers = append(out.Layers, newLayer(i, l))
	}
	for _, c := range r.Children {
		out.Manifests = append(out.Manifests, Child{Digest: c.Descriptor.Digest, Platform: Platform(c.Descriptor.Platform), Verdict: c.Verdict})
	}
	return out
}

// NewFinding returns a finding without its sentence.
func NewFinding(f verify.Finding) Finding {
	out := Finding{Reason: f.Reason, Cause: f.Cause, Digest: f.Digest, ConfigDiffID: f.Claimed, DiffID: f.Actual,
		Manifest: f.Manifest, Runtimes: f.Runtimes}
	if f.Layer >= 0 {
		out.Layer = &f.Layer
	}
	return out
}

func newLayer(i int, l verify.LayerReport) Layer {
	out := Layer{Index: i, Digest: l.Descriptor.Digest, MediaType: l.Descriptor.MediaType, Size: l.Descriptor.Size,
		ConfigDiffID: l.Claimed, DiffID: l.DiffID, ChainID: l.ChainID, TOC: l.TOC, Status: l.Status}
	if l.Fact != nil {
		out.Encoding = l.Fact.Encoding.String()
		if l.Fact.Problem == verify.None {
			out.UnpackedSize = &l.Fact.UnpackedSize
		}
	}
	return out
}

// Platform returns "os/architecture" or "os/architecture/variant"; "" when
// there is none.
func Platform(p *ocispec.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
