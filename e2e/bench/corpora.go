package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A corpus is a tar archive as layers hold it, and what gzip -6 makes of it.
type corpus struct {
	name    string
	tar, gz string // files
	size    int64  // of tar
	packed  int64  // of gz
}

// makeCorpora finds the corpora in the cache, and makes those that are not there:
// a minimal Debian, the source of Go, programs of the Go toolchain, and what is
// compressed already.
func (b *bench) makeCorpora(ctx context.Context) error {
	env, err := output(ctx, "", "go", "env", "GOROOT", "GOVERSION")
	if err != nil {
		return err
	}
	goroot, version, _ := strings.Cut(env, "\n")
	kept := func(name string) string { return filepath.Join(b.cache, version+"-"+name+".tar") }
	if b.short {
		small := filepath.Join(b.dir, "small.tar")
		if err := b.addCorpus(ctx, "Go source", small, filepath.Join(goroot, "src", "compress")); err != nil {
			return err
		}
		return b.addCompressed(ctx, filepath.Join(b.dir, "compressed.tar"))
	}
	debian, err := output(ctx, b.root, "e2e/rootfs")
	if err != nil {
		return err
	}
	if err := b.addCorpus(ctx, "Debian", debian); err != nil {
		return err
	}
	if err := b.addCorpus(ctx, "Go source", kept("src"), filepath.Join(goroot, "src")); err != nil {
		return err
	}
	if err := b.addCorpus(ctx, "ELF programs", kept("programs"), filepath.Join(goroot, "bin"), filepath.Join(goroot, "pkg", "tool")); err != nil {
		return err
	}
	return b.addCompressed(ctx, kept("compressed"))
}

// addCompressed adds a corpus of what the others are when compressed.
func (b *bench) addCompressed(ctx context.Context, file string) error {
	var packed []string
	for _, c := range b.corpora {
		packed = append(packed, c.gz)
	}
	return b.addCorpus(ctx, "compressed", file, packed...)
}

// addCorpus adds the corpus of a tar file, which is made of paths if it is not
// there.
func (b *bench) addCorpus(ctx context.Context, name, file string, paths ...string) error {
	c := corpus{name: name, tar: file, gz: filepath.Join(filepath.Dir(file), filepath.Base(file)+".gz")}
	if !b.short {
		c.gz = filepath.Join(b.cache, filepath.Base(file)+".gz")
	}
	if _, err := os.Stat(c.tar); errors.Is(err, fs.ErrNotExist) {
		b.say("making %s", filepath.Base(c.tar))
		if err := whole(c.tar, func(w io.Writer) error { return tarOf(w, paths) }); err != nil {
			return err
		}
	}
	made, err := os.Stat(c.tar)
	if err != nil {
		return err
	}
	if old, err := os.Stat(c.gz); err != nil || old.ModTime().Before(made.ModTime()) {
		b.say("making %s", filepath.Base(c.gz))
		if err := whole(c.gz, func(w io.Writer) error { return command(ctx, w, "gzip", "-6", "-n", "-c", c.tar) }); err != nil {
			return err
		}
	}
	packed, err := os.Stat(c.gz)
	if err != nil {
		return err
	}
	c.size, c.packed = made.Size(), packed.Size()
	b.corpora = append(b.corpora, c)
	return nil
}

// whole writes a file that is there whole or not at all.
func whole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// tarOf writes a tar archive of files and folders.
func tarOf(w io.Writer, paths []string) error {
	tw := tar.NewWriter(w)
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(filepath.Dir(root), path)
			if err != nil {
				return err
			}
			return addFile(tw, filepath.ToSlash(name), path)
		})
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := io.Copy(tw, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// warm reads files, so that no entrant waits for the disk.
func warm(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// command runs a program whose output goes to w.
func command(ctx context.Context, w io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, stderr.String())
	}
	return nil
}

// output runs a program in a folder and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	if strings.Contains(name, "/") {
		name = filepath.Join(dir, name) // of this module, wherever we are
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}
