package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// A prefix is the path that a registry is under at the upstream, such as /reg;
// mostly it is empty. It is put before every path that is asked for, unknown
// ones too, so that nothing else of that host can be reached, and taken off
// where answers lead.
type prefix string

// leaves reports whether a path that nobody parsed, decoded once, may lead out of
// the registry.
func (p prefix) leaves(path string) bool {
	return p != "" && (strings.Contains(path, "..") || strings.Contains(strings.ToLower(path), "%2e"))
}

// off returns a reference into the registry as clients are to see it. Others
// stay as they are: something before the registry may have taken the prefix off.
func (p prefix) off(u *url.URL) *url.URL {
	if !strings.HasPrefix(u.Path, string(p)+"/v2/") {
		return u
	}
	seen := *u
	seen.Path, seen.RawPath = strings.TrimPrefix(u.Path, string(p)), strings.TrimPrefix(u.RawPath, string(p))
	return &seen
}

// takeOffPrefix takes the prefix off where an answer leads the client, but for
// redirects and links to other hosts.
func (x *exchange) takeOffPrefix(res *http.Response) {
	p := x.p.upstream.prefix
	if p == "" {
		return
	}
	seenHost, _ := clientView(x.r, x.p.cfg.TrustedProxies)
	off := func(reference string, anyHost bool) string {
		u, err := url.Parse(reference)
		if err != nil || !anyHost && u.Host != "" && u.Host != seenHost && u.Host != x.p.cfg.Upstream.Host {
			return reference
		}
		return p.off(u).String()
	}
	if to := res.Header.Get("Location"); to != "" {
		res.Header.Set("Location", off(to, res.StatusCode/100 != 3))
	}
	for i, link := range res.Header["Link"] { // registries write one a line
		before, rest, _ := strings.Cut(link, "<")
		if to, after, ok := strings.Cut(rest, ">"); ok {
			res.Header["Link"][i] = before + "<" + off(to, false) + ">" + after
		}
	}
}
