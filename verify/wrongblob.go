package verify

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A WrongBlob is a blob that the registry was seen to give out other bytes for:
// a file on its disk went bad. It is no property of the bytes, as a Fact is; it
// holds until the registry gives out the blob again.
type WrongBlob struct {
	Digest digest.Digest // that was asked for
	Actual digest.Digest // of the bytes that came, of the same algorithm
	SeenAt time.Time     // UTC, whole seconds
}
