// Proxy is the program of Diffgate: a reverse proxy that keeps a container
// registry free of images whose config lies about their layers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sirupsen/logrus"

	"diffgate/cmd/proxy/show"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command and returns the exit code: 0, or another after an
// error of one line on stderr; 1 unless the command says otherwise.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// The settings' parser and the embedded registry talk to logrus's global
	// logger; what is worth hearing of it reaches our own.
	logrus.SetOutput(io.Discard)
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "proxy: %s\n", show.Printable(text))
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	return 1
}
