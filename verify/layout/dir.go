package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"diffgate/verify"
)

// maxFacts bounds what is remembered of blobs: about 3 MiB.
const maxFacts = 10_000

// A Dir is an OCI layout: a directory with the files oci-layout and index.json
// and the blobs under blobs/. It is a [verify.Repository] and safe for
// concurrent use; as many blobs are hashed at once as there are processors.
//
// A symbolic link in it is followed as long as it leads to a file in it.
type Dir struct {
	name   string // in messages
	root   *os.Root
	limits verify.Limits
	index  verify.Manifest // index.json
	slots  *semaphore.Weighted
	facts  *lru.Cache[digest.Digest, verify.Fact]
}

// OpenDir opens the OCI layout at path and reads its list of images. Blobs are
// read later, under limits. The error names the path, and the file that is
// missing or not valid. A Dir is to be closed.
func OpenDir(path string, limits verify.Limits) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	n := int64(runtime.GOMAXPROCS(0))
	d := &Dir{name: path, root: root, limits: limits, slots: semaphore.NewWeighted(n)}
	if d.facts, err = lru.New[digest.Digest, verify.Fact](maxFacts); err == nil {
		err = d.read()
	}
	if err != nil {
		_ = root.Close() // nothing was written
		return nil, err
	}
	return d, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// read reads the two files that make a directory an OCI layout.
func (d *Dir) read() error {
	body, err := d.small(ocispec.ImageLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no file %s: not an OCI layout", d.name, ocispec.ImageLayoutFile)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	var version ocispec.ImageLayout
	if err := json.Unmarshal(body, &version); err != nil || version.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%s: %s: it does not say imageLayoutVersion %q, the only one that is known", d.name, ocispec.ImageLayoutFile, ocispec.ImageLayoutVersion)
	}
	if body, err = d.small(ocispec.ImageIndexFile); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	d.index, err = parseIndex(body)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", d.name, ocispec.ImageIndexFile, err)
	}
	return nil
}

// parseIndex reads an index.json, which is an image index.
func parseIndex(body []byte) (verify.Manifest, error) {
	return verify.ParseManifest(ocispec.MediaTypeImageIndex, body)
}

// Images returns the manifests that index.json names, in its order: those whose
// annotation org.opencontainers.image.ref.name is tag, or whose digest it is.
// An empty tag means all that are of a known media type; others are not for us
// (image-layout.md, "index.json file").
//
// The error is a *WrongBlobError when a manifest is not what its digest says,
// wraps verify.ErrNotFound when it is not there, and names up to 10 tags that
// there are when there is none of that name. At most 1000 images, and 64 MiB of
// manifests, are returned.
func (d *Dir) Images(tag string) ([]Image, error) {
	selected, err := selectImages(d.name, tag, d.index.Manifests)
	if err != nil {
		return nil, err
	}
	return bodies(d.name, selected, d.manifest)
}

// selectImages returns the descriptors of an index.json that Images is about.
func selectImages(where, tag string, all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var selected []ocispec.Descriptor
	var tags []string
	for _, desc := range all {
		name := desc.Annotations[ocispec.AnnotationRefName]
		if name != "" {
			tags = append(tags, name)
		}
		if tag == "" && verify.KindOf(desc.MediaType) != verify.UnknownKind || tag != "" && (tag == name || tag == desc.Digest.String()) {
			selected = append(selected, desc)
		}
	}
	switch {
	case len(selected) > maxImages:
		return nil, tooMany(where)
	case len(selected) > 0:
		return selected, nil
	case tag != "":
		return nil, unknownName(where, tag, tags)
	}
	return nil, fmt.Errorf("%s: %s names no image", where, ocispec.ImageIndexFile)
}

// bodies reads manifests, each of them once.
func bodies(where string, selected []ocispec.Descriptor, read func(ocispec.Descriptor) ([]byte, error)) ([]Image, error) {
	known := map[digest.Digest][]byte{} // bounded by maxImages
	total := 0
	var images []Image
	for i, desc := range selected {
		body, ok := known[desc.Digest]
		if !ok {
			var err error
			if body, err = read(desc); err != nil {
				return nil, fmt.Errorf("%s: manifest %d of %d: %w", where, i+1, len(selected), err)
			}
			known[desc.Digest] = body
			if total += len(body); total > maxBodies {
				return nil, tooMany(where)
			}
		}
		name := desc.Annotations[ocispec.AnnotationRefName]
		if name == "" {
			name = desc.Digest.String()
		}
		images = append(images, Image{Name: name, Descriptor: desc, MediaType: desc.MediaType, Body: body})
	}
	return images, nil
}

