package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// An upstream that is reached through TLS is who it says it is, or is not
// spoken to.
func TestTransportTLS(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("Client-Name", r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	upstream.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	upstream.StartTLS()
	t.Cleanup(upstream.Close)

	authority := writePEM(t, "CERTIFICATE", upstream.Certificate().Raw)
	strangerCert, strangerKey := newCertificate(t, "stranger")
	tests := []struct {
		name   string
		config proxy.TransportConfig
		status int
		client string // whose certificate the upstream sees
	}{
		{"the right authority", proxy.TransportConfig{RootCAs: []string{authority}}, 200, ""},
		{"one of several authorities", proxy.TransportConfig{RootCAs: []string{strangerCert, authority}}, 200, ""},
		{"the authorities of the system", proxy.TransportConfig{}, 502, ""},
		{"another authority", proxy.TransportConfig{RootCAs: []string{strangerCert}}, 502, ""},
		{"whoever it is", proxy.TransportConfig{Insecure: true}, 200, ""},
		{"with a certificate of our own", proxy.TransportConfig{RootCAs: []string{authority}, Certificate: strangerCert, Key: strangerKey}, 200, "stranger"},
	}
	for _, tt := range tests {
		transport, err := proxy.NewTransport(tt.config)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Transport = transport })
		a := do(t, http.MethodGet, p.URL+"/v2/", nil)
		if a.Status != tt.status || a.Header.Get("Client-Name") != tt.client {
			t.Errorf("%s: got %d, and the upstream saw the certificate of %q; want %d, %q",
				tt.name, a.Status, a.Header.Get("Client-Name"), tt.status, tt.client)
		}
		if strings.Contains(string(a.Body), "x509") {
			t.Errorf("%s: the client is told %s, which is for the log", tt.name, a.Body)
		}
		transport.CloseIdleConnections()
	}
}

// An upstream whose certificate is trusted and does not fit, or that speaks no
// TLS of today, gets no request: not in the clear either.
func TestTransportTLSRefused(t *testing.T) {
	t.Parallel()
	local := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }
	tests := []struct {
		name   string
		cert   []func(*x509.Certificate)
		tls    *tls.Config // nil: the upstream speaks plain HTTP
		status int
	}{
		{"a certificate that fits", []func(*x509.Certificate){local}, new(tls.Config), 200},
		{"TLS 1.2", []func(*x509.Certificate){local}, &tls.Config{MaxVersion: tls.VersionTLS12}, 200},
		{"an expired certificate", []func(*x509.Certificate){local, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }}, new(tls.Config), 502},
		{"a certificate of tomorrow", []func(*x509.Certificate){local, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }}, new(tls.Config), 502},
		{"a certificate of another name", []func(*x509.Certificate){func(c *x509.Certificate) { c.DNSNames = []string{"registry.example"} }}, new(tls.Config), 502},
		{"a certificate of another address", []func(*x509.Certificate){func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }}, new(tls.Config), 502},
		{"TLS 1.1", []func(*x509.Certificate){local}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 502},
		{"no TLS", []func(*x509.Certificate){local}, nil, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int32
			upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
			upstream.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
			cert, key := newCertificate(t, "upstream", tt.cert...)
			target := "https://" + upstream.Listener.Addr().String()
			if tt.tls == nil {
				upstream.Start()
			} else {
				pair, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					t.Fatal(err)
				}
				upstream.TLS = tt.tls
				upstream.TLS.Certificates = []tls.Certificate{pair}
				upstream.StartTLS()
			}
			t.Cleanup(upstream.Close)
			transport, err := proxy.NewTransport(proxy.TransportConfig{RootCAs: []string{cert}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(transport.CloseIdleConnections)
			p := newProxy(t, target, func(c *proxy.Config) { c.Transport = transport })
			a := do(t, http.MethodGet, p.URL+"/v2/", nil, "Authorization", "Basic eDp5")
			if a.Status != tt.status || (served.Load() > 0) != (tt.status == http.StatusOK) {
				t.Errorf("got %d, and the upstream served %d requests; want %d", a.Status, served.Load(), tt.status)
			}
		})
	}
}

