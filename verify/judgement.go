package verify

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Rules is the version of the rules in this package. A Judgement that was made
// by other rules is not believed.
const Rules = 2

// A Judgement is what was found about one image manifest, to be remembered. It
// holds for those bytes under that media type wherever they are stored, as a
// Fact does for a blob.
type Judgement struct {
	Manifest  digest.Digest // SHA-256 of its bytes; the key
	MediaType string        // that it was judged as
	Rules     int           // that it was judged by
	Config    digest.Digest // that it names; empty when the manifest is false in itself
	Platform  string        // that its config names, as "os/architecture"; empty when it names none
	Verdict   Verdict
	Findings  []Finding // the gravest first, at most MaxFindings
	JudgedAt  time.Time // UTC, whole seconds
}

// MaxFindings is how many findings a Judgement keeps.
const MaxFindings = 8

// Clean reports whether nothing is to be said about the image under any policy.
func (j Judgement) Clean() bool {
	return (j.Verdict == Match || j.Verdict == NotAnImage) && len(j.Findings) == 0
}

// Valid reports whether the judgement holds for the manifest when it has the
// given media type.
func (j Judgement) Valid(mediaType string) bool {
	return j.Rules == Rules && j.MediaType == baseType(mediaType)
}

// Judgement returns what is to be remembered of a report about the manifest
// with that digest and media type. It returns false for a report that may come
// out otherwise another time, or elsewhere: about an image index, whose
// children may yet come, or about an image whose config or a layer could not
// be judged, is missing, or need not be in the repository.
func (r Report) Judgement(manifest digest.Digest, mediaType string) (Judgement, bool) {
	if r.Layers == nil || r.Verdict == Unverified || manifest.Algorithm() != digest.SHA256 {
		return Judgement{}, false
	}
	j := Judgement{Manifest: manifest, MediaType: baseType(mediaType), Rules: Rules, Config: r.Config, Platform: r.platform(), Verdict: r.Verdict}
	for _, f := range r.Findings {
		if f.Severity == Undecided || f.Reason == ReasonBlobUnknown {
			return Judgement{}, false
		}
	}
	for _, l := range r.Layers {
		if IsForeign(l.Descriptor) || len(l.Descriptor.URLs) > 0 {
			return Judgement{}, false
		}
	}
	j.Findings = gravest(r.Findings)
	return j, true
}

// platform returns the platform of the config as "os/architecture". It is empty if
// either is missing, or longer than any that is known.
func (r Report) platform() string {
	const most = 32
	os, arch := r.Platform.OS, r.Platform.Architecture
	if os == "" || arch == "" || len(os) > most || len(arch) > most || !isPrintable(os+arch) {
		return ""
	}
	return os + "/" + arch
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// gravest returns the gravest findings, at most MaxFindings.
func gravest(findings []Finding) []Finding {
	var out []Finding
	for s := False; s <= Notice; s++ {
		for _, f := range findings {
			if f.Severity == s && len(out) < MaxFindings {
				out = append(out, f)
			}
		}
	}
	return out
}
