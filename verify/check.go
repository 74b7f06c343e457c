package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotFound is returned by a Repository that does not hold what it is asked
// for.
var ErrNotFound = errors.New("not found")

// ErrForbidden is returned by a Repository when its caller may not read what is
// asked for.
var ErrForbidden = errors.New("not allowed to read")

// ErrNoManifest is returned by Manifests when the repository answered, and what it
// answered with is no manifest.
var ErrNoManifest = errors.New("not a manifest")

// A TooLargeError is returned for a config that is larger than Limit bytes. Head is
// how it begins behind blanks; it is empty if that is not known.
type TooLargeError struct {
	Limit int64
	Head  []byte
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the config is larger than %d bytes (limits.config)", e.Limit)
}

// NewTooLargeError returns the error for a config that begins with read.
func NewTooLargeError(limit int64, read []byte) *TooLargeError {
	const enough = 16
	head := bytes.TrimLeft(read, " \t\r\n\ufeff")
	return &TooLargeError{Limit: limit, Head: bytes.Clone(head[:min(len(head), enough)])}
}

// isNoObject reports whether the config is known to be no JSON object.
func (e *TooLargeError) isNoObject() bool { return len(e.Head) > 0 && e.Head[0] != '{' }

// Blobs is what a check needs of the repository that an image is in. Its
// methods may be called at the same time.
type Blobs interface {
	// Config returns the bytes of a config, after checking their digest. It
	// returns ErrNotFound when the repository does not hold the blob, a
	// *TooLargeError when it is too large to be judged, and a *ClaimError when
	// it is known to be no JSON object.
	Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// Fact returns the fact about a layer, hashing it first if need be. It
	// returns ErrNotFound when the repository does not hold the blob, and
	// ErrUnknown when nobody hashed it and hashing was not wanted.
	Fact(ctx context.Context, desc ocispec.Descriptor) (Fact, error)
	// Look reads a layer once more. It returns the errors that Fact does.
	Look(ctx context.Context, desc ocispec.Descriptor) (Look, error)
}

// Manifests is what a check of an image index needs besides.
type Manifests interface {
	// Manifest returns the bytes of a manifest, after checking their digest,
	// and the media type that the repository serves it with. It returns
	// ErrNotFound when the repository does not hold it, ErrForbidden when it may
	// not be read, and ErrNoManifest when the answer is no manifest.
	Manifest(ctx context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error)
	// Judgement returns what was found about a manifest before, or ErrUnknown.
	// It returns the errors of Manifest for one that is not there.
	Judgement(ctx context.Context, manifest digest.Digest) (Judgement, error)
	// Known returns the fact about a blob if it is known already, or ErrUnknown.
	// It hashes nothing and sends no request.
	Known(ctx context.Context, dgst digest.Digest) (Fact, error)
}

// A Repository is both.
type Repository interface {
	Blobs
	Manifests
}

// Check judges a manifest of any kind.
//
// Everything that is wrong with the image, including its JSON, is a Finding of the
// Report. The error is for what could not be found out: it is an error of repo,
// wrapped with the manifest, layer or config that it is about. What can be decided
// without the missing answer is decided.
func Check(ctx context.Context, repo Repository, contentType string, body []byte) (Report, error) {
	m, err := ParseManifest(contentType, body)
	if err != nil {
		return claimReport(m, err)
	}
	switch m.Kind {
	case IndexKind:
		c := indexCheck{repo: repo, judged: map[childKey]ChildReport{}}
		return c.check(ctx, m, 1)
	case Schema1Kind:
		return schema1(m), nil
	case ArtifactKind:
		return Report{Verdict: NotAnImage}, nil
	case UnknownKind:
		return finding(m, Finding{Reason: ReasonUnknownMediaType, Layer: -1,
			Message: fmt.Sprintf("unknown manifest media type %+q: it cannot be judged", clip(contentType))}), nil
	}
	return checkImage(ctx, repo, m)
}

// CheckInline judges the manifests that stand in the descriptors of an image index
// (OCI image specification, descriptor.md, "Embedded Content"). A client that reads
// the image index may use them without asking for them. Errors are as for Check; a
// manifest of another kind, or one that is not valid, has nothing inline.
func CheckInline(ctx context.Context, repo Repository, contentType string, body []byte) (Report, error) {
	m, err := ParseManifest(contentType, body)
	if err != nil || m.Kind != IndexKind {
		return Report{Verdict: NotAnImage}, nil
	}
	var inline []ocispec.Descriptor
	for _, d := range m.Manifests {
		if d.Data != nil {
			inline = append(inline, d)
		}
	}
	m.Manifests = inline
	c := indexCheck{repo: repo, judged: map[childKey]ChildReport{}}
	return c.check(ctx, m, 1)
}

func schema1(m Manifest) Report {
	return finding(m, Finding{Severity: Undecided, Reason: ReasonSchema1, Layer: -1,
		Message: "Docker schema 1 manifests carry no diff_ids and are refused (verify.schema1)"})
}

// maxLayers bounds the layers of an image. Kernels mount 500 at most, docker 125,
// and each costs the upstream a request.
const maxLayers = 1000

// checkImage judges an image manifest if its config claims anything. The config
// decides that, whatever its media type: runtimes differ in the types they accept.
func checkImage(ctx context.Context, blobs Blobs, m Manifest) (Report, error) {
	body, err := config(ctx, blobs, m.Config)
	if errors.Is(err, ErrNotFound) {
		return finding(m, Finding{Reason: ReasonBlobUnknown, Layer: -1, Digest: m.Config.Digest,
			Message: fmt.Sprintf("the config %s is not in the repository; push it before the manifest", m.Config.Digest)}), nil
	}
	if err != nil {
		return configUnread(ctx, blobs, m, fmt.Errorf("read config %s: %w", m.Config.Digest, err))
	}
	c, err := ParseConfig(body)
	switch {
	case err != nil && (c.SaysDiffIDs || m.hasImageConfig()):
		return claimReport(m, err)
	case c.SaysDiffIDs || err == nil && m.judgedAnyway(c):
		return judgeImage(ctx, blobs, m, c, int64(len(body)))
	}
	return claimsNothing(ctx, blobs, m)
}

