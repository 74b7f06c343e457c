package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

// TestMain sees to it that no test talks to another machine, and that none
// leaves a goroutine behind.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // distribution's log
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.DialContext = dialLoopback
	}
	// distribution's registry never ends its event broadcaster.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// client sends the requests of the tests. It follows no redirect, decodes no
// content and knows no proxy.
var client = &http.Client{
	Transport:     &http.Transport{DialContext: dialLoopback, DisableCompression: true, MaxIdleConnsPerHost: 8},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// dialLoopback connects to 127.0.0.1 only.
func dialLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil || !to.Addr().IsLoopback() {
		return nil, fmt.Errorf("a test dials %s", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// eventually waits until ok returns true, and fails the test when it does not.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("what the test waits for did not happen in 10 seconds")
		}
	}
}
