package verify

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Reason is the machine-readable ground of a finding; part of the HTTP API.
type Reason string

// The reasons.
const (
	ReasonDiffIDMismatch    Reason = "diff_id_mismatch"
	ReasonDiffIDCount       Reason = "diff_id_count"
	ReasonDiffIDMalformed   Reason = "diff_id_malformed"
	ReasonLayerCorrupt      Reason = "layer_corrupt"
	ReasonLayerAmbiguous    Reason = "layer_ambiguous"
	ReasonUnverifiable      Reason = "unverifiable"
	ReasonConfigInvalid     Reason = "config_invalid"
	ReasonConfigAmbiguous   Reason = "config_ambiguous"
	ReasonManifestInvalid   Reason = "manifest_invalid"
	ReasonManifestAmbiguous Reason = "manifest_ambiguous"
	ReasonSchema1           Reason = "schema1"
	ReasonUnknownMediaType  Reason = "unknown_media_type"
	ReasonNotPortable       Reason = "not_portable"
	ReasonBlobUnknown       Reason = "blob_unknown"
	ReasonOverLimit         Reason = "over_limit"        // it was not looked at, because of a limit of ours
	ReasonPlatformMismatch  Reason = "platform_mismatch" // an image index gives an image another platform than its config
	ReasonNotAnImage        Reason = "not_an_image"      // it has the type of an image and says nothing about one
)

// A Cause is the likely story behind a false DiffID; part of the HTTP API.
type Cause string

// The causes that can be shown from the claims and facts of one image.
const (
	CauseCompressedDigest Cause = "compressed_digest" // the digest of the stored blob
	CauseReversed         Cause = "reversed"          // the ids stand in reverse order
	CauseOtherLayer       Cause = "other_layer"       // the id, or the blob, of another layer of the image
	CauseEmptyString      Cause = "empty_string"      // the digest of nothing
	CauseUncompressedTwin Cause = "uncompressed_twin" // the blob is another layer, uncompressed
	CauseEmptyBlob        Cause = "empty_blob"        // the blob holds nothing
	CauseUnpaddedTar      Cause = "unpadded_tar"      // the digest of the tar without its padding, or with more
	CauseRecompressed     Cause = "recompressed"      // the layer was compressed twice
)

// The causes of what is unverifiable. A Policy may allow them.
const (
	CauseEncrypted Cause = "encrypted" // only the holder of a key can read the layer
	CauseForeign   Cause = "foreign"   // the layer is kept elsewhere, and not in the registry
)

// A Runtime is what will not pull an image; part of the HTTP API.
type Runtime string

// The runtimes that findings name. Docker means its own store, Podman all that
// is made of containers/image. Docker and containerd have unpigz or igzip
// unpack gzip when the machine has them, and differ with it.
const (
	Docker      Runtime = "docker"
	Containerd  Runtime = "containerd"
	Podman      Runtime = "podman"
	Crane       Runtime = "crane"
	Umoci       Runtime = "umoci"
	WithPigz    Runtime = "with_pigz"
	WithoutPigz Runtime = "without_pigz"
)

// A Severity says which question a finding answers.
type Severity uint8

// The severities, gravest first.
const (
	False     Severity = iota // a claim is false, or the bytes mean different things to different readers
	Undecided                 // it cannot be found out
	Portable                  // all runtimes that read it read the same, but some runtime will not pull it
	Notice                    // worth saying; never a reason to refuse
)

// A Finding is one thing to say about an image.
type Finding struct {
	Severity Severity
	Reason   Reason
	Cause    Cause         // empty when none could be shown
	Layer    int           // position from 0; -1 when it is about the whole image
	Digest   digest.Digest // of the layer or config; may be empty
	Claimed  DiffID        // what the config says; may be empty
	Actual   DiffID        // what the blob unpacks to; may be empty
	Runtimes []Runtime     // that will not pull the image, when it is Portable
	Manifest digest.Digest // of the image index's child that it is about; empty when it is about the manifest itself
	Message  string        // one line of at most 300 bytes of ASCII that starts with the subject
}

// Masked returns the finding about a false image whose config is also that of
// twin, an image that is right. Runtimes know an image by its config.
func Masked(config, twin digest.Digest) Finding {
	return Finding{Reason: ReasonDiffIDMismatch, Layer: -1, Digest: config, Message: fmt.Sprintf(
		"masked mismatch: image %s has the same config %s and is right: machines that have it accept this image unread, clean ones refuse it",
		short(twin), short(config))}
}

