package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A client pushes and pulls as registry clients do, with layers in parallel: a
// layer is one POST, one PATCH and one PUT, and is hashed when it is pulled.
type client struct {
	base *url.URL
	http *http.Client
}

func newClient(addr string) *client {
	return &client{
		base: &url.URL{Scheme: "http", Host: addr},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// do sends a request and insists on a status. The caller closes the body.
func (c *client) do(ctx context.Context, method string, to *url.URL, mediaType string, size int64, body io.Reader, want int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", */*") // registry:2 wants it named
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != want {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // there is nothing better to show
		return nil, errors.Join(fmt.Errorf("%s %s: %s: %s", method, to, res.Status, said), res.Body.Close())
	}
	return res, nil
}

// write sends a request whose answer has no body of interest, and returns where
// it points to.
func (c *client) write(ctx context.Context, method string, to *url.URL, mediaType string, size int64, body io.Reader, want int) (*url.URL, error) {
	res, err := c.do(ctx, method, to, mediaType, size, body, want)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, to, err)
	}
	return res.Location()
}

// begin begins an upload and returns where it goes.
func (c *client) begin(ctx context.Context, repo string) (*url.URL, error) {
	return c.write(ctx, http.MethodPost, c.base.JoinPath("v2", repo, "blobs", "uploads/"), "", 0, nil, http.StatusAccepted)
}

func (c *client) pushBlob(ctx context.Context, repo string, b blob) error {
	to, err := c.begin(ctx, repo)
	if err != nil {
		return err
	}
	to, err = c.write(ctx, http.MethodPatch, to, "application/octet-stream", b.desc.Size, b.reader(), http.StatusAccepted)
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", b.desc.Digest.String())
	to.RawQuery = q.Encode()
	_, err = c.write(ctx, http.MethodPut, to, "", 0, nil, http.StatusCreated)
	return err
}

func (c *client) pushManifest(ctx context.Context, img image, tag string) error {
	_, err := c.write(ctx, http.MethodPut, c.base.JoinPath("v2", img.repo, "manifests", tag),
		ocispec.MediaTypeImageManifest, int64(len(img.manifest)), bytes.NewReader(img.manifest), http.StatusCreated)
	return err
}

// push pushes an image and returns how long its blobs and its manifest took.
func (c *client) push(ctx context.Context, img image, tag string) (blobs, manifest time.Duration, err error) {
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for _, l := range append([]blob{img.config}, img.layers...) {
		group.Go(func() error { return c.pushBlob(groupCtx, img.repo, l) })
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	blobs = time.Since(began)
	err = c.pushManifest(ctx, img, tag)
	return blobs, time.Since(began) - blobs, err
}

// read gets a manifest or blob, calls each with it, and checks its digest if
// there is one to check.
func (c *client) read(ctx context.Context, repo, kind, reference string, want digest.Digest, each func(io.Reader) error) error {
	res, err := c.do(ctx, http.MethodGet, c.base.JoinPath("v2", repo, kind, reference), "", 0, nil, http.StatusOK)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	h := sha256.New()
	if err := each(io.TeeReader(res.Body, h)); err != nil {
		return fmt.Errorf("%s: %w", res.Request.URL, err)
	}
	if got := digest.NewDigest(digest.SHA256, h); want != "" && got != want {
		return fmt.Errorf("%s: got %s", res.Request.URL, got)
	}
	return nil
}

func drop(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// manifest gets a manifest.
func (c *client) manifest(ctx context.Context, repo, tag string) (m ocispec.Manifest, err error) {
	err = c.read(ctx, repo, "manifests", tag, "", func(r io.Reader) error { return json.NewDecoder(r).Decode(&m) })
	return m, err
}

// pull pulls an image.
func (c *client) pull(ctx context.Context, repo, tag string) error {
	m, err := c.manifest(ctx, repo, tag)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range append(m.Layers, m.Config) {
		group.Go(func() error { return c.read(ctx, repo, "blobs", d.Digest.String(), d.Digest, drop) })
	}
	return group.Wait()
}
