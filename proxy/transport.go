package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// TransportConfig says how to reach an upstream.
type TransportConfig struct {
	// RootCAs are PEM files of the authorities that are trusted instead of the
	// system's. None means the system's.
	RootCAs []string
	// Certificate and Key are PEM files of a client certificate; both or none.
	Certificate, Key string
	// Insecure skips the verification of the upstream's certificate.
	Insecure bool
}

// NewTransport returns a transport for an upstream registry. It never
// decompresses, has no deadline that a long blob could hit, and gives up on an
// upstream that does not accept a connection in 5 seconds or has the whole
// request and says nothing for 15 minutes: a registry copies a large blob to
// its final place before it answers. Errors name the file at fault.
func NewTransport(c TransportConfig) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		ResponseHeaderTimeout:  15 * time.Minute,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure},
	}
	if len(c.RootCAs) > 0 {
		pool := x509.NewCertPool()
		for _, file := range c.RootCAs {
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no PEM certificate", file)
			}
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if c.Certificate != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate %s with key %s: %w", c.Certificate, c.Key, err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
