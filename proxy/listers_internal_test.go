package proxy

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A caller is remembered for as long as was set, and taken for nobody else.
func TestListers(t *testing.T) {
	t.Parallel()
	alice := caller{host: "r", authorization: "alice", forwarded: http.Header{"X-Forwarded-For": {"10.0.0.1"}}}
	for _, tt := range []struct {
		is    string
		ttl   time.Duration
		after time.Duration
		who   func(*caller)
		known bool
	}{
		{"the same, at once", time.Minute, 0, func(*caller) {}, true},
		{"the same, shortly before the end", time.Minute, time.Minute - 1, func(*caller) {}, true},
		{"the same, at the end", time.Minute, time.Minute, func(*caller) {}, false},
		{"the same, when nobody is remembered", 0, 0, func(*caller) {}, false},
		{"another user", time.Minute, 0, func(c *caller) { c.authorization = "bob" }, false},
		{"nobody in particular", time.Minute, 0, func(c *caller) { c.authorization = "" }, false},
		{"the same from another address", time.Minute, 0, func(c *caller) { c.forwarded = http.Header{"X-Forwarded-For": {"10.0.0.2"}} }, false},
		{"the same for another host", time.Minute, 0, func(c *caller) { c.host = "other" }, false},
		{"the same, says an outer proxy in another way", time.Minute, 0, func(c *caller) { c.forwarded = http.Header{"X-Forwarded-For": {"10.0.0.1"}, "X-Real-Ip": {"10.0.0.2"}} }, false},
		{"the same, says another outer proxy", time.Minute, 0, func(c *caller) {
			c.forwarded = http.Header{"X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.2"}}
		}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, err := newListers(tt.ttl)
			if err != nil {
				t.Fatal(err)
			}
			l.add(alice)
			time.Sleep(tt.after)
			c := alice
			tt.who(&c)
			if got := l.has(c); got != tt.known {
				t.Errorf("%s: known %t, want %t", tt.is, got, tt.known)
			}
		})
	}
}
