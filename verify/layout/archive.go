package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// An Archive is a tar archive of images, as docker load takes it: with a
// manifest.json, or with an OCI layout in it. Those of Docker since 25 have
// both, and it depends on docker's store which of them is believed: where they
// name different images, all are judged.
//
// The archive was read once, from its start to its end, and all its files were
// hashed; of the JSON in it up to 64 MiB are held. It is a [verify.Repository]
// and safe for concurrent use. Only Look reads the file again.
type Archive struct {
	name   string // in messages
	path   string // to be read again; empty for a stream
	limits verify.Limits
	found  contents
	saved  []saved         // the images of manifest.json; empty when there is none
	index  verify.Manifest // index.json; empty when there is none
}

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// OpenArchive reads the archive at path, which may be compressed with gzip, zstd
// or bzip2. [Stdin], or what is no regular file, is read as a stream. Layers are
// hashed under limits; limits.Unpacked also bounds what a compressed archive
// unpacks to.
//
// The error names the path and says what is wrong with the archive: that it is
// cut, has no list of images, or holds more than 50000 files or 64 MiB of names
// and JSON.
func OpenArchive(ctx context.Context, path string, limits verify.Limits) (*Archive, error) {
	if path == Stdin {
		return ReadArchive(ctx, "standard input", os.Stdin, limits)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := ReadArchive(ctx, path, f, limits)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		a.path = path
	}
	return a, nil
}

// ReadArchive is OpenArchive for a stream, called name in messages. It reads to
// the end. Look returns verify.ErrUnknown, for the bytes are gone.
func ReadArchive(ctx context.Context, name string, in io.Reader, limits verify.Limits) (*Archive, error) {
	a := &Archive{name: name, limits: limits}
	if err := a.read(ctx, in); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

func (a *Archive) read(ctx context.Context, in io.Reader) error {
	tr, err := openTar(ctx, in, a.limits)
	if err != nil {
		return err
	}
	defer tr.close()
	if a.found, err = tr.scan(); err != nil {
		return err
	}
	listed, err := a.list(manifestFile, func(e *entry) (err error) {
		a.saved, err = parseSaved(e.json)
		return err
	})
	if err != nil {
		return err
	}
	indexed, err := a.list(ocispec.ImageIndexFile, func(e *entry) (err error) {
		a.index, err = parseIndex(e.json)
		return err
	})
	if err == nil && !listed && !indexed {
		err = fmt.Errorf("no %s: not an image archive", manifestFile)
	}
	return err
}

// list reads a list of images, and reports whether there is one.
func (a *Archive) list(name string, parse func(*entry) error) (bool, error) {
	e, err := a.found.resolve(name)
	switch {
	case errors.Is(err, verify.ErrNotFound):
		return false, nil
	case err == nil && e.json == nil:
		err = fmt.Errorf("not JSON, or %w", errLarge)
	case err == nil:
		err = parse(e)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// entry returns the file that holds the bytes of a digest. It is a
// *WrongBlobError when there is one that only says so by its name.
func (a *Archive) entry(dgst digest.Digest) (*entry, error) {
	if e := a.found.blobs[dgst]; e != nil {
		return e, nil
	}
	if err := dgst.Validate(); err != nil {
		return nil, fmt.Errorf("blob %s: %w", quoted(dgst.String()), err)
	}
	if e, err := a.found.resolve(blobFile(dgst)); err == nil && dgst.Algorithm() == digest.SHA256 {
		return nil, &WrongBlobError{blobFile(dgst), dgst, e.fact.Digest}
	}
	return nil, fmt.Errorf("%s: %w", dgst, verify.ErrNotFound)
}

// Config implements verify.Blobs.
func (a *Archive) Config(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	e, err := a.entry(desc.Digest)
	switch {
	case err != nil:
		return nil, err
	case e.json == nil && e.fact.Size > maxJSON:
		return nil, &verify.TooLargeError{Limit: maxJSON}
	case e.json == nil:
		return nil, &verify.ClaimError{Reason: verify.ReasonConfigInvalid, Message: "the config is not a JSON object"}
	}
	return e.json, nil
}

// Fact implements verify.Blobs.
func (a *Archive) Fact(_ context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	e, err := a.entry(desc.Digest)
	if err != nil {
		return verify.Fact{}, err
	}
	return e.fact, nil
}

// Manifest implements verify.Manifests.
func (a *Archive) Manifest(_ context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error) {
	body, err = a.manifest(desc)
	return desc.MediaType, body, noManifest(err)
}

func (a *Archive) manifest(desc ocispec.Descriptor) ([]byte, error) {
	e, err := a.entry(desc.Digest)
	if err == nil && e.json == nil {
		err = fmt.Errorf("%s is not JSON, or %w", quoted(e.name), errLarge)
	}
	if err != nil {
		return nil, err
	}
	return e.json, nil
}

// Known implements verify.Manifests.
func (a *Archive) Known(_ context.Context, dgst digest.Digest) (verify.Fact, error) {
	if e := a.found.blobs[dgst]; e != nil {
		return e.fact, nil
	}
	return verify.Fact{}, verify.ErrUnknown
}

// Judgement implements verify.Manifests. Nothing is known beforehand.
func (a *Archive) Judgement(context.Context, digest.Digest) (verify.Judgement, error) {
	return verify.Judgement{}, verify.ErrUnknown
}

// Look implements verify.Blobs. It opens the file again, and is a
// *WrongBlobError when the file has changed since. Of a stream it is
// verify.ErrUnknown.
func (a *Archive) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	e, err := a.entry(desc.Digest)
	if err == nil && a.path == "" {
		err = verify.ErrUnknown
	}
	if err != nil {
		return verify.Look{}, err
	}
	f, err := os.Open(a.path)
	if err != nil {
		return verify.Look{}, err
	}
	defer f.Close()
	if e.offset >= 0 {
		return a.look(ctxReader{ctx, io.NewSectionReader(f, e.offset, e.fact.Size)}, e)
	}
	tr, err := openTar(ctx, f, a.limits)
	if err != nil {
		return verify.Look{}, fmt.Errorf("%s: %w", a.name, err)
	}
	defer tr.close()
	if err := tr.skipTo(e.order); err != nil {
		return verify.Look{}, fmt.Errorf("%s: %w", a.name, err)
	}
	return a.look(tr, e)
}

func (a *Archive) look(in io.Reader, e *entry) (verify.Look, error) {
	return lookAt(in, e.name, e.fact.Digest, a.limits)
}
