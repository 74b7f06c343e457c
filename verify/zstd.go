package verify

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// decodeZstd decodes all frames of in to sink. It returns how many there were, not
// counting skippable ones, and the largest window. klauspost/compress and zstd(1) agree on what
// they accept as long as the window is bounded: any byte after the last frame
// that is not a skippable frame, a dictionary, a wrong checksum or content size
// is an error in both.
//
// The windows of frames are held in held. The error is a decodeError.
func decodeZstd(in io.Reader, sink io.Writer, l Limits, held *holding) (parts int64, window uint64, err error) {
	frames := newZstdFrames(in, l.Window)
	frames.held = held
	dec, err := zstd.NewReader(frames,
		zstd.WithDecoderConcurrency(1), // decode on this goroutine
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(l.Window)),
		zstd.WithDecoderMaxMemory(uint64(l.Window))) // of a frame that is one segment
	if err != nil {
		return 0, 0, overLimit("zstd: " + err.Error())
	}
	defer dec.Close()
	_, err = dec.WriteTo(sink)
	switch {
	case frames.err != nil:
		err = frames.err
	case err == nil && !frames.whole():
		err = io.ErrUnexpectedEOF
	}
	return frames.frames, frames.largest, decoderError("zstd", err)
}