// configUnread reports a config that was not read whole. One that is too large, and
// begins as no JSON object does, claims nothing.
func configUnread(ctx context.Context, blobs Blobs, m Manifest, err error) (Report, error) {
	var large *TooLargeError
	var claim *ClaimError
	switch {
	case errors.As(err, &claim) && claim.Reason == ReasonConfigInvalid && !m.hasImageConfig():
		return claimsNothing(ctx, blobs, m)
	case !errors.As(err, &large):
		return claimReport(m, err)
	case !m.hasImageConfig() && large.isNoObject():
		return claimsNothing(ctx, blobs, m)
	}
	return finding(m, Finding{Severity: Undecided, Reason: ReasonOverLimit, Layer: -1, Digest: m.Config.Digest,
		Message: "over limit: " + large.Error()}), nil
}

// judgedAnyway reports whether a config without diff_ids is that of an image: it has
// the media type of an image config and says something about an image.
func (m Manifest) judgedAnyway(c Config) bool { return m.hasImageConfig() && c.HasImageKeys }

// claimsNothing reports a manifest whose config makes no claim about layers. Podman
// runs a Docker manifest without diff_ids, whatever its config is, so none of its
// blobs may be a tar archive.
func claimsNothing(ctx context.Context, blobs Blobs, m Manifest) (Report, error) {
	if m.MediaType == mediaTypeDockerManifest && len(m.Layers) > 0 {
		r, err := judgeImage(ctx, blobs, m, Config{}, m.Config.Size)
		if err != nil || len(r.Layers) == 0 || slices.ContainsFunc(r.Layers, LayerReport.mayUnpack) {
			return r, err
		}
	}
	r := noImage(m)
	if m.hasImageConfig() {
		r.Findings = append(r.Findings, Finding{Severity: Notice, Reason: ReasonNotAnImage, Layer: -1, Digest: m.Config.Digest,
			Message: "not an image: the config has the media type of an image config and says nothing about an image; docker and containerd refuse it, podman runs its layers"})
	}
	return r, nil
}

// judgeImage judges an image by its config of that many bytes.
func judgeImage(ctx context.Context, blobs Blobs, m Manifest, c Config, size int64) (Report, error) {
	if len(m.Layers) > maxLayers {
		return finding(m, Finding{Severity: Undecided, Reason: ReasonOverLimit, Layer: -1,
			Message: fmt.Sprintf("over limit: the image has %d layers; more than %d are not judged, and no kernel mounts them", len(m.Layers), maxLayers)}), nil
	}
	r, missing, err := compare(ctx, blobs, m, c)
	if err != nil {
		return Report{}, err
	}
	if size != m.Config.Size && r.Verdict != NotAnImage {
		r.Findings = append(r.Findings, Finding{Severity: Portable, Reason: ReasonNotPortable, Layer: -1, Digest: m.Config.Digest, Runtimes: []Runtime{Containerd, Podman},
			Message: fmt.Sprintf("the config has %d bytes and its descriptor says %d: containerd and podman refuse it", size, m.Config.Size)})
	}
	for _, i := range missing {
		r.Verdict = Mismatch
		r.Findings = append(r.Findings, Finding{Reason: ReasonBlobUnknown, Layer: i, Digest: m.Layers[i].Digest,
			Message: fmt.Sprintf("layer %d of %d (%s) is not in the repository; push it before the manifest", i+1, len(m.Layers), m.Layers[i].Digest)})
	}
	return r, nil
}

// compare judges the claims of a config by the facts about the layers. missing
// are the layers that the repository should hold and does not.
func compare(ctx context.Context, blobs Blobs, m Manifest, c Config) (r Report, missing []int, err error) {
	e, missing, err := gather(ctx, blobs, m.Layers)
	r = Judge(m, c, e)
	switch {
	case err != nil && r.Verdict == Mismatch && !errors.Is(err, ErrForbidden):
		return r, missing, nil // whatever the answer would have been
	case err != nil:
		return r, nil, err
	}
	looked, gone, err := lookCloser(ctx, blobs, r, e)
	if err != nil {
		return r, nil, err
	}
	if looked {
		r = Judge(m, c, e)
	}
	return r, append(missing, gone...), nil
}

// noImage is the report on a manifest that no runtime runs.
func noImage(m Manifest) Report {
	j := newJudge(m, Config{}, make([]Evidence, len(m.Layers)))
	j.r.Verdict = NotAnImage
	return j.r
}

// config returns the bytes of a config. Those that the manifest has in itself
// are right: ParseManifest compared them with the digest.
func config(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Data != nil {
		return desc.Data, nil
	}
	return blobs.Config(ctx, desc)
}

// claimReport reports a ClaimError, and passes other errors on.
func claimReport(m Manifest, err error) (Report, error) {
	var claim *ClaimError
	if !errors.As(err, &claim) {
		return Report{}, err
	}
	return finding(m, Finding{Reason: claim.Reason, Layer: -1, Digest: m.Config.Digest, Message: claim.Message}), nil
}

// finding returns the report on a manifest whose layers were not compared.
func finding(m Manifest, f Finding) Report {
	v := Mismatch
	if f.Severity == Undecided {
		v = Unverifiable
	}
	return Report{Verdict: v, Config: m.Config.Digest, Findings: []Finding{f}}
}