// A ClaimError is what ParseManifest and ParseConfig return for a document
// that cannot be judged because it is not valid or not unambiguous.
type ClaimError struct {
	Reason  Reason
	Message string
}

func (e *ClaimError) Error() string { return e.Message }

// A Verdict is the answer about one manifest; part of the HTTP API.
type Verdict string

// The verdicts.
const (
	Match        Verdict = "match"
	Mismatch     Verdict = "mismatch"
	Unverifiable Verdict = "unverifiable"
	Unverified   Verdict = "unverified" // a layer that nobody hashed yet
	NotAnImage   Verdict = "not_an_image"
)

// A Status is the answer about one layer; part of the HTTP API.
type Status string

// The statuses.
const (
	StatusMatch        Status = "match"
	StatusMismatch     Status = "mismatch"
	StatusAmbiguous    Status = "ambiguous"
	StatusCorrupt      Status = "corrupt"
	StatusUnverifiable Status = "unverifiable"
	StatusUnverified   Status = "unverified"  // nobody hashed the blob yet
	StatusNotALayer    Status = "not_a_layer" // a blob that no runtime unpacks
	StatusUncompared   Status = "uncompared"  // the counts differ: no claim belongs to it
)

// A LayerReport is what is known about one layer.
type LayerReport struct {
	Descriptor ocispec.Descriptor
	Fact       *Fact  // nil when nobody hashed the blob, or its upstream does not hold it
	Claimed    string // the config's entry as written; empty when there is none
	TOC        string // claimed digest of the table of contents that lazy pullers trust instead; mostly empty
	DiffID     DiffID // computed; empty when there is none
	ChainID    digest.Digest
	Status     Status
}

// A ChildReport is the answer about one manifest of an image index.
type ChildReport struct {
	Descriptor ocispec.Descriptor
	MediaType  string // that it was judged as; empty when the registry does not hold it
	Platform   string // that its config names, as "os/architecture"; empty when it names none
	Verdict    Verdict
	Findings   []Finding  // the gravest first, at most MaxFindings
	Judgement  *Judgement // to be remembered; nil when there is nothing new that holds for good
}

// A Report is the whole answer about one manifest.
type Report struct {
	Verdict  Verdict // of an image index, the gravest of its children
	Config   digest.Digest
	Platform ocispec.Platform
	Layers   []LayerReport
	Children []ChildReport // of an image index
	Findings []Finding     // also those of the children
}

// A Policy says what to do with findings that are not mismatches. Its zero value is
// the default: what cannot be proven is refused, what is not portable is warned about.
type Policy struct {
	AllowUnverifiable []Cause // CauseEncrypted, CauseForeign: accepted with a warning, though nobody can prove it
	RejectNotPortable bool    // otherwise it is warned about
	IgnoreNotPortable bool    // it is neither rejected nor warned about
	AllowSchema1      bool    // Docker schema 1, which cannot be verified
}

// Rejections returns the findings for which the policy refuses the image. Their
// messages name the setting that would accept it, if there is one.
func (p Policy) Rejections(findings []Finding) []Finding {
	rejected := filter(findings, func(f Finding) bool { return p.rejects(f) })
	for i, f := range rejected {
		if f.Reason == ReasonUnverifiable && f.Cause != "" {
			hint := fmt.Sprintf("; the setting verify.unverifiable accepts it if it lists %s", f.Cause)
			rejected[i].Message = f.Message[:min(len(f.Message), maxMessage-len(hint))] + hint
		}
	}
	return rejected
}

// Warnings returns the findings that the policy lets pass with a warning.
func (p Policy) Warnings(findings []Finding) []Finding {
	warned := filter(findings, func(f Finding) bool {
		return !p.rejects(f) && (f.Severity != Portable || !p.IgnoreNotPortable)
	})
	for i := range warned {
		if warned[i].Reason == ReasonSchema1 {
			warned[i].Message = "Docker schema 1 manifests carry no diff_ids: nothing was verified"
		}
	}
	return warned
}

func (p Policy) rejects(f Finding) bool {
	switch {
	case f.Reason == ReasonSchema1:
		return !p.AllowSchema1
	case f.Severity == Undecided:
		return !slices.Contains(p.AllowUnverifiable, f.Cause)
	case f.Severity == Portable:
		return p.RejectNotPortable
	}
	return f.Severity != Notice
}

func filter(in []Finding, keep func(Finding) bool) []Finding {
	var out []Finding
	for _, f := range in {
		if keep(f) {
			out = append(out, f)
		}
	}
	return out
}
