package proxy

import (
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A manifest is one that the registry holds.
type manifest struct {
	digest      digest.Digest
	contentType string
	body        []byte
}

// manifestTypes are accepted of the upstream, which gives out OCI manifests
// only to those who name the type.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "*/*",
}

// manifestDeadline is how long a client may take to send a manifest.
const manifestDeadline = time.Minute

// readManifest reads the body whole, or refuses it: what was not read is never
// forwarded. release must be called when the bytes are not needed any more.
func (x *exchange) readManifest() (body []byte, release func(), err error) {
	most := x.p.cfg.MaxManifest
	tooLarge := errRefused(http.StatusRequestEntityTooLarge, errcode.ErrorCodeManifestInvalid,
		"the manifest is larger than %d bytes (limits.manifest)", most)
	if x.r.ContentLength > most {
		return nil, nil, tooLarge
	}
	if enc := x.r.Header.Get("Content-Encoding"); enc != "" {
		return nil, nil, errRefused(http.StatusUnsupportedMediaType, errcode.ErrorCodeManifestInvalid,
			"a manifest with Content-Encoding %s cannot be judged; send it plain", printable(enc))
	}
	size := x.r.ContentLength
	if size < 0 {
		size = most
	}
	if err := x.p.manifests.Acquire(x.r.Context(), size); err != nil {
		return nil, nil, err
	}
	release = func() { x.p.manifests.Release(size) }
	rc := http.NewResponseController(x.w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(manifestDeadline)) // a ResponseWriter without deadlines has no slow client
	body, err = io.ReadAll(io.LimitReader(x.r.Body, most+1))
	switch {
	case err != nil:
		err = errRefused(http.StatusBadRequest, errcode.ErrorCodeManifestInvalid, "the manifest was cut on the way")
	case int64(len(body)) > most:
		err = tooLarge
	default:
		_ = rc.SetReadDeadline(time.Time{}) // as above
		x.bodyRead = true
		if rest := size - int64(len(body)); rest > 0 { // layers may have to be fetched now
			x.p.manifests.Release(rest)
			size -= rest
		}
		err = x.checkReference(body)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// checkReference makes sure that a manifest pushed by digest is that manifest.
// A reference that is no digest the upstream may know better.
func (x *exchange) checkReference(body []byte) error {
	want, err := digest.Parse(x.rt.reference)
	if err != nil || want.Algorithm().FromBytes(body) == want {
		return nil
	}
	return errRefused(http.StatusBadRequest, errcode.ErrorCodeDigestInvalid,
		"the manifest has the digest %s, not %s", want.Algorithm().FromBytes(body), want)
}
