package verify

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrUnknown is returned by a DiffID index that holds no fact under the digest
// asked for. It says nothing about the blob: only that nobody hashed it yet.
var ErrUnknown = errors.New("unknown digest")

// ErrConflict is returned by a DiffID index that already holds another, final
// fact about the same bytes. Facts never change, so this is an alarm: a defect
// in a decoder, a damaged index or a SHA-256 collision.
var ErrConflict = errors.New("conflicting fact")

// A DiffID is the digest of a layer's uncompressed tar archive (OCI image
// specification, config.md, "Layer DiffID"). It is a type of its own so that
// it cannot change places with the digest of the stored blob.
type DiffID digest.Digest

// String returns the DiffID in the form "sha256:<hex>".
func (d DiffID) String() string { return string(d) }

// An Encoding is what the bytes of a blob are, judged by their first bytes. It
// is not what a descriptor's media type says they are.
type Encoding uint8

// The encodings that a Hasher tells apart. Their values are stored in the
// DiffID index and never change their meaning.
const (
	Identity Encoding = iota // anything that does not start with a known magic
	Gzip                     // 1f 8b (RFC 1952)
	Zstd                     // 28 b5 2f fd, or a skippable frame first (RFC 8878)
	Bzip2                    // "BZh"
	XZ                       // fd "7zXZ" 00 (The .xz File Format, version 1.2.1)
)

var encodingNames = [...]string{"identity", "gzip", "zstd", "bzip2", "xz"}

// String returns the name that the HTTP API uses.
func (e Encoding) String() string { return name(encodingNames[:], int(e)) }

// MarshalText implements encoding.TextMarshaler with the name of the API.
func (e Encoding) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// A Problem says why a blob has no decoded digest.
type Problem uint8

// The problems. Their values are stored in the DiffID index and never change
// their meaning.
const (
	None        Problem = iota // decoded to its end
	Corrupt                    // no decoder accepts the bytes
	Ambiguous                  // decoders accept the bytes and differ in what they read
	Limit                      // decoding stopped at one of the Limits
	Unsupported                // a form of the encoding that is not decoded
	GivenUp                    // hashing was given up, for no reason of the blob's; not to be stored
)

var problemNames = [...]string{"", "corrupt", "ambiguous", "limit", "unsupported", "given_up"}

// String returns a word for logs and the HTTP API; None is the empty string.
func (p Problem) String() string { return name(problemNames[:], int(p)) }

// MarshalText implements encoding.TextMarshaler.
func (p Problem) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Quirks are properties of a blob for which some runtime, or with NotTar every
// runtime, refuses it as a layer. The runtimes that read it read the same content.
// They are a bit set.
type Quirks uint16

// The quirks. Their values are stored in the DiffID index and never change
// their meaning.
const (
	HeaderCRC      Quirks = 1 << iota // a gzip header carries a (right) CRC-16
	LongName                          // a gzip name or comment over 511 bytes
	ReservedFlag                      // a reserved flag bit in the first gzip member
	TrailingZeros                     // zero bytes after the last gzip member
	SkippableFirst                    // zstd that starts with a skippable frame
	NotTar                            // the decoded bytes do not begin as a tar archive does
	LargeWindow                       // zstd with a window over 128 MiB
)

// A Source is the way by which a fact was learned.
type Source uint8

// The sources. Their values are stored in the DiffID index and never change
// their meaning.
const (
	Pushed  Source = iota + 1 // hashed while a client uploaded the blob
	Pulled                    // hashed while a client downloaded the blob
	Fetched                   // fetched by the gate and hashed
	Scanned                   // read by an audit of the registry
)

var sourceNames = [...]string{"", "push", "pull", "fetch", "scan"}

// String returns the name that the HTTP API uses.
func (s Source) String() string { return name(sourceNames[:], int(s)) }

// MarshalText implements encoding.TextMarshaler with the name of the API.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Fact is what hashing and decoding the bytes of one blob showed. It holds
// for those bytes wherever they are stored, never expires, and holds no claim
// of a client, config or annotation.
type Fact struct {
	Digest       digest.Digest // SHA-256 of the bytes as stored; the key
	Size         int64         // bytes as stored
	Encoding     Encoding      // by the first bytes
	Unpacked     digest.Digest // SHA-256 of the decoded bytes; empty unless Problem is None
	UnpackedSize int64         // decoded bytes; as far as decoding came when there is a Problem
	Parts        int64         // gzip members, zstd frames that are not skippable or xz streams; 1 for the rest
	Trailing     int64         // bytes after the last gzip member
	Quirks       Quirks
	Problem      Problem
	Reason       string // one clause for people when Problem is not None; at most MaxReason bytes
	Source       Source
	LearnedAt    time.Time // UTC, whole seconds
}

// IsTar reports whether the blob was decoded to its end and its content begins as
// a tar archive does. Content of no bytes counts as one.
func (f Fact) IsTar() bool { return f.Problem == None && f.Quirks&NotTar == 0 }

// mayUnpack reports whether some runtime may unpack the blob as a tar archive. Readers
// differ in what they call damage: some read a blob that is Corrupt up to the damage
// and call that success.
func (f Fact) mayUnpack() bool {
	switch f.Problem {
	case None, Corrupt:
		return f.Quirks&NotTar == 0 && (f.UnpackedSize > 0 || f.Problem == None && f.Encoding != Identity)
	}
	return true
}

// MaxReason is the length in bytes that Fact.Reason never exceeds.
const MaxReason = 160

// Final reports whether the fact is a property of the bytes alone. A fact that
// ended at a limit or at a form that we do not decode is not: another setting
// or version may learn more, and a final fact may then replace it.
func (f Fact) Final() bool {
	return f.Problem != Limit && f.Problem != Unsupported && f.Problem != GivenUp
}

// Agrees reports whether f and g say the same about the same bytes. How and
// when they were learned, and the wording of a reason, do not count; nor does, of
// bytes that cannot be decoded, how far a decoder came.
func (f Fact) Agrees(g Fact) bool {
	if f.Digest != g.Digest || f.Size != g.Size || f.Encoding != g.Encoding || f.Problem != g.Problem {
		return false
	}
	return f.Problem != None && f.Final() ||
		f.Unpacked == g.Unpacked && f.UnpackedSize == g.UnpackedSize && f.Parts == g.Parts &&
			f.Trailing == g.Trailing && f.Quirks == g.Quirks
}

// Supersede decides what a DiffID index that holds old does with f: it returns
// true when f must be stored, false when there is nothing to do, and
// ErrConflict when both are final and disagree.
func (f Fact) Supersede(old Fact) (bool, error) {
	switch {
	case f.Agrees(old):
		return false, nil
	case !old.Final():
		return f.Final() || f.UnpackedSize > old.UnpackedSize, nil
	case !f.Final():
		return false, nil
	}
	return false, fmt.Errorf("%w: %s was %s, now %s", ErrConflict, f.Digest, old.summary(), f.summary())
}

func (f Fact) summary() string {
	if f.Problem != None {
		return f.Encoding.String() + " " + f.Problem.String()
	}
	return f.Encoding.String() + " of " + f.Unpacked.String()
}

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}
