package layout

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const (
	maxEntries = 50_000 // in an archive
	maxHops    = 16     // from link to link
)

// An entry is a file or link in an archive.
type entry struct {
	name   string
	link   string // the name that it leads to; empty for a file
	twice  bool   // there is another of that name that differs
	order  int    // among all entries, from 0
	offset int64  // of its bytes in the archive's file; negative when that is compressed
	fact   verify.Fact
	json   []byte // its bytes, if they begin as an object or array does and are few
}

// contents are the files and links of an archive.
type contents struct {
	entries map[string]*entry
	blobs   map[digest.Digest]*entry // the files by their digest
}

// resolve returns the file that a name means, following links. It returns
// verify.ErrNotFound when there is none.
func (c contents) resolve(name string) (*entry, error) {
	name, ok := inside("", name)
	for range maxHops {
		e := c.entries[name]
		switch {
		case !ok || e == nil:
			return nil, verify.ErrNotFound
		case e.twice:
			return nil, fmt.Errorf("the archive has two different entries %s: readers differ in which they take", quoted(name))
		case e.link == "":
			return e, nil
		}
		name = e.link
	}
	return nil, fmt.Errorf("more than %d links lead on from one to another", maxHops)
}

// inside returns the name that a path in a folder of the archive means, or
// false when it leads out of the archive.
func inside(dir, p string) (string, bool) {
	if path.IsAbs(p) {
		return "", false
	}
	p = path.Join(dir, p)
	return p, p != "" && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// A tarReader reads an archive that may be compressed.
type tarReader struct {
	*tar.Reader
	raw    *counter // what the tar reader reads
	plain  bool     // raw is the file itself
	limits verify.Limits
	free   func()
	buf    *bufio.Reader
	order  int // of the next entry
	kept   int // bytes of names and JSON
}

// A counter counts the bytes that were read.
type counter struct {
	in   io.Reader
	n    int64
	most int64
}

var (
	errUnpacked = errors.New("the archive unpacks to more than limits.unpacked")
	errXZ       = errors.New("the archive is compressed with xz, which is not read: unpack it with xz -d")
)

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if c.n += int64(n); c.n > c.most {
		return n, errUnpacked
	}
	return n, err
}

// openTar begins to read an archive. Its end is close.
func openTar(ctx context.Context, in io.Reader, limits verify.Limits) (*tarReader, error) {
	if limits.Unpacked == 0 {
		limits.Unpacked = 1 << 40
	}
	if limits.Window == 0 {
		limits.Window = 128 << 20
	}
	t := &tarReader{limits: limits, free: func() {}, buf: bufio.NewReader(nil)}
	src := &source{in: ctxReader{ctx, in}}
	br := bufio.NewReaderSize(src, 64<<10)
	content, err := t.decompress(br)
	t.plain = content == io.Reader(br)
	if u := (unpacker{content, src}); err != nil {
		return nil, archiveError(u.explain(err))
	} else if !t.plain {
		content = u
	}
	t.raw = &counter{in: ctxReader{ctx, content}, most: limits.Unpacked}
	t.Reader = tar.NewReader(t.raw)
	return t, nil
}

func (t *tarReader) close() { t.free() }

// decompress tells the compression of an archive by its first bytes, as docker
// load does.
func (t *tarReader) decompress(in *bufio.Reader) (io.Reader, error) {
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		dec, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(t.limits.Window)), zstd.WithDecoderMaxMemory(uint64(t.limits.Window)))
		if err != nil {
			return nil, err
		}
		t.free = dec.Close
		return dec, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(in), nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, errXZ
	}
	return in, nil
}

// A source is the file or stream, and remembers what went wrong with it.
type source struct {
	in  io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// An unpacker tells damaged data from a source that could not be read.
type unpacker struct {
	in  io.Reader
	src *source
}

// Read implements io.Reader.
func (u unpacker) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	return n, u.explain(err)
}

