package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotFound is returned by a Repository that does not hold what it is asked
// for.
var ErrNotFound = errors.New("not found")

// ErrForbidden is returned by a Repository in whose name this may not be read.
var ErrForbidden = errors.New("not allowed to read")

// Blobs is what a check needs of the repository that an image is in. Its
// methods may be called at the same time.
type Blobs interface {
	// Config returns the bytes of a config, after checking their digest. It
	// returns ErrNotFound when the repository does not hold the blob, and a
	// *ClaimError when it is too large to be judged.
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
	// ErrNotFound when the repository does not hold it, and ErrForbidden when
	// it may not be read.
	Manifest(ctx context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error)
	// Judgement returns what was found about a manifest before, or ErrUnknown.
	// It returns the errors of Manifest for one that is not there.
	Judgement(ctx context.Context, manifest digest.Digest) (Judgement, error)
}

// A Repository is both.
type Repository interface {
	Blobs
	Manifests
}

// Check judges a manifest of any kind.
//
// Everything that is wrong with the image, also what is wrong with the JSON,
// is a Finding of the Report. The error is for what could not be found out:
// it is an error of repo, wrapped with the manifest, layer or config it is
// about.
func Check(ctx context.Context, repo Repository, contentType string, body []byte) (Report, error) {
	m, err := ParseManifest(contentType, body)
	if err != nil {
		return claimReport(m, err)
	}
	switch m.Kind {
	case IndexKind:
		c := indexCheck{repo: repo, judged: map[digest.Digest]ChildReport{}}
		return c.check(ctx, m, 1)
	case Schema1Kind:
		return schema1(m), nil
	case UnknownKind:
		return finding(m, Finding{Reason: ReasonUnknownMediaType, Layer: -1,
			Message: fmt.Sprintf("unknown manifest media type %+q: it cannot be judged", clip(contentType))}), nil
	}
	return checkImage(ctx, repo, m)
}

func schema1(m Manifest) Report {
	return finding(m, Finding{Severity: Undecided, Reason: ReasonSchema1, Layer: -1,
		Message: "Docker schema 1 manifests carry no diff_ids and are refused (verify.schema1)"})
}

// maxLayers bounds the different layers of an image. Kernels mount 500 at most,
// docker 125, and each costs the upstream a request.
const maxLayers = 1000

func checkImage(ctx context.Context, blobs Blobs, m Manifest) (Report, error) {
	if !m.MayBeImage() {
		return noImage(m), nil
	}
	body, err := config(ctx, blobs, m.Config)
	if errors.Is(err, ErrNotFound) {
		return finding(m, Finding{Reason: ReasonBlobUnknown, Layer: -1, Digest: m.Config.Digest,
			Message: fmt.Sprintf("the config %s is not in the repository; push it before the manifest", m.Config.Digest)}), nil
	}
	if err != nil {
		return claimReport(m, fmt.Errorf("read config %s: %w", m.Config.Digest, err))
	}
	c, err := ParseConfig(body)
	switch {
	case err != nil:
		return configReport(m, c, err)
	case m.configOfAny() && !c.HasRootFS:
		return noImage(m), nil
	}
	if n := differentLayers(m.Layers); n > maxLayers {
		return finding(m, Finding{Severity: Undecided, Reason: ReasonUnverifiable, Layer: -1,
			Message: fmt.Sprintf("unverifiable image: it has %d different layers, and more than %d are not looked at", n, maxLayers)}), nil
	}
	r, missing, err := compare(ctx, blobs, m, c)
	if err != nil {
		return Report{}, err
	}
	if len(body) != int(m.Config.Size) && r.Verdict != NotAnImage {
		r.Findings = append(r.Findings, Finding{Severity: Portable, Reason: ReasonNotPortable, Layer: -1, Digest: m.Config.Digest, Runtimes: []Runtime{Containerd, Podman},
			Message: fmt.Sprintf("the config has %d bytes and its descriptor says %d: containerd and podman refuse it", len(body), m.Config.Size)})
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
	if err != nil {
		return r, nil, err
	}
	r = Judge(m, c, e)
	looked, gone, err := lookCloser(ctx, blobs, r, e)
	if err != nil {
		return r, nil, err
	}
	if looked {
		r = Judge(m, c, e)
	}
	return r, append(missing, gone...), nil
}

// noImage is the report on what no runtime runs.
func noImage(m Manifest) Report { return Judge(m, Config{}, make([]Evidence, len(m.Layers))) }

// config returns the bytes of a config. Those that the manifest has in itself
// are right: ParseManifest compared them with the digest.
func config(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Data != nil {
		return desc.Data, nil
	}
	return blobs.Config(ctx, desc)
}

func differentLayers(layers []ocispec.Descriptor) int {
	different := map[digest.Digest]bool{}
	for _, d := range layers {
		different[d.Digest] = true
	}
	return len(different)
}

// configReport reports a config that cannot be read. Under a type that anybody
// may use for anything, bytes that are no config belong to no image.
func configReport(m Manifest, c Config, err error) (Report, error) {
	var claim *ClaimError
	if errors.As(err, &claim) && claim.Reason == ReasonConfigInvalid && !c.HasRootFS && m.configOfAny() {
		return noImage(m), nil
	}
	return claimReport(m, err)
}

// claimReport reports a ClaimError, and passes other errors on.
func claimReport(m Manifest, err error) (Report, error) {
	var claim *ClaimError
	if !errors.As(err, &claim) {
		return Report{}, err
	}
	return finding(m, Finding{Reason: claim.Reason, Layer: -1, Digest: m.Config.Digest, Message: claim.Message}), nil
}

// finding returns the report on a manifest that never came to be compared.
func finding(m Manifest, f Finding) Report {
	v := Mismatch
	if f.Severity == Undecided {
		v = Unverifiable
	}
	return Report{Verdict: v, Config: m.Config.Digest, Findings: []Finding{f}}
}
