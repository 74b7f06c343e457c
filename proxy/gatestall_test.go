package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/proxy"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// A client that begins a manifest and falls silent is answered after a minute,
// and the upstream never hears of it.
func TestManifestThatStalls(t *testing.T) {
	upstream := func(r *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("unwanted %s %s", r.Method, r.URL)
	}
	inBubble(t, upstream, func(t *testing.T, c net.Conn) {
		began := time.Now()
		write(t, c, rawRequest(http.MethodPut, "/v2/app/manifests/1.4", "Content-Type: "+ocispec.MediaTypeImageManifest,
			"Content-Length: 1000", "\r\n{\"schemaVersion\":2,"))
		got, err := readRaw(bufio.NewReader(c), http.MethodPut)
		if err != nil || got.Status != http.StatusBadRequest || got.codes() != "MANIFEST_INVALID" {
			t.Errorf("got %d %s, %v; want 400 MANIFEST_INVALID", got.Status, got.Body, err)
		}
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("answered after %s, want a minute", waited)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is not closed: %v", err)
		}
	})
}

// A client whose manifest was refused before it was read is not waited for, once
// it had the time to read why.
func TestRefusedManifestThatStalls(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c net.Conn) {
		began := time.Now()
		write(t, c, rawRequest(http.MethodPut, "/v2/app/manifests/1.4", "Content-Type: "+ocispec.MediaTypeImageManifest,
			"Content-Encoding: gzip", "Content-Length: 1000", "\r\n\x1f\x8b"))
		wantStatus(t, c, http.StatusUnsupportedMediaType)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("answered after %s, want at once", waited)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is not closed: %v", err)
		}
		if waited := time.Since(began); waited > 15*time.Second {
			t.Errorf("closed after %s, want 10 seconds or so", waited)
		}
	})
}

// An upstream that falls silent in the middle of a layer has told neither truth
// nor lie: 504 after a minute without a byte, however slow the bytes before.
func TestLayerThatStalls(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	layer := img.Layers[0].Blob
	upstream := func(r *http.Request) (*http.Response, error) {
		switch {
		case isBlobGet(r, img.ConfigDigest()):
			return respond(r, http.StatusOK, bytes.NewReader(img.Config())), nil
		case isBlobGet(r, img.Layers[0].Digest()):
			return respond(r, http.StatusOK, &slowBody{r.Context(), layer[:len(layer)-1]}), nil
		}
		t.Errorf("unwanted %s %s", r.Method, r.URL)
		return nil, io.ErrClosedPipe
	}
	synctest.Test(t, func(t *testing.T) {
		p, err := proxy.New(proxy.Config{
			Upstream: &url.URL{Scheme: "http", Host: "upstream"}, Index: index.NewMemory(), Transport: roundTrip(upstream),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		began := time.Now()
		mediaType, body := img.Manifest()
		r := httptest.NewRequest(http.MethodPut, "/v2/app/manifests/1.4", bytes.NewReader(body))
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		got := answer{w.Code, w.Header(), w.Body.Bytes()}
		if got.Status != http.StatusGatewayTimeout || got.codes() != "UNAVAILABLE" || got.Header.Get("Retry-After") == "" {
			t.Errorf("got %d %s; want 504 UNAVAILABLE and Retry-After", got.Status, got.Body)
		}
		want := time.Duration(len(layer)-1)*slowByte + time.Minute
		if waited := time.Since(began); waited != want {
			t.Errorf("answered after %s, want %s", waited, want)
		}
	})
}

// slowByte is the time that a slowBody takes for each byte.
const slowByte = 50 * time.Second

// A slowBody gives out a byte at a time, and after the last waits for ctx.
type slowBody struct {
	ctx  context.Context
	data []byte
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.data) == 0 {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	select {
	case <-time.After(slowByte):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	p[0], b.data = b.data[0], b.data[1:]
	return 1, nil
}
