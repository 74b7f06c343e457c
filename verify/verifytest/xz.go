package verifytest

import (
	"bytes"

	"github.com/ulikunitz/xz"
)

// XZ returns content as one xz stream.
func XZ(content []byte) []byte {
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf)
	must(err)
	_, err = w.Write(content)
	must(err)
	must(w.Close())
	return buf.Bytes()
}