func (u unpacker) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errXZ):
		return err
	case u.src.err != nil:
		return u.src.err
	}
	return fmt.Errorf("the archive is damaged: it does not unpack: %w", err)
}

// archiveError says in plain words what is wrong with an archive.
func archiveError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive is cut")
	case errors.Is(err, tar.ErrHeader):
		return errors.New("not a tar archive, or a damaged one")
	}
	return err
}

// scan reads the archive to its end.
func (t *tarReader) scan() (contents, error) {
	c := contents{entries: map[string]*entry{}, blobs: map[digest.Digest]*entry{}}
	for {
		e, err := t.next()
		if errors.Is(err, io.EOF) {
			return c, t.drain()
		}
		if err != nil {
			return contents{}, archiveError(err)
		}
		if e == nil {
			continue
		}
		if other := c.entries[e.name]; other == nil {
			c.entries[e.name] = e
		} else if e.link != other.link || e.fact.Digest != other.fact.Digest {
			other.twice = true
		}
		if e.link == "" && c.blobs[e.fact.Digest] == nil {
			c.blobs[e.fact.Digest] = e
		}
	}
}

// next returns the next entry, or nil for one that no image is made of. Those
// that a tar program would write outside a folder are such, too.
func (t *tarReader) next() (*entry, error) {
	h, err := t.Next()
	if err != nil {
		return nil, err
	}
	order := t.order
	if t.order++; t.order > maxEntries {
		return nil, fmt.Errorf("the archive has more than %d entries", maxEntries)
	}
	if sparse(h) {
		return nil, fmt.Errorf("entry %s is a sparse file, as no image archive has", quoted(h.Name))
	}
	name, ok := inside("", h.Name)
	if !ok {
		return nil, nil
	}
	if err := t.keep(len(name) + len(h.Linkname)); err != nil {
		return nil, err
	}
	e := &entry{name: name, order: order, offset: -1}
	switch h.Typeflag {
	case tar.TypeReg:
		if t.plain {
			e.offset = t.raw.n
		}
		return e, t.hash(h, e)
	case tar.TypeSymlink:
		e.link, ok = inside(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		e.link, ok = inside("", h.Linkname)
	default:
		return nil, nil
	}
	if !ok {
		return nil, nil
	}
	return e, nil
}

// sparse reports whether a file has more bytes than the archive has of it.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// keep counts what is held in memory.
func (t *tarReader) keep(bytes int) error {
	if t.kept += bytes; t.kept > maxBodies {
		return fmt.Errorf("the archive has more than %d MiB of names and JSON", maxBodies>>20)
	}
	return nil
}

// hash reads a file, and keeps its bytes if they may be a manifest or config.
func (t *tarReader) hash(h *tar.Header, e *entry) error {
	t.buf.Reset(t.Reader)
	var in io.Reader = t.buf
	head, _ := t.buf.Peek(64) // its error comes again
	head = bytes.TrimLeft(head, " \t\r\n")
	if h.Size <= maxJSON && len(head) > 0 && (head[0] == '{' || head[0] == '[') {
		body, err := io.ReadAll(t.buf)
		if err != nil {
			return err
		}
		if err := t.keep(len(body)); err != nil {
			return err
		}
		e.json, in = body, bytes.NewReader(body)
	}
	var err error
	e.fact, err = verify.Hash(in, t.limits, verify.Scanned, time.Now())
	return err
}

// drain reads what follows the archive's end marker, so that the checksum of
// its compression is looked at and a program that writes to us can end.
func (t *tarReader) drain() error {
	_, err := io.Copy(io.Discard, t.raw)
	if errors.Is(err, gzip.ErrHeader) {
		return nil // bytes after the end, which gzip(1) leaves out
	}
	return archiveError(err)
}

// skipTo goes to the entry with that number.
func (t *tarReader) skipTo(order int) error {
	for range order + 1 {
		if _, err := t.Next(); err != nil {
			return archiveError(err)
		}
	}
	return nil
}
