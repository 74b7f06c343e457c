//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"diffgate/verify/verifytest"
)

// A tree is the files of an image: the path of each, and its body. Of a symbolic
// link the body is an arrow and its target. Folders are left out.
type tree map[string]string

func (files tree) equal(other tree) bool {
	return files != nil && other != nil && maps.Equal(files, other)
}

// String names the files, each with a digest if its body is long.
func (files tree) String() string {
	if files == nil {
		return "unknown files"
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		body := files[name]
		if len(body) > 40 {
			body = fmt.Sprintf("%d bytes, %s", len(body), digest.FromString(body).Encoded()[:12])
		}
		list = append(list, fmt.Sprintf("%q: %q", name, body))
	}
	return "{" + strings.Join(list, ", ") + "}"
}

const arrow = "-> "

// The marks of the image specification for files that a layer removes.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// apply lays a tar over the files, as a runtime does with a layer. Bytes that do
// not begin as a tar does hold no files.
func (files tree) apply(archive []byte) error {
	r := tar.NewReader(bytes.NewReader(archive))
	for n := 0; ; n++ {
		h, err := r.Next()
		switch {
		case err == io.EOF, n == 0 && err != nil:
			return nil
		case err != nil:
			return err
		}
		if err := files.add(h, r); err != nil {
			return err
		}
	}
}

func (files tree) add(h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	dir, base := path.Split(name)
	switch {
	case base == opaque:
		files.remove(strings.TrimSuffix(dir, "/"))
		return nil
	case strings.HasPrefix(base, whiteout):
		files.remove(dir + strings.TrimPrefix(base, whiteout))
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		files[name] = string(body)
	case tar.TypeSymlink:
		files[name] = arrow + h.Linkname
	case tar.TypeLink:
		files[name] = files[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
	}
	return nil
}

// remove removes a file, or a folder with all that is in it.
func (files tree) remove(name string) {
	maps.DeleteFunc(files, func(file, _ string) bool {
		return file == name || name == "" || strings.HasPrefix(file, name+"/")
	})
}

var errNoTar = errors.New("what it prints is no tar")

// exported returns the files in a tar that a client made of an image.
func exported(archive []byte) (tree, error) {
	if _, err := tar.NewReader(bytes.NewReader(archive)).Next(); err != nil && err != io.EOF {
		return nil, errNoTar
	}
	files := tree{}
	return files, files.apply(archive)
}

// below returns the files in a folder.
func below(root string) (tree, error) {
	files := tree{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		switch d.Type() {
		case 0:
			body, err := os.ReadFile(file)
			files[name] = string(body)
			return err
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			files[name] = arrow + target
			return err
		}
		return nil
	})
	return files, err
}

// contents are all layers of all cases, uncompressed, by their digests.
type contents map[string][]byte

func contentsOf(cases []verifytest.Case) contents {
	all := contents{}
	learn := func(b []byte) {
		all[digest.FromBytes(b).String()] = b
		all[digest.SHA512.FromBytes(b).String()] = b
	}
	for _, c := range cases {
		for _, l := range c.Image.Layers {
			learn(l.Blob)
			learn(l.Content)
		}
		for _, blob := range c.Image.Beside {
			learn(blob)
		}
	}
	return all
}

// claimed returns the files that the diff_ids of an image's config name: the
// contents with these digests, one laid over the other. It returns nil if no
// such content is known, or it cannot be unpacked.
func (all contents) claimed(img verifytest.Image) tree {
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	err := json.Unmarshal(img.Config(), &config)
	if errors.As(err, new(*json.UnmarshalTypeError)) {
		return nil
	}
	files := tree{}
	for _, id := range config.RootFS.DiffIDs {
		content, ok := all[id]
		if !ok || files.apply(content) != nil {
			return nil
		}
	}
	return files
}
