// Package verifytest makes blobs and images for tests: honest ones, damaged
// ones, one function for each known way to lie, and [Cases]: all that was ever
// seen or thought of, with the answer that it is to get.
//
// Nothing is read from a disk and nothing is left to chance: the same call
// gives the same bytes.
//
//	img := verifytest.NewImage(
//		verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n")),
//		verifytest.ZstdLayer(verifytest.Tar("etc/issue", "Debian\n")))
//	for dgst, blob := range img.Blobs() {
//		push(dgst, blob)
//	}
//	mediaType, body := img.Manifest() // to be accepted
//
//	for _, lie := range verifytest.Lies() {
//		mediaType, body := lie.Image.Manifest() // to be refused for lie.Reason
//	}
//	for _, c := range verifytest.Cases() {
//		mediaType, body := c.Image.Manifest() // to be answered with c.Answer
//	}
//
// An [Image] is a plain value. A test that needs a lie of its own changes the
// fields of an honest one.
package verifytest

import (
	"archive/tar"
	"bytes"
	"fmt"
)

// Tar returns a tar archive of regular files, given as names and bodies in
// turn, with its end marker: 1024 zero bytes.
func Tar(namesAndBodies ...string) []byte {
	if len(namesAndBodies)%2 != 0 {
		panic("verifytest.Tar: a name without a body")
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(namesAndBodies); i += 2 {
		name, body := namesAndBodies[i], namesAndBodies[i+1]
		must(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644, Format: tar.FormatUSTAR}))
		_, err := w.Write([]byte(body))
		must(err)
	}
	must(w.Close())
	return buf.Bytes()
}

// TarWithoutEnd is Tar without the end marker: what follows belongs to it.
func TarWithoutEnd(namesAndBodies ...string) []byte {
	whole := Tar(namesAndBodies...)
	return whole[:len(whole)-1024]
}

// tarHeader returns the header of a regular file, whose name may be any bytes.
func tarHeader(name string, size int) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        0", size))
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// must panics on errors that writing to memory does not have.
func must(err error) {
	if err != nil {
		panic("verifytest: " + err.Error())
	}
}
