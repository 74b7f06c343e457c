package verify

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// decodeZstd decodes all frames of in to sink. klauspost/compress and zstd(1)
// agree on what they accept as long as the window is bounded: any byte after
// the last frame that is not a skippable frame, a dictionary, a wrong checksum
// or content size is an error in both.
//
// It returns a decodeError, or the error of sink or in as it is.
func decodeZstd(in io.Reader, sink io.Writer, l Limits) error {
	dec, err := zstd.NewReader(in,
		zstd.WithDecoderConcurrency(1), // decode on this goroutine
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(l.Window)),
		zstd.WithDecoderMaxMemory(uint64(l.Unpacked)))
	if err != nil {
		return zstdError(err)
	}
	defer dec.Close()
	_, err = dec.WriteTo(sink)
	return zstdError(err)
}

func zstdError(err error) error {
	var ours *decodeError
	switch {
	case err == nil, errors.As(err, &ours), errors.Is(err, errAborted):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return overLimit("the zstd window is larger than limits.window")
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrFrameSizeExceeded):
		return overLimit("a zstd frame is larger than the limits allow")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("the zstd stream is cut")
	}
	return corrupt("zstd: " + err.Error())
}
