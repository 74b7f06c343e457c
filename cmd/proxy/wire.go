package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	stdlog "log"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"diffgate/cmd/proxy/settings"
	"diffgate/proxy"
	"diffgate/verify"
)

// proxyConfig translates settings, which were checked, for package proxy.
func proxyConfig(s settings.Settings) proxy.Config {
	return proxy.Config{
		PassRedirects: s.Upstream.Redirects == settings.Pass,
		Mode:          proxy.Mode(s.Verify.Mode),
		Pulls:         proxy.Mode(s.Verify.Pulls),
		Denied:        s.Verify.Code == settings.Denied,
		Policy: verify.Policy{
			AllowUnverifiable: causes(s.Verify.Unverifiable),
			RejectNotPortable: s.Verify.Portability == settings.Reject,
			IgnoreNotPortable: s.Verify.Portability == settings.Off,
			AllowSchema1:      s.Verify.Schema1 == settings.Allow,
		},
		Limits: verify.Limits{
			Unpacked: int64(s.Limits.Unpacked),
			Ratio:    s.Limits.Ratio,
			Window:   int64(s.Limits.Window),
		},
		MaxManifest:    int64(s.Limits.Manifest),
		MaxConfig:      int64(s.Limits.Config),
		Fetches:        s.Limits.Fetches,
		Ahead:          cmp.Or(s.Limits.Ahead, -1),
		Sessions:       s.Limits.Sessions,
		Lag:            s.Limits.Lag,
		MaxEntries:     s.API.MaxEntries,
		AuthTTL:        s.API.AuthTTL,
		TrustedProxies: s.HTTP.TrustedProxies,
		NoAccessLog:    s.Log.AccessLog.Disabled,
	}
}

// causes returns what the policy accepts though it cannot be proven.
func causes(words []string) []verify.Cause {
	var out []verify.Cause
	for _, w := range words {
		out = append(out, verify.Cause(w))
	}
	return out
}

// tlsConfig returns the settings of a TLS listener, or nil for plain HTTP.
func tlsConfig(s settings.ServerTLS) (*tls.Config, error) {
	if s.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", s.Certificate, s.Key, err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if s.MinimumTLS == settings.TLS13 {
		conf.MinVersion = tls.VersionTLS13
	}
	if len(s.ClientCAs) > 0 {
		conf.ClientCAs, conf.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	}
	for _, file := range s.ClientCAs {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", file)
		}
	}
	return conf, nil
}

// stdLog takes the lines of net/http: bad handshakes and requests, which are
// their senders' affair.
func stdLog(log *zap.Logger) *stdlog.Logger {
	l, err := zap.NewStdLogAt(log, zapcore.DebugLevel)
	if err != nil { // a level of ours is always known
		panic(err)
	}
	return l
}
