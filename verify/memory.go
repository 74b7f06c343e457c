package verify

import "sync/atomic"

// A Memory is what the windows and dictionaries of decoders are taken from; a
// [semaphore.Weighted] is one. It is safe for concurrent use.
//
// [semaphore.Weighted]: https://pkg.go.dev/golang.org/x/sync/semaphore#Weighted
type Memory interface {
	TryAcquire(bytes int64) bool
	Release(bytes int64)
}

// decoderSize is what a decoder holds besides a window; that of gzip holds the
// most. It is too little to be taken from a Memory.
const decoderSize = 256 << 10

// errNoMemory is not about the blob: hashed another time, it may be decoded.
var errNoMemory = &decodeError{GivenUp, "there is no memory for its window"}

// errSlow does not mean that anything is wrong with the blob.
var errSlow = &decodeError{GivenUp, "it is slow to decode, and is hashed when its turn comes"}

// A holding is the window or dictionary of one decoder, and its place in the slow
// lane.
type holding struct {
	from  Memory // nil: unbounded
	bytes atomic.Int64
	lane  Memory // of which one is taken; nil: there is no lane
	in    bool   // the decoder has taken it
}

// slow takes the place in the slow lane, once. It is for one goroutine.
func (h *holding) slow() error {
	if h.lane == nil || h.in {
		return nil
	}
	if h.in = h.lane.TryAcquire(1); !h.in {
		return errSlow
	}
	return nil
}

// grow makes the holding at least so many bytes. It is for one goroutine.
func (h *holding) grow(bytes int64) error {
	more := bytes - h.bytes.Load()
	if more <= 0 {
		return nil
	}
	if h.from != nil && !h.from.TryAcquire(more) {
		return errNoMemory
	}
	h.bytes.Add(more)
	return nil
}

// release ends the holding.
func (h *holding) release() {
	if bytes := h.bytes.Swap(0); h.from != nil {
		h.from.Release(bytes)
	}
	if h.in {
		h.in = false
		h.lane.Release(1)
	}
}
