package index

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The algorithms of digests, which are the first byte of a key.
const (
	keySHA256 = 1
	keySHA384 = 2
	keySHA512 = 3

	keySize = 1 + sha256.Size // of what is kept under a SHA-256 digest
	maxKey  = 1 + sha512.Size
)

const (
	sha256Prefix = "sha256:"
	sha384Prefix = "sha384:"
	sha512Prefix = "sha512:"
)

// parseHex fills sum, of 64 bytes at most, from as many lower-case digits as it
// takes.
func parseHex(sum []byte, digits string) bool {
	if len(digits) != 2*len(sum) {
		return false
	}
	for _, c := range []byte(digits) {
		if 'A' <= c && c <= 'F' {
			return false
		}
	}
	var buf [2 * sha512.Size]byte
	_, err := hex.Decode(sum, buf[:copy(buf[:], digits)])
	return err == nil
}

// parseSHA256 returns the bytes of a SHA-256 digest in canonical form.
func parseSHA256(s string) (sum [sha256.Size]byte, ok bool) {
	digits, ok := strings.CutPrefix(s, sha256Prefix)
	return sum, ok && parseHex(sum[:], digits)
}

func formatSHA256(sum []byte) digest.Digest {
	b := append(make([]byte, 0, len(sha256Prefix)+2*sha256.Size), sha256Prefix...)
	return digest.Digest(hex.AppendEncode(b, sum))
}

// factKey returns the key of the fact about dgst; ok is false when there can be
// none because dgst is not a SHA-256 digest in canonical form. Judgements and
// twins have such keys too.
func factKey(dgst digest.Digest) (key []byte, ok bool) {
	sum, ok := parseSHA256(string(dgst))
	return append([]byte{keySHA256}, sum[:]...), ok
}

// nameKey returns the key of another name of a blob; ok is false when name is
// not a SHA-384 or SHA-512 digest in canonical form.
func nameKey(name digest.Digest) (key []byte, ok bool) {
	if digits, isSHA512 := strings.CutPrefix(string(name), sha512Prefix); isSHA512 {
		key = make([]byte, 1+sha512.Size)
		key[0] = keySHA512
		return key, parseHex(key[1:], digits)
	}
	digits, isSHA384 := strings.CutPrefix(string(name), sha384Prefix)
	key = make([]byte, 1+sha512.Size384)
	key[0] = keySHA384
	return key, isSHA384 && parseHex(key[1:], digits)
}

// formatKey returns the digest that a key of this length is made of, or nothing.
func formatKey(key []byte) digest.Digest {
	switch len(key) {
	case keySize:
		return formatSHA256(key[1:])
	case 1 + sha512.Size384:
		return digest.Digest(sha384Prefix + hex.EncodeToString(key[1:]))
	case 1 + sha512.Size:
		return digest.Digest(sha512Prefix + hex.EncodeToString(key[1:]))
	}
	return ""
}

// keyAfter returns where a listing behind after begins: at key, or just behind
// it if skip is set. It orders arbitrary strings among digests as strings are
// ordered; ok is false when after sorts behind every SHA-256 digest.
func keyAfter(after string) (key []byte, skip, ok bool) {
	digits, isPrefix := strings.CutPrefix(after, sha256Prefix)
	if !isPrefix {
		return []byte{keySHA256}, false, after < sha256Prefix
	}
	fill := "0"
	if n := len(digits) - len(strings.TrimLeft(digits, "0123456789abcdef")); n >= 2*sha256.Size {
		digits, skip = digits[:2*sha256.Size], true
	} else if n < len(digits) {
		switch c := digits[n]; {
		case c < '0':
			digits = digits[:n] + "0"
		case c < 'a':
			digits = digits[:n] + "a"
		default: // behind all that begin with these n digits
			digits, fill, skip = digits[:n], "f", true
		}
	}
	digits += strings.Repeat(fill, 2*sha256.Size-len(digits))
	key, ok = factKey(digest.Digest(sha256Prefix + digits))
	return key, skip, ok
}

// diffIDKey returns the key under which the diffids bucket leads from a DiffID
// to a digest. With an empty digest it is the prefix of all keys of the DiffID.
func diffIDKey(unpacked, dgst []byte) []byte {
	key := append(make([]byte, 0, 2*diffIDPart), unpacked[:diffIDPart]...)
	return append(key, dgst[:min(len(dgst), diffIDPart)]...)
}

// diffIDPart is how many bytes of each digest an entry of diffids keeps: enough
// to make strangers under one key rare, and each is checked anyway.
const diffIDPart = 8
