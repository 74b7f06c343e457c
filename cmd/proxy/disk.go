package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/layout"
)

// splitLayout splits DIR, DIR:TAG or DIR@DIGEST.
func splitLayout(arg string) (dir, ref string) {
	if _, err := os.Stat(arg); err == nil {
		return arg, ""
	}
	if dir, ref, ok := strings.Cut(arg, "@"); ok && digest.Digest(ref).Validate() == nil {
		return dir, ref
	}
	at := strings.LastIndex(arg, ":")
	if at < strings.LastIndex(arg, string(filepath.Separator)) || at <= 0 {
		return arg, ""
	}
	return arg[:at], arg[at+1:]
}

// layoutImages returns the images of an OCI layout, and what to close.
func layoutImages(arg string) ([]image, io.Closer, error) {
	path, ref := splitLayout(arg)
	dir, err := layout.OpenDir(path, verify.Limits{})
	if err != nil {
		return nil, nil, err
	}
	images, err := dir.Images(ref)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return onDisk(path, dir, images), dir, nil
}

// archiveImages returns the images of a docker archive; "-" is standard input.
func archiveImages(ctx context.Context, path string, stdin io.Reader) ([]image, error) {
	var archive *layout.Archive
	var err error
	if path == layout.Stdin {
		archive, err = layout.ReadArchive(ctx, "standard input", stdin, verify.Limits{})
	} else {
		archive, err = layout.OpenArchive(ctx, path, verify.Limits{})
	}
	if err != nil {
		return nil, err
	}
	images, err := archive.Images("")
	out := onDisk(path, archive, images)
	for i := range out {
		out[i].subject.Digest = "" // an archive has no manifest; the one to judge was made for it
	}
	return out, err
}

// onDisk returns images as those of registries are.
func onDisk(path string, repo verify.Repository, from []layout.Image) []image {
	var out []image
	for _, i := range from {
		out = append(out, image{name: path + " " + i.Name, repo: repo, body: i.Body,
			subject: api.Subject{Name: path, Reference: i.Name, Digest: i.Descriptor.Digest, MediaType: i.MediaType}})
	}
	return out
}
