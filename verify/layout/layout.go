// Package layout reads images that are files: an OCI layout, which is a
// directory (image-spec, image-layout.md), and an archive as `docker save`,
// podman, skopeo, kaniko and bazel write it. Each is a [verify.Repository], so
// that [verify.Check] judges what it holds:
//
//	dir, err := layout.OpenDir("out", verify.Limits{})
//	...
//	images, err := dir.Images("v1")
//	for _, img := range images {
//		report, err := verify.Check(ctx, dir, img.MediaType, img.Body)
//	}
//
// Nothing is written, nothing is fetched, and no layer is held in memory.
// Files come from anybody: what they may make this package hold is bounded, and
// they never make it open a file outside the directory or archive.
package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

const (
	maxJSON   = 4 << 20  // bytes of one manifest, config or list of images
	maxBodies = 64 << 20 // bytes of all JSON that is held at once
	maxImages = 1000     // that are looked at in one go
)

// An Image is one manifest to be judged by [verify.Check].
type Image struct {
	// Name is what the image is called where it was found, or the digest of
	// its manifest or config when it has no name there. It is any text: quote it.
	Name       string
	Descriptor ocispec.Descriptor // of the manifest
	MediaType  string             // of the manifest
	Body       []byte             // the manifest
}

// A WrongBlobError says that a file has other bytes than those it is named by:
// it went bad, or somebody changed it.
type WrongBlobError struct {
	File   string        // in the directory or archive
	Digest digest.Digest // that it is named by
	Actual digest.Digest // of its bytes, of the same algorithm
}

// Error names both digests.
func (e *WrongBlobError) Error() string {
	return fmt.Sprintf("wrong blob: the bytes of %s have the digest %s, not %s", quoted(e.File), e.Actual, e.Digest)
}

// noManifest tells verify.Check of a blob that cannot be a manifest, because it is
// too large for one or no JSON.
func noManifest(err error) error {
	if errors.Is(err, errLarge) {
		return fmt.Errorf("%w: %w", verify.ErrNoManifest, err)
	}
	return err
}

// unknownName says which names there are in place of one that there is not.
func unknownName(where, name string, names []string) error {
	const most = 10
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return fmt.Errorf("%s: no image is named %s, nor has another a name", where, quoted(name))
	}
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	var list []string
	for _, n := range names {
		list = append(list, quoted(n))
	}
	return fmt.Errorf("%s: no image is named %s; there are %s%s", where, quoted(name), strings.Join(list, ", "), more)
}

// tooMany is the error about more images than are looked at.
func tooMany(where string) error {
	return fmt.Errorf("%s: it names more than %d images, or such with more than %d MiB of manifests: name one of them", where, maxImages, maxBodies>>20)
}

// quoted is text from a file for messages: short and printable, and quoted if
// that is needed to see where it ends.
func quoted(s string) string {
	const most = 160
	if len(s) > most {
		s = s[:most] + "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ',' }) || s == "" {
		return fmt.Sprintf("%+q", s)
	}
	return s
}

// A ctxReader is a reader that ends with its context.
type ctxReader struct {
	ctx context.Context
	in  io.Reader
}

// Read implements io.Reader.
func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// lookAt takes a look at what should be the bytes of a digest.
func lookAt(in io.Reader, file string, want digest.Digest, limits verify.Limits) (verify.Look, error) {
	d := want.Algorithm().Digester()
	look, err := verify.TakeLook(io.TeeReader(in, d.Hash()), limits)
	if err != nil && !errors.Is(err, verify.ErrUnknown) {
		return verify.Look{}, err
	}
	if got := d.Digest(); got != want {
		return verify.Look{}, &WrongBlobError{file, want, got}
	}
	return look, err
}
