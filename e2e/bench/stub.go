package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// A stream is a blob that is too large to keep: one gzip member over and over.
type stream struct {
	member []byte
	size   int64
}

// newStream takes the member from the middle of a corpus.
func newStream(c corpus, size int64) (stream, error) {
	f, err := os.Open(c.tar)
	if err != nil {
		return stream{}, err
	}
	defer f.Close()
	member, err := io.ReadAll(io.NewSectionReader(f, c.size/2, 4<<20))
	if err != nil {
		return stream{}, fmt.Errorf("%s: %w", c.tar, err)
	}
	member, err = gzipped(member)
	if err != nil {
		return stream{}, err
	}
	whole := int64(len(member))
	return stream{member, max(1, size/whole) * whole}, nil
}

// digest reads the stream for its digest.
func (s stream) digest() (digest.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, &flow{ctx: context.Background(), stream: s}); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// anyDigest is of no bytes that anybody has.
func anyDigest() digest.Digest {
	var random [32]byte
	rand.Read(random[:])
	return digest.NewDigestFromBytes(digest.SHA256, random[:])
}

// A pace is how a slow transfer goes: so many bytes at once, and then a few at a
// time. The zero pace is that of the machine.
type pace struct{ burst int64 }

const (
	trickle      = 16 << 10 // bytes
	tricklePause = 50 * time.Millisecond
)

// wait waits until more bytes may go, and returns how many.
func (p pace) wait(ctx context.Context, moved int64) (int, error) {
	if p.burst == 0 || moved < p.burst {
		return sliceSize, nil
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(tricklePause):
		return trickle, nil
	}
}

// A flow gives out a stream.
type flow struct {
	stream
	pace
	ctx   context.Context
	moved atomic.Int64
}

// Read implements io.Reader.
func (f *flow) Read(p []byte) (int, error) {
	at := f.moved.Load()
	if at == f.size {
		return 0, io.EOF
	}
	most, err := f.wait(f.ctx, at)
	if err != nil {
		return 0, err
	}
	n := copy(p[:min(len(p), most)], f.member[at%int64(len(f.member)):])
	f.moved.Add(int64(n))
	return n, nil
}

// startStub serves as a registry that keeps nothing: it takes every upload, and
// every blob that it is asked for is the stream.
func startStub(s stream) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		switch {
		case r.Method == http.MethodPost:
			status = http.StatusAccepted
			w.Header().Set("Location", r.URL.Path+rand.Text())
		case r.Method == http.MethodPatch:
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return // the client has gone
			}
			status = http.StatusAccepted
			w.Header().Set("Location", r.URL.Path)
		case r.Method == http.MethodPut:
			status = http.StatusCreated
			w.Header().Set("Location", r.URL.Path)
		case strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.FormatInt(s.size, 10))
			if r.Method == http.MethodGet {
				_, _ = io.Copy(w, &flow{ctx: r.Context(), stream: s}) // it fails when the client has gone
				return
			}
		}
		w.WriteHeader(status)
	}))
}
