package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// tapDownload forwards reads of a blob. An answer with the whole blob is proven,
// also when a part was asked for and is all of it; what else passes (HEAD, parts,
// errors, redirects that are not followed) holds no whole blob.
func tapDownload(x *exchange) error {
	dgst := digest.Digest(x.rt.digest)
	switch {
	case dgst.Validate() != nil:
		return x.forward(nil)
	case x.r.Method == http.MethodHead:
		return headBlob(x)
	case x.r.Method != http.MethodGet:
		return x.forward(nil)
	}
	// A blob is bytes, not something that may be encoded for the way. Whatever
	// the upstream says of what it sends, it is the blob or it is not.
	x.r.Header.Set("Accept-Encoding", "identity")
	return x.forward(func(res *http.Response) error {
		if res.StatusCode != http.StatusOK && !isWhole(res) {
			return nil
		}
		if res.ContentLength == 0 && dgst != dgst.Algorithm().FromBytes(nil) {
			// There will be no last byte to hold back.
			res.Body.Close()
			err := &wrongBlobError{x.rt.name, dgst, dgst.Algorithm().FromBytes(nil), doubtful(res)}
			x.p.ledger.wrong(err)
			return errUnavailable(http.StatusBadGateway, "the upstream holds no bytes under this digest", err)
		}
		res.Body = x.prove(res, dgst)
		return nil
	})
}

// isWhole reports whether a part is all of the blob (RFC 9110, section 14.4).
// Some clients begin with a request for bytes=0-.
func isWhole(res *http.Response) bool {
	var first, last, size int64
	_, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
	return res.StatusCode == http.StatusPartialContent && err == nil && first == 0 && last == size-1
}

// ofStorage are the headers of a storage service that are about the blob.
var ofStorage = []string{"Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Etag", "Last-Modified"}

// followBlob puts what a storage service answers in place of the registry's
// redirect to it, so that downloads are proven there too.
func (x *exchange) followBlob(res *http.Response) error {
	if x.rt.kind != v2.RouteNameBlob || !isRead(x.r.Method) || !isRedirect(res.StatusCode) || x.p.cfg.PassRedirects {
		return nil
	}
	return x.followInto(res, x.r.Header)
}

// followInto puts what the storage service answers in place of the registry's
// redirect to it. wanted are headers that say which part is wanted.
func (x *exchange) followInto(res *http.Response, wanted http.Header) error {
	registry := res.Header
	followed, err := x.p.upstream.follow(x.r.Context(), res, wanted)
	if err != nil {
		return err
	}
	header := http.Header{}
	for _, h := range ofStorage {
		if v := followed.Header.Values(h); len(v) > 0 {
			header[h] = v
		}
	}
	for _, h := range []string{"Docker-Content-Digest", "Docker-Distribution-Api-Version"} {
		if v := registry.Values(h); len(v) > 0 {
			header[h] = v
		}
	}
	*res = *followed
	res.Header = header
	return nil
}

// prove wraps the body of a blob so that it ends only if it is the blob. What
// the DiffID index lacks of it is learned.
func (x *exchange) prove(res *http.Response, dgst digest.Digest) io.ReadCloser {
	b := &provenBody{body: res.Body, x: x, want: dgst, digester: dgst.Algorithm().Digester(), doubt: doubtful(res)}
	b.free, b.spare = x.p.buffers.Get(), x.p.buffers.Get()
	b.lent = [2][]byte{b.free, b.spare}
	if _, ok := x.p.ledger.known(x.r.Context(), dgst); !ok {
		b.hasher = verify.NewHasher(x.p.tapped)
	}
	return b
}

// A provenBody gives out a blob one read late, and the last read only when the
// digest is right; otherwise it ends with an error and the connection is cut.
// So no client gets the whole of a wrong blob.
type provenBody struct {
	body     io.ReadCloser
	x        *exchange
	want     digest.Digest
	doubt    bool // whether the registry holds what comes
	digester digest.Digester
	hasher   *verify.Hasher // nil when the fact is known, or was handed on
	small    smallCopy

	ready       []byte // may be given out
	held        []byte // may be given out once something follows it, or the end is proven
	free, spare []byte // buffers; the one that is being read into is free
	lent        [2][]byte
	err         error // ends the body once ready is empty; io.EOF when it is proven
}

func (b *provenBody) Read(p []byte) (int, error) {
	for len(b.ready) == 0 {
		switch {
		case b.err == nil:
			b.fill()
		case b.err == io.EOF && len(b.held) > 0:
			b.ready, b.held = b.held, nil
		default:
			return 0, b.err
		}
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// fill reads behind what is held and lets that go. All of ready was given out.
func (b *provenBody) fill() {
	n, err := b.body.Read(b.free)
	if n > 0 {
		b.see(b.free[:n])
		b.ready, b.held = b.held, b.free[:n]
		b.free, b.spare = b.spare, b.free
	}
	if err == io.EOF {
		err = b.end()
	}
	if err != nil && err != io.EOF {
		b.x.err = err
		b.ready, b.held = nil, nil
	}
	b.err = err
}

func (b *provenBody) see(p []byte) {
	b.digester.Hash().Write(p)
	if b.hasher != nil {
		b.small.write(p)
		b.hasher.Write(p)
	}
}

// end returns io.EOF when the body was the blob.
func (b *provenBody) end() error {
	if got := b.digester.Digest(); got != b.want {
		err := &wrongBlobError{b.x.rt.name, b.want, got, b.doubt}
		b.x.p.ledger.wrong(err)
		return err
	}
	b.x.p.ledger.right(b.x.r.Context(), b.want)
	if b.hasher != nil {
		dgst := b.hasher.Digest() // of SHA-256, under which facts are kept
		if !b.small.not {
			b.x.p.small.add(dgst, b.small.data)
		}
		b.x.learn(dgst, b.hasher, verify.Pulled)
		b.hasher = nil
	}
	return io.EOF
}

func (b *provenBody) Close() error {
	if b.hasher != nil {
		b.hasher.Close()
		b.hasher = nil
	}
	err := b.body.Close()
	b.ready, b.held, b.err = nil, nil, errClosedBody // nothing is read any more
	for i, buf := range b.lent {
		if buf != nil {
			b.x.p.buffers.Put(buf)
			b.lent[i] = nil
		}
	}
	return err
}

var errClosedBody = errors.New("read of a body that is closed")
