// Package proxy is a reverse proxy in front of a container registry that
// knows, for every blob that passes, the digest of what it unpacks to, and
// refuses an image whose config says otherwise.
//
//	client -- blob POST/PATCH/PUT --+                                    +-> upstream registry
//	client -- blob GET -------------+  tap: the bytes also run through   |
//	                                |       a hasher -> DiffID index     |   (bytes never altered)
//	client -- manifest PUT ---------+  gate: judge, then forward         |
//	client -- any other read -------+  pass                              |
//	client -- any other write ------+  refuse                            +
//
// Six rules hold everywhere:
//
//  1. Only the gate judges. A tap saves time; one that lost its place (a
//     retried chunk, a client gone, another replica) records nothing and harms
//     nothing, because the gate fetches and hashes what the DiffID index lacks.
//  2. The DiffID index holds facts about bytes that were hashed here, under
//     digests that were computed here.
//  3. A blob is never changed, reordered, re-encoded or spooled, and a client
//     never waits for a hasher at the end of a blob.
//  4. Unknown writes are refused, unknown reads passed. What was parsed of a
//     request is what is forwarded.
//  5. A download is proven before it is complete: its last bytes are held back
//     until its digest is known to be right.
//  6. There are three outcomes: true, false, and could not find out. Only
//     "false" is called a lie; only "could not find out" is a 5xx.
//
// The table in routes.go says which request goes where.
package proxy

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"diffgate/verify"
)

// A Mode says what the gate does with an image that it would refuse.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // refuse it
	Audit   Mode = "audit"   // let it pass; warn, log and count
	Off     Mode = "off"     // do not judge; the taps go on
)

// Config is what a Proxy is made of.
type Config struct {
	// Upstream is the registry's base URL: scheme, host, and the path before
	// /v2/ if there is one, clean and without escapes. Required.
	Upstream *url.URL
	// Index is the DiffID index. Required. The Proxy does not close it.
	Index Index
	// Transport carries all requests to the upstream. It must not decompress.
	// Nil means NewTransport with its defaults.
	Transport http.RoundTripper
	// PassRedirects leaves it to clients to follow the registry's redirects to
	// where its blobs are, which then do not pass. Otherwise they are followed
	// here, without credentials.
	PassRedirects bool
	// Mode of the gate. Empty means Enforce.
	Mode Mode
	// Pulls is what happens when an image is read that the gate would refuse.
	// Empty means Off: it is not looked at.
	Pulls Mode
	// Policy says what to do with what is not plainly false.
	Policy verify.Policy
	// Denied makes refusals 403 DENIED instead of 400 MANIFEST_INVALID.
	Denied bool
	// Limits bound the decoding of each blob.
	Limits verify.Limits
	// MaxManifest and MaxConfig bound, in bytes, what the gate reads of each.
	// Zero means 4 MiB, which is the registry's own limit.
	MaxManifest, MaxConfig int64
	// Fetches is how many layers are fetched and hashed at once. Zero means 4.
	Fetches int
	// Ahead is how many blobs may wait to be fetched and hashed before a
	// manifest names them: those that were mounted or found, or did not pass in
	// one piece. Zero means 256; negative turns it off.
	Ahead int
	// Sessions is how many upload sessions are followed at once; the layers of
	// others are fetched when their manifest comes. Zero means 1024.
	Sessions int
	// Lag is how long hashing may hold up the transfer of a blob, in all. A blob
	// that would be held up for longer is fetched and hashed afterwards. Zero
	// means as long as it takes.
	Lag time.Duration
	// MaxEntries is the longest page of /v2/_diffids. Zero means 1000.
	MaxEntries int
	// AuthTTL is how long the upstream's word is believed that a caller may list
	// all digests. Zero means that it is asked each time.
	AuthTTL time.Duration
	// TrustedProxies are the addresses of outer proxies whose Forwarded and
	// X-Forwarded-* headers are believed. Others' are replaced.
	TrustedProxies []netip.Prefix
	// Log gets one line for each request and verdict. Nil discards.
	Log *zap.Logger
	// NoAccessLog leaves out the line for each request.
	NoAccessLog bool
	// Metrics counts. Nil means counters that nobody reads.
	Metrics *Metrics
}

