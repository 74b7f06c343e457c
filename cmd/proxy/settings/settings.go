// Package settings reads config.yml and DIFFGATE_* variables, nothing else.
//
// The shape is that of distribution's own configuration, and so is the parser:
// a versioned YAML file, each key of which a variable overrides. The variable
// of http.tls.certificate is DIFFGATE_HTTP_TLS_CERTIFICATE, and its value is
// YAML too, so that a list is written [a, b].
//
// Around that parser, which passes over what it does not know, this package is
// strict: a misspelt key or variable is an error, not a default that nobody
// asked for. An error is one line that names the file and line, or the
// variable, and the key.
//
// The parser warns through logrus about variables that are not settings, such
// as DIFFGATE_CONFIGURATION_PATH. All that matter are refused before it sees
// them, so a program may discard those warnings.
package settings

import (
	"time"

	"github.com/distribution/distribution/v3/configuration"
)

// Words that settings choose from. Each field below lists its own.
const (
	Enforce = "enforce"
	Audit   = "audit"
	Warn    = "warn"
	Reject  = "reject"
	Allow   = "allow"
	Off     = "off"
	Follow  = "follow"
	Pass    = "pass"

	Encrypted = "encrypted"
	Foreign   = "foreign"

	ManifestInvalid = "manifest_invalid"
	Denied          = "denied"

	JSON = "json"
	Text = "text"

	TLS12 = "tls1.2"
	TLS13 = "tls1.3"
)

// Settings is everything that can be set. The key of a field in the file is its
// name in lower case, and its part of a variable's name is the same in upper
// case; names therefore have no underscores.
type Settings struct {
	Version  configuration.Version // of the file's format: "0.1"
	Log      Log
	HTTP     HTTP
	Upstream Upstream
	Embedded Embedded
	Index    Index
	Verify   Verify
	API      API
	Limits   Limits
}

// Log is about the program's log and its access log.
type Log struct {
	Level     string // debug, info, warn or error
	Formatter string // Text or JSON
	AccessLog AccessLog
}

// AccessLog is about the log of requests.
type AccessLog struct {
	Disabled bool
}

// HTTP is about the listeners.
type HTTP struct {
	Addr           string        // where clients connect
	DrainTimeout   time.Duration // how long a stop waits for requests to end; zero does not wait
	TrustedProxies Prefixes      // outer proxies whose Forwarded headers are believed
	TLS            ServerTLS
	Debug          Debug
}

// ServerTLS turns on TLS for clients when it has a certificate. All but
// MinimumTLS are names of PEM files.
type ServerTLS struct {
	Certificate string
	Key         string
	ClientCAs   []string // if any, a client must show a certificate of one of them
	MinimumTLS  string   // TLS12 or TLS13
}

// Debug is the admin listener: metrics, health and profiles.
type Debug struct {
	Addr  string // empty: there is none
	PProf bool   // serve profiles of the program
}

// Upstream is the registry behind the proxy.
type Upstream struct {
	URL       string // scheme and host alone; empty: the embedded registry
	Redirects string // to where blobs are: Follow or Pass
	TLS       ClientTLS
}

// ClientTLS is used for an https upstream. Its strings are names of PEM files.
type ClientTLS struct {
	RootCAs     []string // instead of the system's
	Certificate string   // shown to the upstream if it asks
	Key         string
	Insecure    bool // accept any certificate of the upstream
}

// Embedded is the registry that serves when there is no upstream.
type Embedded struct {
	RootDirectory string
}

// Index is where the DiffID index is kept.
type Index struct {
	Bolt Bolt
}

// Bolt is the store in one file.
type Bolt struct {
	Path string
}

// Verify is what the gate does with an image.
type Verify struct {
	Mode         string   // what happens to a push that is false: Enforce, Audit or Off
	Pulls        string   // the same of a pull
	Code         string   // of a refusal: ManifestInvalid or Denied
	Portability  string   // true images that not every client can run: Warn, Reject or Off
	Unverifiable Unproven // what is accepted though it cannot be proven
	Schema1      string   // Docker schema 1, which has no DiffIDs: Reject or Allow
}

// Unproven is a list of Encrypted and Foreign: what is accepted although it cannot be
// proven.
type Unproven []string

// API is about /v2/_diffids.
type API struct {
	MaxEntries int           // most entries on one page of a list
	AuthTTL    time.Duration // how long the registry's word is believed that a caller may list all; zero: it is asked each time
}

// Limits bound what a request may cost.
type Limits struct {
	Manifest Size          // largest manifest
	Config   Size          // largest image config
	Unpacked Size          // largest layer, decoded
	Ratio    int64         // most decoded bytes for each stored byte of a large layer
	Window   Size          // largest window of a zstd layer, and dictionary of an xz layer
	Fetches  int           // layers fetched and hashed at once
	Ahead    int           // blobs that may wait to be fetched and hashed before a manifest names them; zero: none are
	Sessions int           // upload sessions remembered at once
	Lag      time.Duration // how long hashing may hold up one transfer; zero: as long as it takes
}