// Config implements verify.Blobs. A config of more than 4 MiB is too large.
func (d *Dir) Config(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	body, err := d.blob(desc.Digest)
	if errors.Is(err, errLarge) {
		return nil, &verify.TooLargeError{Limit: maxJSON}
	}
	return body, err
}

// Manifest implements verify.Manifests. A manifest of more than 4 MiB is an
// error.
func (d *Dir) Manifest(_ context.Context, desc ocispec.Descriptor) (mediaType string, body []byte, err error) {
	body, err = d.manifest(desc)
	return desc.MediaType, body, noManifest(err)
}

func (d *Dir) manifest(desc ocispec.Descriptor) ([]byte, error) { return d.blob(desc.Digest) }

// Known implements verify.Manifests.
func (d *Dir) Known(_ context.Context, dgst digest.Digest) (verify.Fact, error) {
	if f, ok := d.facts.Get(dgst); ok {
		return f, nil
	}
	return verify.Fact{}, verify.ErrUnknown
}

// Judgement implements verify.Manifests. Nothing is known beforehand.
func (d *Dir) Judgement(context.Context, digest.Digest) (verify.Judgement, error) {
	return verify.Judgement{}, verify.ErrUnknown
}

// Fact implements verify.Blobs. It is a *WrongBlobError when the bytes do not
// have the digest that they are named by.
func (d *Dir) Fact(ctx context.Context, desc ocispec.Descriptor) (verify.Fact, error) {
	if f, ok := d.facts.Get(desc.Digest); ok {
		return f, nil
	}
	f, err := withBlob(ctx, d, desc.Digest, func(in io.Reader) (verify.Fact, error) {
		named := desc.Digest.Algorithm().Digester()
		if desc.Digest.Algorithm() != digest.SHA256 {
			in = io.TeeReader(in, named.Hash())
		}
		f, err := verify.Hash(in, d.limits, verify.Scanned, time.Now())
		if err != nil {
			return verify.Fact{}, err
		}
		got := f.Digest
		if desc.Digest.Algorithm() != digest.SHA256 {
			got = named.Digest()
		}
		if got != desc.Digest {
			return verify.Fact{}, &WrongBlobError{blobFile(desc.Digest), desc.Digest, got}
		}
		return f, nil
	})
	if err == nil {
		d.facts.Add(desc.Digest, f)
	}
	return f, err
}

// Look implements verify.Blobs.
func (d *Dir) Look(ctx context.Context, desc ocispec.Descriptor) (verify.Look, error) {
	return withBlob(ctx, d, desc.Digest, func(in io.Reader) (verify.Look, error) {
		return lookAt(in, blobFile(desc.Digest), desc.Digest, d.limits)
	})
}

// withBlob reads a blob when it is its turn.
func withBlob[T any](ctx context.Context, d *Dir, dgst digest.Digest, read func(io.Reader) (T, error)) (T, error) {
	var none T
	if err := d.slots.Acquire(ctx, 1); err != nil {
		return none, err
	}
	defer d.slots.Release(1)
	f, err := d.openBlob(dgst)
	if err != nil {
		return none, err
	}
	defer f.Close()
	return read(ctxReader{ctx, f})
}

// blobFile returns the name of a blob's file. The digest must be valid: then it
// has no separators in it.
func blobFile(dgst digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
}

// openBlob opens a blob, or returns an error that wraps verify.ErrNotFound.
func (d *Dir) openBlob(dgst digest.Digest) (*os.File, error) {
	if err := dgst.Validate(); err != nil {
		return nil, fmt.Errorf("blob %s: %w", quoted(dgst.String()), err)
	}
	f, err := d.open(blobFile(dgst))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", blobFile(dgst), verify.ErrNotFound)
	}
	return f, err
}

// open opens a file in the directory. What is no file, and may have no end or
// wait for a writer, is not opened.
func (d *Dir) open(name string) (*os.File, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return d.root.Open(name)
}

// blob returns the bytes of a small blob, after checking their digest.
func (d *Dir) blob(dgst digest.Digest) ([]byte, error) {
	f, err := d.openBlob(dgst)
	if err != nil {
		return nil, err
	}
	body, err := readSmall(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", blobFile(dgst), err)
	}
	if got := dgst.Algorithm().FromBytes(body); got != dgst {
		return nil, &WrongBlobError{blobFile(dgst), dgst, got}
	}
	return body, nil
}

// small returns the bytes of a small file.
func (d *Dir) small(name string) ([]byte, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	body, err := readSmall(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return body, nil
}

// errLarge is returned for JSON of more than maxJSON.
var errLarge = fmt.Errorf("larger than %d bytes", maxJSON)

// readSmall reads and closes a file.
func readSmall(f io.ReadCloser) ([]byte, error) {
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(body) > maxJSON {
		err = errLarge
	}
	return body, err
}
