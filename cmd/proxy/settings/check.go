package settings

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A keyError says what is wrong with the value of a key.
type keyError struct {
	key     string
	problem string
}

func (e *keyError) Error() string { return e.key + ": " + e.problem }

func invalid(key, format string, args ...any) error {
	return &keyError{key, fmt.Sprintf(format, args...)}
}

// Check returns the first setting that makes no sense, by itself or with the
// others, as an error that begins with its key. It looks at nothing but s:
// whether files exist shows when they are opened.
func (s Settings) Check() error {
	return cmp.Or(
		s.Log.check(),
		s.HTTP.check(),
		s.Upstream.check(),
		required("embedded.rootdirectory", s.Embedded.RootDirectory),
		required("index.bolt.path", s.Index.Bolt.Path),
		s.Verify.check(),
		atLeast("api.maxentries", s.API.MaxEntries, 1),
		notNegative("api.authttl", s.API.AuthTTL),
		s.Limits.check(),
	)
}

func (l Log) check() error {
	return cmp.Or(
		oneOf("log.level", l.Level, "debug", "info", "warn", "error"),
		oneOf("log.formatter", l.Formatter, Text, JSON),
	)
}

func (h HTTP) check() error {
	return cmp.Or(
		checkAddr("http.addr", h.Addr),
		checkDrainTimeout(h.DrainTimeout),
		h.TLS.check(),
		h.Debug.check(),
	)
}

// checkDrainTimeout refuses what is too short to be meant.
func checkDrainTimeout(d time.Duration) error {
	if d != 0 && d < time.Second {
		return invalid("http.draintimeout", "%v is too short; want at least 1s, or 0s not to wait", d)
	}
	return nil
}

func notNegative(key string, d time.Duration) error {
	if d < 0 {
		return invalid(key, "%v is less than no time", d)
	}
	return nil
}

func (t ServerTLS) check() error {
	// Whoever names CAs wants no client without a certificate to get in.
	if len(t.ClientCAs) > 0 && t.Certificate == "" {
		return invalid("http.tls.clientcas", "needs http.tls.certificate too")
	}
	return cmp.Or(
		together("http.tls.certificate", t.Certificate, "http.tls.key", t.Key),
		checkNames("http.tls.clientcas", t.ClientCAs),
		oneOf("http.tls.minimumtls", t.MinimumTLS, TLS12, TLS13),
	)
}

func (d Debug) check() error {
	if d.Addr == "" {
		return nil
	}
	return checkAddr("http.debug.addr", d.Addr)
}

func (u Upstream) check() error {
	return cmp.Or(
		checkURL("upstream.url", u.URL),
		oneOf("upstream.redirects", u.Redirects, Follow, Pass),
		checkNames("upstream.tls.rootcas", u.TLS.RootCAs),
		together("upstream.tls.certificate", u.TLS.Certificate, "upstream.tls.key", u.TLS.Key),
	)
}

func (v Verify) check() error {
	return cmp.Or(
		oneOf("verify.mode", v.Mode, Enforce, Audit, Off),
		oneOf("verify.pulls", v.Pulls, Enforce, Audit, Off),
		oneOf("verify.code", v.Code, ManifestInvalid, Denied),
		oneOf("verify.portability", v.Portability, Warn, Reject, Off),
		eachOf("verify.unverifiable", v.Unverifiable, Encrypted, Foreign),
		oneOf("verify.schema1", v.Schema1, Reject, Allow),
	)
}

// check has floors below which ordinary images fail: they catch a unit that
// was left out.
func (l Limits) check() error {
	return cmp.Or(
		atLeast("limits.manifest", l.Manifest, 64*KiB),
		atLeast("limits.config", l.Config, 64*KiB),
		atLeast("limits.unpacked", l.Unpacked, MiB),
		atLeast("limits.ratio", l.Ratio, 1),
		atLeast("limits.window", l.Window, 8*MiB), // RFC 8878 asks this of decoders
		atLeast("limits.fetches", l.Fetches, 1),
		atLeast("limits.ahead", l.Ahead, 0),
		notNegative("limits.lag", l.Lag),
		atLeast("limits.sessions", l.Sessions, 1),
	)
}

func required(key, value string) error {
	if value == "" {
		return invalid(key, "must not be empty")
	}
	return nil
}

func oneOf(key, value string, words ...string) error {
	if !slices.Contains(words, value) {
		return invalid(key, "%q is not one of %s", value, strings.Join(words, ", "))
	}
	return nil
}

func eachOf(key string, values []string, words ...string) error {
	for _, value := range values {
		if err := oneOf(key, value, words...); err != nil {
			return err
		}
	}
	return nil
}

func atLeast[N int | int64 | Size](key string, value, least N) error {
	if value < least {
		return invalid(key, "%v is too small; want at least %v", value, least)
	}
	return nil
}

// together wants both values or none.
func together(key1, value1, key2, value2 string) error {
	switch {
	case value1 != "" && value2 == "":
		return invalid(key1, "needs %s too", key2)
	case value1 == "" && value2 != "":
		return invalid(key2, "needs %s too", key1)
	}
	return nil
}

func checkNames(key string, names []string) error {
	if slices.Contains(names, "") {
		return invalid(key, "has an empty name; write [] for none")
	}
	return nil
}

func checkAddr(key, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return invalid(key, "%q is not host:port; write one such as :5000", addr)
	}
	return nil
}

// checkURL keeps the URL out of its messages, as it may hold a password.
func checkURL(key, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return invalid(key, "not a URL of a registry; write one such as http://registry:5000")
	case u.User != nil:
		return invalid(key, "must not hold credentials; those of each client are forwarded")
	case !isPrefix(u.EscapedPath()) || strings.ContainsAny(text, "?#"):
		return invalid(key, "after the host, only a plain path such as /reg may follow, with no slash at its end; the registry is at /v2/ under it")
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16); err != nil {
		return invalid(key, "port %s is out of range", u.Port())
	}
	return nil
}

// isPrefix reports whether a registry can be under this path: it is read alike
// by every server, and does not have the /v2 that comes after it.
func isPrefix(escaped string) bool {
	special := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("/-._~", c)
	}
	return escaped == "" || escaped != "/" && path.Clean(escaped) == escaped && path.Base(escaped) != "v2" && !strings.ContainsFunc(escaped, special)
}