func (c Config) withDefaults() Config {
	set(&c.Mode, Enforce)
	set(&c.Pulls, Off)
	set(&c.MaxManifest, 4<<20)
	set(&c.MaxConfig, 4<<20)
	set(&c.Fetches, 4)
	set(&c.Ahead, 256)
	set(&c.Sessions, 1024)
	set(&c.MaxEntries, 1000)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return c
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// manifestBudget bounds the bytes of all manifests that are judged at once.
const manifestBudget = 256 << 20

// windowsMemory is how many bytes the windows of all blobs that pass may take.
// One of zstd mostly takes 8 MiB. A blob for which there is no room is fetched
// and hashed later.
const windowsMemory = 256 << 20

// A Proxy is an http.Handler; see the package comment.
type Proxy struct {
	cfg       Config
	tapped    verify.Limits // of blobs that are hashed while they pass
	router    *router
	table     map[string]methods
	upstream  *upstream
	ledger    *ledger
	ahead     *ahead
	sessions  *sessions
	listers   *listers
	small     *smallBlobs
	refused   *lru.Cache[refusalKey, refusal]
	looks     *lru.Cache[digest.Digest, verify.Look]
	manifests *semaphore.Weighted
	buffers   *bufferPool
	errorLog  *log.Logger // of httputil
}

// New returns a Proxy, or an error that names the missing part of the Config.
// Close must be called when no request is served any more.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Upstream == nil || cfg.Upstream.Host == "":
		return nil, errors.New("proxy: no upstream URL")
	case cfg.Index == nil:
		return nil, errors.New("proxy: no DiffID index")
	}
	cfg = cfg.withDefaults()
	if cfg.Transport == nil {
		t, err := NewTransport(TransportConfig{})
		if err != nil {
			return nil, err
		}
		cfg.Transport = t
	}
	errorLog, err := zap.NewStdLogAt(cfg.Log, zap.WarnLevel)
	if err != nil {
		return nil, err
	}
	refused, err := lru.New[refusalKey, refusal](refusalsKept)
	if err != nil {
		return nil, err
	}
	looks, err := lru.New[digest.Digest, verify.Look](looksKept)
	if err != nil {
		return nil, err
	}
	listers, err := newListers(cfg.AuthTTL)
	if err != nil {
		return nil, err
	}
	cfg.Limits.Slow = noLane{}
	tapped := cfg.Limits
	tapped.Memory, tapped.Lag = semaphore.NewWeighted(windowsMemory), cfg.Lag
	ledger, err := newLedger(cfg.Index, cfg.Fetches, cfg.Log, cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Proxy{
		cfg:       cfg,
		tapped:    tapped,
		router:    newRouter(),
		table:     table(),
		upstream:  newUpstream(cfg),
		ledger:    ledger,
		ahead:     newAhead(ledger, cfg.Ahead),
		sessions:  newSessions(cfg.Sessions, sessionAge),
		listers:   listers,
		small:     newSmallBlobs(smallBlobsTotal),
		refused:   refused,
		looks:     looks,
		manifests: semaphore.NewWeighted(max(manifestBudget, cfg.MaxManifest)),
		buffers:   &bufferPool{},
		errorLog:  errorLog,
	}, nil
}

// Close ends the work that outlives requests: blobs that are still hashed are
// recorded, fetches under way are dropped. It waits until that is done.
func (p *Proxy) Close() {
	p.sessions.close()
	p.ledger.close()
}

// ServeHTTP serves one request. Errors become answers here and nowhere else.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.newExchange(w, r)
	defer x.finish()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

// An exchange is one request on its way through the proxy.
type exchange struct {
	p     *Proxy
	w     *recorder
	r     *http.Request
	rt    route
	began time.Time

	bodyRead bool                          // the handler has read the body to its end
	bodyCopy func() (io.ReadCloser, error) // nil unless the upstream may be sent the request twice
	pulls    Mode                          // of a manifest that is read
	verdict  verify.Verdict                // of a manifest; for the access log
	err      error                         // what went wrong; for the access log
}

func (p *Proxy) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	p.cfg.Metrics.inFlight.Inc()
	if !r.ProtoAtLeast(1, 1) {
		// A chunked body is not seen in HTTP/1.0, and would be the next request.
		w.Header().Set("Connection", "close")
	}
	rec := &recorder{ResponseWriter: w}
	// A copy: the body may be wrapped, and the server looks at its own to see
	// whether the client still waits to be asked for it.
	return &exchange{p: p, w: rec, r: r.WithContext(r.Context()), began: time.Now()}
}

func (x *exchange) serve() error {
	if err := checkRequest(x.r); err != nil {
		return err
	}
	rt, err := x.p.router.parse(x.r)
	x.rt = rt
	if err != nil {
		return err
	}
	if rt.kind == routeOther && x.p.upstream.prefix.leaves(x.r.URL.Path) {
		return errBadRequest("the path %s may lead out of the registry", printable(rt.path))
	}
	h := x.p.table[rt.kind].of(x.r.Method)
	if h == nil {
		return errRefused(http.StatusMethodNotAllowed, errcode.ErrorCodeUnsupported, "%s is not supported for %s", x.r.Method, rt.path)
	}
	return h(x)
}

// noLane is a slow lane that is always taken. A blob that is slow to decode is given up
// when it passes, since a client may take as long as it likes, and when it is fetched in
// a slot for ordinary blobs. It is fetched again in the slow lane.
type noLane struct{}

// TryAcquire implements verify.Memory.
func (noLane) TryAcquire(int64) bool { return false }

// Release implements verify.Memory.
func (noLane) Release(int64) {}

// bufferPool lends the buffers that response bodies are copied through.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 64 << 10

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
