package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialRaw connects to a server that is given by its URL, for at most 20
// seconds.
func dialRaw(t testing.TB, base string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // most are closed by then
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A rawAnswer is an answer to bytes that net/http's client would not send.
type rawAnswer struct {
	answer
	Closed bool // nothing that follows on the connection is served
}

// sendRaw sends bytes as they are and reads one answer. Then it sends a request
// that is never forwarded, to see whether the connection still serves.
func sendRaw(t testing.TB, base, input string) rawAnswer {
	t.Helper()
	c := dialRaw(t, base)
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	method, _, _ := strings.Cut(input, " ")
	a, err := readRaw(br, method)
	if err != nil {
		t.Fatalf("no answer to %.80q: %v", input, err)
	}
	// An error is a connection that is closed already, as the read finds.
	_, _ = io.WriteString(c, "TRACE / HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
	next, err := readRaw(br, http.MethodTrace)
	if err == nil && next.Status != http.StatusMethodNotAllowed {
		t.Errorf("%.80q: what follows is out of step: got %d %s", input, next.Status, next.Body)
	}
	return rawAnswer{a, err != nil}
}

// readRaw reads the final answer to a request with the method.
func readRaw(br *bufio.Reader, method string) (answer, error) {
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return answer{}, err
		}
		if res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(res.Body)
		return answer{res.StatusCode, res.Header, body}, err
	}
}

// rawRequest returns the bytes of a request with header lines. A last one that
// begins with a line end is the body.
func rawRequest(method, target string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: r\r\n", method, target)
	for _, line := range lines {
		if strings.HasPrefix(line, "\r\n") {
			b.WriteString(line)
			return b.String()
		}
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}
