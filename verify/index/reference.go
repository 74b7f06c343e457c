package index

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const referenceVersion = 1

// linkKeys returns the keys of a link, or says why it cannot be one.
func linkKeys(name, dgst digest.Digest) (from, to []byte, err error) {
	from, isName := nameKey(name)
	to, isBlob := factKey(dgst)
	switch {
	case !isName:
		return nil, nil, fmt.Errorf("link %q: not a SHA-384 or SHA-512 digest", name)
	case !isBlob:
		return nil, nil, fmt.Errorf("link %s: %q is not a SHA-256 digest", name, dgst)
	}
	return from, to, nil
}

// encodeReference returns the record that leads from one key to another, which
// is that of a SHA-256 digest.
func encodeReference(from, to []byte) (record []byte) {
	return seal(from, append([]byte{referenceVersion}, to...))
}

// decodeReference is the inverse of encodeReference. It returns errRecord for
// a record that is not whole, and errRecordVersion for one in a layout that
// this version does not know.
func decodeReference(from, record []byte) (to []byte, err error) {
	body, err := unseal(nil, from, record, maxRecord)
	switch {
	case err != nil:
		return nil, err
	case len(body) != 1+keySize || body[0] != referenceVersion || body[1] != keySHA256:
		return nil, errRecordVersion
	}
	return body[1:], nil
}

func conflictingLink(name, known, now digest.Digest) error {
	return fmt.Errorf("%w: %s was a name of %s, now of %s", verify.ErrConflict, name, known, now)
}
