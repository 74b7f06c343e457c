package verify

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
)

// A Look is what a second reading of a blob shows that a Fact has no room for.
// It serves to compare a DiffID of another algorithm than SHA-256, and to find
// out how a false DiffID came about.
type Look struct {
	Wide     []DiffID // SHA-384 and SHA-512 of the content
	Unpadded []DiffID // SHA-256 of the content without zeros at its end
	Padded   []DiffID // SHA-256 of the content with more zeros at its end
	Content  Fact     // of the content, as if it were a blob
}

// Has reports whether the content has the DiffID d, of whatever algorithm.
func (l Look) Has(d DiffID) bool { return slices.Contains(l.Wide, d) }

// maxContent bounds how far the content of a blob is decoded once more.
const maxContent = 1 << 30

// TakeLook reads r to its end and looks at its bytes. It returns the error of r
// as it is, and ErrUnknown when the bytes cannot be decoded under l.
func TakeLook(r io.Reader, l Limits) (Look, error) {
	w := newLookWriter(l)
	defer w.content.Close()
	h := newHasher(l, w)
	defer h.Close()
	if _, err := io.Copy(h, r); err != nil {
		return Look{}, err
	}
	if f := h.Sum(); f.Problem != None {
		return Look{}, ErrUnknown // what was decoded is not the content
	}
	return w.look(), nil
}

// A lookWriter computes the Look of the content that is written to it.
type lookWriter struct {
	sha384, sha512 hash.Hash
	unpadded       unpadded
	content        *Hasher
}

func newLookWriter(l Limits) *lookWriter {
	l = l.withDefaults()
	l.Unpacked = min(l.Unpacked, maxContent)
	return &lookWriter{sha512.New384(), sha512.New(), unpadded{hash: sha256.New()}, NewHasher(l)}
}

// Write implements io.Writer. It never fails.
func (w *lookWriter) Write(p []byte) (int, error) {
	for _, to := range []io.Writer{w.sha384, w.sha512, &w.unpadded, w.content} {
		_, _ = to.Write(p) // none of these fails
	}
	return len(p), nil
}

func (w *lookWriter) look() Look {
	unpadded := w.unpadded.ids()
	return Look{
		Wide: []DiffID{
			DiffID(digest.NewDigest(digest.SHA384, w.sha384)),
			DiffID(digest.NewDigest(digest.SHA512, w.sha512)),
		},
		Unpadded: unpadded,
		Padded:   w.unpadded.more(),
		Content:  w.content.Sum(),
	}
}

// unpadded hashes what is written to it up to the last byte that is not zero.
type unpadded struct {
	hash  hash.Hash
	size  int64 // bytes hashed
	zeros int64 // bytes behind them
}

// Write implements io.Writer. It never fails.
func (u *unpadded) Write(p []byte) (int, error) {
	some := bytes.TrimRight(p, "\x00")
	if len(some) > 0 {
		u.pad(u.zeros)
		u.hash.Write(some)
		u.size += int64(len(some))
	}
	u.zeros += int64(len(p) - len(some))
	return len(p), nil
}

// pad hashes n of the zeros.
func (u *unpadded) pad(n int64) {
	u.zeros -= n
	u.size += n
	var zeros [4096]byte
	for ; n > 0; n -= min(n, int64(len(zeros))) {
		u.hash.Write(zeros[:min(n, int64(len(zeros)))])
	}
}

const (
	tarBlock  = 512
	maxCuts   = 256
	tarRecord = 20 // blocks that GNU tar fills up to
)

// ids returns the DiffIDs of the content without its zeros, and with as many
// of them as fill tar blocks. It is the end of the unpadded.
func (u *unpadded) ids() []DiffID {
	var ids []DiffID
	for len(ids) < maxCuts && u.zeros > 0 {
		ids = append(ids, DiffID(digest.NewDigest(digest.SHA256, u.hash)))
		u.pad(min(u.zeros, tarBlock-u.size%tarBlock))
	}
	return ids
}

// more returns the DiffIDs of the content with up to a record of blocks behind
// it. It comes after ids.
func (u *unpadded) more() []DiffID {
	u.pad(u.zeros)
	var ids []DiffID
	for range tarRecord {
		u.pad(tarBlock - u.size%tarBlock)
		ids = append(ids, DiffID(digest.NewDigest(digest.SHA256, u.hash)))
	}
	return ids
}
