package index_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

func TestFileInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	holder, output := child(t, "hold", path)
	if !output.Scan() || output.Text() != "open" {
		t.Fatalf("child: %q", output.Text())
	}

	s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: time.Millisecond})
	if err == nil {
		_ = s.Close()
		t.Fatal("OpenBolt of a file in use: no error")
	}
	who := "another process"
	if runtime.GOOS == "linux" {
		who = "process " + strconv.Itoa(holder.Process.Pid)
	}
	if want := fmt.Sprintf("%s is in use by %s (stop it, or set index.bolt.path)", path, who); err.Error() != want {
		t.Errorf("OpenBolt: %v\nwant:     %s", err, want)
	}

	open := make(chan error)
	go func() {
		s, err := index.OpenBolt(index.BoltConfig{Path: path, LockTimeout: time.Minute})
		if err == nil {
			err = errors.Join(s.Put(context.Background(), indextest.Fact(0)), s.Close())
		}
		open <- err
	}()
	kill(t, holder)
	if err := <-open; err != nil {
		t.Errorf("OpenBolt after the holder was killed: %v", err)
	}
}

func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	for round := range 20 {
		writer, output := child(t, "write", path)
		acknowledged := map[int]bool{}
		for len(acknowledged) < 1+round*3 && output.Scan() {
			i, err := strconv.Atoi(output.Text())
			if err != nil {
				t.Fatalf("child: %s", output.Text())
			}
			acknowledged[i] = true
		}
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for output.Scan() { // what it said before it died
			if i, err := strconv.Atoi(output.Text()); err == nil {
				acknowledged[i] = true
			}
		}
		_ = writer.Wait()

		seen := new(damages)
		s, err := index.OpenBolt(index.BoltConfig{Path: path, OnDamage: seen.add})
		if err != nil {
			t.Fatal(err)
		}
		for i := range acknowledged {
			f := indextest.Fact(i)
			if got, err := s.Get(context.Background(), indextest.Name(i)); err != nil || got != f {
				t.Errorf("round %d: fact %d and a link were acknowledged, now Get = %+v, %v", round, i, got, err)
			}
			j := indextest.Judgement(i)
			if got, err := s.Judgement(context.Background(), j.Manifest); err != nil || !cmp.Equal(j, got) {
				t.Errorf("round %d: judgement %d was acknowledged, now %+v, %v", round, i, got, err)
			}
			if _, err := s.Twin(context.Background(), j.Config); err != nil && j.Verdict == verify.Match {
				t.Errorf("round %d: judgement %d was acknowledged, now Twin: %v", round, i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := seen.take(); len(got) > 0 {
			t.Errorf("round %d: damage reported: %v", round, got)
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	mountTmpfs(t, folder, 1<<20)
	ballast := filepath.Join(folder, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<19), 0o600); err != nil {
		t.Fatal(err)
	}
	s, seen := openBolt(t, filepath.Join(folder, "diffids.db"))

	stored, err := 0, error(nil)
	for ; err == nil && stored < 100_000; stored++ {
		err = s.Put(context.Background(), indextest.Fact(stored))
	}
	stored--
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("Put number %d: %v, want no space", stored, err)
	}
	if n := countKnown(t, s, indextest.Facts(stored)); n != stored {
		t.Errorf("%d of %d facts are known while the disk is full", n, stored)
	}
	if err := s.Ready(context.Background()); err != nil && !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("Ready while the disk is full: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustWork(t, s, indextest.Facts(stored+100))
	if got := seen.take(); len(got) > 0 {
		t.Errorf("damage reported: %v", got)
	}
}
