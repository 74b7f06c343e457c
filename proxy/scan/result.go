package scan

import (
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
)

// An Outcome is what a Result comes down to; part of the JSON.
type Outcome string

// The outcomes.
const (
	Right     Outcome = "right"     // a true image, or no image at all
	False     Outcome = "false"     // nobody can, or should, run it
	Undecided Outcome = "undecided" // it could not be found out
	Planned   Outcome = "planned"   // of a dry run: it would be looked at
)

// A Result is the answer about one tag, or why there is none: then Outcome is
// Undecided and Error says what failed. One without a Tag is about a whole
// repository whose tags could not be listed, and one without a Repository about
// the catalog.
type Result struct {
	Repository string         `json:"repository,omitempty"`
	Tag        string         `json:"tag,omitempty"`
	Digest     digest.Digest  `json:"digest,omitempty"` // of the manifest
	MediaType  string         `json:"media_type,omitempty"`
	Platform   string         `json:"platform,omitempty"` // of an image, by its config
	Outcome    Outcome        `json:"outcome"`
	Verdict    verify.Verdict `json:"verdict,omitempty"` // none in a dry run
	Findings   []Finding      `json:"findings,omitempty"`
	Error      string         `json:"error,omitempty"`
	ToRead     *Amount        `json:"to_read,omitempty"` // of a dry run

	skipped bool  // too old
	known   bool  // judged by an earlier run
	first   bool  // of its manifest in this run
	err     error // that Error is of
}

// A Finding is one thing to say about an image, as the API says it, with the
// platform that it is about.
type Finding struct {
	api.Found
	Platform string `json:"platform,omitempty"`
}

// NotPortable reports whether the finding is only that some runtimes will not
// pull the image.
func (f Finding) NotPortable() bool { return len(f.Runtimes) > 0 }

// What returns the cause of a finding, or its reason where no cause is known.
func (f Finding) What() string {
	if f.Cause != "" {
		return string(f.Cause)
	}
	return string(f.Reason)
}

// An Amount is what there is to read.
type Amount struct {
	Layers int64 `json:"layers"`
	Bytes  int64 `json:"bytes"` // as stored
}

// A Summary is what a run comes down to. Right, False, Undecided and Planned
// count results.
type Summary struct {
	Registry     string    `json:"registry"`
	StartedAt    time.Time `json:"started_at"`
	Seconds      float64   `json:"seconds"`
	Complete     bool      `json:"complete"` // false when the run was ended before its end
	Diffgate     bool      `json:"diffgate"` // whether one was asked
	Repositories int64     `json:"repositories"`
	Tags         int64     `json:"tags"`
	Manifests    int64     `json:"manifests"` // different ones
	Known        int64     `json:"known"`     // of Manifests, judged by an earlier run
	Right        int64     `json:"right"`
	False        int64     `json:"false"`
	Undecided    int64     `json:"undecided"`
	Skipped      int64     `json:"skipped"` // tags of images that are too old
	Read         Amount    `json:"read"`    // layers; the bytes are those of configs too
	ToRead       *Amount   `json:"to_read,omitempty"`
}

// A Progress is how far a run has come.
type Progress struct {
	Summary
	Total int64         // repositories there are; 0 while they are not known
	Rate  float64       // bytes read in a second, since the Progress before
	Left  time.Duration // until the end, if the rest is like what was; 0 while nobody knows
}

// outcome returns what a verdict comes down to.
func outcome(v verify.Verdict) Outcome {
	switch v {
	case verify.Match, verify.NotAnImage:
		return Right
	case verify.Mismatch:
		return False
	}
	return Undecided
}
