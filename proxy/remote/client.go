// Package remote reads images of any registry as a client does: it is the
// [verify.Repository] of the commands that judge images from a terminal. Layers
// are streamed through a hasher and never stored.
//
// It asks with the credentials that docker has for the registry, follows
// redirects to storage, tries again what fails for no reason of the request's,
// and believes no digest: what it returns was hashed here, or is a fact of the
// store that it was given. Where a Diffgate stands in front of the registry it
// can ask its DiffID index instead, see [Repository.Report] and
// [Client.Records].
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"diffgate/verify"
)

// Facts is what is known of blobs already, and where to put what is learned. Its
// methods may be called at the same time.
type Facts interface {
	// Get returns verify.ErrUnknown for a blob that nobody hashed.
	Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error)
	Put(ctx context.Context, f verify.Fact) error
}

// Config says how to read a registry.
type Config struct {
	// Host is the registry, as in references: "localhost:5000", "docker.io".
	Host string

	// Username and Password are the credentials. None means those that docker
	// has in its configuration file and credential helpers, if any.
	Username, Password string

	// Insecure allows plain HTTP, and certificates that nobody vouches for.
	// localhost and addresses of this machine are insecure anyway, as docker
	// treats them.
	Insecure bool

	// Jobs is how many layers are read at once. Zero means 4.
	Jobs int

	// Rate is the most bytes of blobs to read in a second, over all blobs. Zero
	// means as many as come.
	Rate int64

	// Limits bound the decoding of layers.
	Limits verify.Limits

	// Facts keeps facts from one image to the next. Nil means to keep none: a
	// layer that is asked for twice is read twice.
	Facts Facts

	// OnRead is told of each piece of a layer that was read, in bytes. It is
	// called by several goroutines at once. Nil means to tell nobody.
	OnRead func(n int)

	// UserAgent is sent with each request. Empty means "diffgate".
	UserAgent string
}

// A Client reads a registry. It is safe for concurrent use.
type Client struct {
	cfg     Config
	base    string // scheme and host
	auth    *auth.Client
	limiter *rate.Limiter // nil without a rate
	jobs    chan struct{}
}

const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 15 * time.Minute // a Diffgate may hash a whole image first
	probeTimeout  = 15 * time.Second
	fetchTimeout  = 2 * headerTimeout // of a report for which layers are hashed
	docTimeout    = 2 * time.Minute   // of a manifest, a page of a list, a record
	defaultJobs   = 4
	maxPiece      = 64 << 10 // read at once from a blob
)

// New returns a client. Of an insecure host it asks which protocol it speaks:
// https first, as docker does. It returns an error when docker's configuration
// file cannot be read, or such a host does not answer.
func New(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Host == "docker.io" || cfg.Host == "index.docker.io" {
		cfg.Host = "registry-1.docker.io"
	}
	here := isLocal(cfg.Host)
	insecure := cfg.Insecure || here
	insecureT := newTransport(insecure)
	t := http.RoundTripper(insecureT)
	if insecure { // of the registry alone: its tokens may come from elsewhere
		t = byHost{cfg.Host, insecureT, newTransport(false)}
	}
	c := &Client{cfg: cfg, base: "https://" + cfg.Host, jobs: make(chan struct{}, cmp.Or(cfg.Jobs, defaultJobs))}
	c.auth = &auth.Client{Client: &http.Client{Transport: retry.NewTransport(t)}, Cache: auth.NewCache(), Header: http.Header{}}
	c.auth.SetUserAgent(cmp.Or(cfg.UserAgent, "diffgate"))
	if here { // whose token server may be here too
		c.auth.BlockedRealmPrefixes = []netip.Prefix{}
	}
	if cfg.Rate > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(cfg.Rate), max(int(min(cfg.Rate, 1<<30)), maxPiece))
	}
	if err := c.useCredentials(); err != nil {
		return nil, err
	}
	if insecure {
		plain, err := speaksHTTP(ctx, insecureT, cfg.Host)
		if err != nil {
			return nil, err
		}
		if plain {
			c.base = "http://" + cfg.Host
		}
	}
	return c, nil
}

func newTransport(insecure bool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression:    true, // a blob is its stored bytes
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure},
	}
}

// byHost keeps what is allowed for one host from the others.
type byHost struct {
	host        string
	own, others http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == b.host {
		return b.own.RoundTrip(r)
	}
	return b.others.RoundTrip(r)
}

func (c *Client) useCredentials() error {
	if c.cfg.Username != "" || c.cfg.Password != "" {
		c.auth.Credential = auth.StaticCredential(c.cfg.Host, auth.Credential{Username: c.cfg.Username, Password: c.cfg.Password})
		return nil
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return fmt.Errorf("read docker's credentials: %w", err)
	}
	c.auth.Credential = credentials.Credential(store)
	return nil
}

// isLocal reports whether a host is one that docker takes for insecure by
// itself.
func isLocal(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return name == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// speaksHTTP reports whether a host answers plain HTTP and not https.
func speaksHTTP(ctx context.Context, t http.RoundTripper, host string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var first error
	for _, scheme := range []string{"https", "http"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+"/v2/", nil)
		if err != nil {
			return false, err
		}
		res, err := t.RoundTrip(req)
		if err == nil {
			return scheme == "http", res.Body.Close()
		}
		if first == nil {
			first = err
		}
	}
	return false, fmt.Errorf("reach registry %s: %w", host, first)
}

// do asks the registry. Path begins with /v2/ and is escaped already. The status
// of the answer is any; its body must be closed.
func (c *Client) do(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return c.send(req)
}

func (c *Client) send(req *http.Request) (*http.Response, error) {
	res, err := c.auth.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) {
		failed.URL = withoutQuery(failed.URL)
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		err = fmt.Errorf("%w: the registry wants credentials; log in with docker login %s", verify.ErrForbidden, c.cfg.Host)
	}
	return res, err
}

// maxError bounds what is read of an error's body.
const maxError = 64 << 10

// failure makes an answer an error, and closes its body: [verify.ErrNotFound],
// [verify.ErrForbidden], or what the registry says.
func failure(res *http.Response) error {
	defer res.Body.Close()
	said := &errcode.ErrorResponse{Method: res.Request.Method, URL: bare(res.Request.URL), StatusCode: res.StatusCode}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err == nil {
		said.Errors = parseErrors(body)
	}
	switch res.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", verify.ErrNotFound, said)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", verify.ErrForbidden, said)
	}
	return said
}

// bare returns a URL without what may be a secret: signed storage URLs have one
// in the query.
func bare(u *url.URL) *url.URL {
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
}

// withoutQuery is bare for what may be no URL.
func withoutQuery(s string) string {
	before, _, _ := strings.Cut(s, "?")
	return before
}

// Unreachable reports whether err is about the registry as a whole, so that there
// is no use in asking it for more.
func Unreachable(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}
