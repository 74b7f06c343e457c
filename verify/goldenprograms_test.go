package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestGoldenPrograms holds the cells of the columns that are programs. What a
// program wrote before it failed depends on its buffers and no runtime keeps
// it, so that an error is just "E".
func TestGoldenPrograms(t *testing.T) {
	t.Parallel()
	for _, table := range tables() {
		for i, c := range table.columns {
			if c.program == nil {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				need(t, c.program[0])
				for _, row := range table.rows {
					c.checkProgram(t, row, row.cell(i))
				}
			})
		}
	}
}

func (c column) checkProgram(t *testing.T, row golden, want string) {
	t.Helper()
	if strings.HasPrefix(want, "E:") {
		want = "E" // the one word of a row is for functions too
	}
	got := "E"
	if content, err := c.run(t.Context(), row.blob); err == nil {
		got = nameOf(content)
	}
	if got != want {
		t.Errorf("%s, %s: %s reads %s, want %s", row.id, row.is, c.name, got, want)
	}
}

// run returns the digest of what a column makes of a blob.
func (c column) run(ctx context.Context, blob []byte) (digest.Digest, error) {
	h := sha256.New()
	err := c.write(ctx, h, blob)
	return digest.NewDigest(digest.SHA256, h), err
}

// write writes what a column makes of a blob to w.
func (c column) write(ctx context.Context, w io.Writer, blob []byte) error {
	if c.decode != nil {
		return c.decode(w, bytes.NewReader(blob))
	}
	cmd := exec.CommandContext(ctx, c.program[0], c.program[1:]...)
	cmd.Stdin = bytes.NewReader(blob)
	cmd.Stdout = w
	return cmd.Run()
}

// need skips a test that runs a program which is not there, or fails it where
// every test must run.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("DIFFGATE_E2E") == "require" {
		t.Fatalf("no %s here; e2e/install installs it", program)
	}
	t.Skipf("no %s here; e2e/install installs it", program)
}