// A registry is reached as its operator said, not through what the environment
// names as a proxy.
func TestTransportKnowsNoProxy(t *testing.T) {
	t.Parallel()
	transport, err := proxy.NewTransport(proxy.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if transport.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

// Requests that come one after the other use one connection to the upstream,
// whatever they are.
func TestTransportKeepsItsConnection(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	upstream := httptest.NewUnstartedServer(newRegistryHandler(t, nil))
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	upstream.Start()
	t.Cleanup(upstream.Close)
	p := newProxy(t, upstream.URL, nil)
	img := verifytest.Honest(2)
	want(t, http.StatusCreated, pushImage(t, p.URL, "app", "1.4", img))
	blob := "/v2/app/blobs/" + img.Layers[0].Digest().String()
	for range 20 {
		want(t, http.StatusOK, do(t, http.MethodGet, p.URL+"/v2/", nil))
		want(t, http.StatusOK, do(t, http.MethodHead, p.URL+blob, nil))
		want(t, http.StatusOK, do(t, http.MethodGet, p.URL+blob, nil))
		want(t, http.StatusNotFound, do(t, http.MethodGet, p.URL+"/v2/app/blobs/"+objectDigest, nil))
		want(t, http.StatusCreated, pushManifest(t, p.URL, img))
	}
	if n := opened.Load(); n > 3 { // a pushed body may still be on its way out when the answer is in
		t.Errorf("the proxy opened %d connections", n)
	}
}

// A push and a pull over HTTP/2 on both sides are a push and a pull.
func TestTransportHTTP2(t *testing.T) {
	t.Parallel()
	versions := map[string]bool{}
	registry := newRegistryHandler(t, nil)
	upstream := newHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versions[r.Proto] = true
		registry.ServeHTTP(w, r)
	}))
	transport, err := proxy.NewTransport(proxy.TransportConfig{RootCAs: []string{writePEM(t, "CERTIFICATE", upstream.Certificate().Raw)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Transport = transport })
	front := newHTTP2(t, p.Proxy)
	exchange := func(method, target string, body io.Reader) answer {
		t.Helper()
		res, err := front.Client().Do(newRequest(t, method, target, body, "Content-Type", octets))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil || res.ProtoMajor != 2 {
			t.Fatalf("got %s, %v", res.Proto, err)
		}
		return answer{res.StatusCode, res.Header, data}
	}

	blob := verifytest.Gzip(append(noise(1<<20), text(1<<20)...))
	dgst := digest.FromBytes(blob)
	a := want(t, http.StatusAccepted, exchange(http.MethodPost, front.URL+"/v2/a/blobs/uploads/", nil))
	a = want(t, http.StatusAccepted, exchange(http.MethodPatch, a.location(t, front.URL), bytes.NewReader(blob[:1000])))
	want(t, http.StatusCreated, exchange(http.MethodPut, withDigest(a.location(t, front.URL), dgst), io.MultiReader(bytes.NewReader(blob[1000:]))))
	if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, dgst)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := want(t, http.StatusOK, exchange(http.MethodGet, front.URL+"/v2/a/blobs/"+dgst.String(), nil)); !bytes.Equal(got.Body, blob) {
		t.Errorf("got %d other bytes", len(got.Body))
	}
	if diff := cmp.Diff(map[string]bool{"HTTP/2.0": true}, versions); diff != "" {
		t.Errorf("the upstream is spoken to in (-want +got)\n%s", diff)
	}
}

// newHTTP2 starts a server that speaks HTTP/2 over TLS.
func newHTTP2(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// What is wrong with a file is told with its name.
func TestTransportFiles(t *testing.T) {
	t.Parallel()
	cert, key := newCertificate(t, "client")
	_, otherKey := newCertificate(t, "other")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	text := filepath.Join(t.TempDir(), "text.pem")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		config proxy.TransportConfig
		named  string // file that the error names
	}{
		{"no such authority", proxy.TransportConfig{RootCAs: []string{cert, missing}}, missing},
		{"an authority that is no certificate", proxy.TransportConfig{RootCAs: []string{text}}, text},
		{"no such certificate", proxy.TransportConfig{Certificate: missing, Key: key}, missing},
		{"no such key", proxy.TransportConfig{Certificate: cert, Key: missing}, missing},
		{"a certificate without a key", proxy.TransportConfig{Certificate: cert}, cert},
		{"a key without a certificate", proxy.TransportConfig{Key: key}, key},
		{"somebody else's key", proxy.TransportConfig{Certificate: cert, Key: otherKey}, otherKey},
	}
	for _, tt := range tests {
		_, err := proxy.NewTransport(tt.config)
		if err == nil || !strings.Contains(err.Error(), tt.named) {
			t.Errorf("%s: got error %v, want one that names %s", tt.name, err, tt.named)
		}
	}
}

// An upstream that answers with what is no HTTP cannot be relayed.
func TestTransportGarbage(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, answer string }{
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"},
		{"nothing", ""},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"an unknown transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"},
		{"a header without a colon", "HTTP/1.1 200 OK\r\nnothing\r\n\r\n"},
		{"a header that does not end", "HTTP/1.1 200 OK\r\nX: y\r\n"},
		{"a megabyte of headers", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1<<20) + "\r\nContent-Length: 0\r\n\r\n"},
		{"a status of no number", "HTTP/1.1 abc OK\r\n\r\n"},
	}
	for _, tt := range tests {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, tt.answer)
			c.Close()
		}))
		p := newProxy(t, upstream.URL, nil)
		a := do(t, http.MethodDelete, p.URL+"/v2/a/manifests/t", nil)
		if a.Status != http.StatusBadGateway || a.codes() != "UNAVAILABLE" {
			t.Errorf("%s: got %d %s, want 502 UNAVAILABLE", tt.name, a.Status, a.Body)
		}
	}
}

// newCertificate writes a certificate that signed itself, and its key; each edit
// changes what it says.
func newCertificate(t *testing.T, name string, edit ...func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for _, e := range edit {
		e(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "PRIVATE KEY", keyDER)
}

// writePEM writes a file with one PEM block and returns its name.
func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "block.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
