package verify

import (
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
)

// decodeBzip2 decodes all streams of in to sink, as docker, podman and skopeo
// do: with the decoder of Go's library. A decoder takes up to 4 MB.
//
// The error is a decodeError.
func decodeBzip2(in io.Reader, sink io.Writer) error {
	_, err := io.Copy(sink, bzip2.NewReader(in))
	return decoderError("bzip2", err)
}

// decoderError makes what a decoder ended with a decodeError.
func decoderError(name string, err error) error {
	var ours *decodeError
	switch {
	case err == nil, errors.As(err, &ours):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt(fmt.Sprintf("the %s stream is cut", name))
	}
	return corrupt(fmt.Sprintf("bad %s data: %s", name, clipError(err)))
}
