package index_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// childEnv, when set to a role, makes the test binary another process that
// uses the file named by its first argument.
const childEnv = "DIFFGATE_INDEX_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "hold":
		holdFile(os.Args[1])
	case "write":
		writeForEver(os.Args[1])
	case "compact":
		compactForEver(os.Args[1])
	default:
		goleak.VerifyTestMain(m,
			// What bbolt leaves behind when both meta pages vanish while it
			// is at work; see run.
			goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*DB).beginTx"),
			goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*DB).beginRWTx"),
			goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*DB).removeTx"),
			goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*Tx).writeMeta"),
			goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*DB).Close"),
		)
	}
}

// child starts the test binary in a role and returns it with its output.
func child(t *testing.T, role, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // closed when this process ends
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() })
	return cmd, bufio.NewScanner(stdout)
}

// kill ends a child as a power button would and waits for it.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // "signal: killed"
}

// holdFile opens the file, says so, and holds it until its parent is gone.
func holdFile(path string) {
	if _, err := index.OpenBolt(index.BoltConfig{Path: path}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// writeForEver writes from several goroutines and prints the number of all that
// has been acknowledged, until its parent is gone.
func writeForEver(path string) {
	s, err := index.OpenBolt(index.BoltConfig{Path: path})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	stat, err := s.Stat(context.Background())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	const writers = 8
	for w := range writers {
		go func() {
			for i := int(stat.Facts) + w; ; i += writers {
				if err := writeEach(s, i); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				fmt.Println(i)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// compactForEver compacts the file and says so, until its parent is gone.
func compactForEver(path string) {
	go func() {
		for {
			if _, _, err := index.Compact(context.Background(), index.BoltConfig{Path: path}); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println("compacted")
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// writeEach does a write of each kind.
func writeEach(s index.Store, i int) error {
	ctx, f := context.Background(), indextest.Fact(i)
	return errors.Join(
		s.Link(ctx, indextest.Name(i), f.Digest), s.PutJudgement(ctx, indextest.Judgement(i)), s.Put(ctx, f))
}
