package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
)

// maxBatch is how many digests one request may ask for.
const maxBatch = 100

// listDiffIDs answers GET /v2/_diffids.
func listDiffIDs(x *exchange) error { return own(mayList, (*exchange).list)(x) }

func (x *exchange) list() error {
	q := x.r.URL.Query()
	types := []string{typeJSON, typeV1, typeText}
	if !q.Has("digest") && !q.Has("diff_id") {
		types = append(types, typeNDJSON) // which is for all or nothing
	}
	t, err := negotiate(x.r, types...)
	if err != nil {
		return err
	}
	if t == typeNDJSON {
		return x.export()
	}
	revision, err := x.p.cfg.Index.Revision(x.r.Context())
	if err != nil {
		return indexError(x.r.Context(), err)
	}
	pg, err := x.query(q)
	if err != nil {
		return err
	}
	body := encodePage(pg, t)
	x.sendTagged(t, "private, no-cache", `W/"`+revision+`"`, body)
	return nil
}

// query answers by digests, by DiffIDs, or with the next page of all.
func (x *exchange) query(q url.Values) (api.Page, error) {
	switch {
	case q.Has("digest") && q.Has("diff_id"):
		return api.Page{}, errBadRequest("ask for digest or for diff_id, not both")
	case len(q["digest"])+len(q["diff_id"]) > maxBatch:
		return api.Page{}, errBadRequest("ask for at most %d digests at once", maxBatch)
	case q.Has("digest"):
		return x.byDigest(q["digest"])
	case q.Has("diff_id"):
		return x.byDiffID(q["diff_id"])
	}
	n, err := x.p.pageSize(q.Get("n"))
	if err != nil {
		return api.Page{}, err
	}
	pg := api.Page{DiffIDs: []api.Record{}}
	if n == 0 {
		return pg, nil
	}
	facts, err := x.p.cfg.Index.List(x.r.Context(), digest.Digest(q.Get("last")), n+1)
	if err != nil {
		return api.Page{}, indexError(x.r.Context(), err)
	}
	for _, f := range facts[:min(n, len(facts))] {
		pg.DiffIDs = append(pg.DiffIDs, api.NewRecord(f))
	}
	if len(facts) > n {
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {facts[n-1].Digest.String()}}
		x.w.Header().Set("Link", `</v2/_diffids?`+next.Encode()+`>; rel="next"`)
	}
	return pg, nil
}

func (x *exchange) byDigest(asked []string) (api.Page, error) {
	pg := api.Page{DiffIDs: []api.Record{}}
	for _, s := range asked {
		dgst, err := validDigest(s)
		if err != nil {
			return api.Page{}, err
		}
		f, err := x.p.cfg.Index.Get(x.r.Context(), dgst)
		switch {
		case errors.Is(err, verify.ErrUnknown):
			pg.Unknown = append(pg.Unknown, s)
		case err != nil:
			return api.Page{}, indexError(x.r.Context(), err)
		default:
			pg.DiffIDs = append(pg.DiffIDs, api.NewRecord(f))
		}
	}
	return pg, nil
}

func (x *exchange) byDiffID(asked []string) (api.Page, error) {
	pg := api.Page{DiffIDs: []api.Record{}}
	for _, s := range asked {
		id, err := validDigest(s)
		if err != nil {
			return api.Page{}, err
		}
		facts, err := x.p.cfg.Index.ByDiffID(x.r.Context(), verify.DiffID(id), x.p.cfg.MaxEntries)
		if err != nil {
			return api.Page{}, indexError(x.r.Context(), err)
		}
		for _, f := range facts {
			pg.DiffIDs = append(pg.DiffIDs, api.NewRecord(f))
		}
	}
	return pg, nil
}

// encodePage returns a page as JSON, or as "digest diff_id" lines for a shell.
func encodePage(pg api.Page, contentType string) []byte {
	var b bytes.Buffer
	if contentType == typeText {
		for _, r := range pg.DiffIDs {
			if r.DiffID != "" {
				fmt.Fprintf(&b, "%s %s\n", r.Digest, r.DiffID)
			}
		}
		return b.Bytes()
	}
	return encodeJSON(pg)
}

func encodeJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil { // our own types always marshal
		panic(err)
	}
	return append(body, '\n')
}

// export streams the whole DiffID index, a record on each line, and their
// number on the last.
func (x *exchange) export() error {
	x.w.Header().Set("Content-Type", typeNDJSON)
	x.w.Header().Set("Cache-Control", "no-store")
	if x.r.Method == http.MethodHead {
		x.w.WriteHeader(http.StatusOK)
		return nil
	}
	out, last := api.NewExportWriter(x.w), digest.Digest("")
	for {
		facts, err := x.p.cfg.Index.List(x.r.Context(), last, x.p.cfg.MaxEntries)
		if err != nil {
			return indexError(x.r.Context(), err)
		}
		for _, f := range facts {
			if err := out.Write(f); err != nil {
				return err
			}
			last = f.Digest
		}
		if len(facts) < x.p.cfg.MaxEntries {
			return out.Close()
		}
	}
}

// getDiffID answers GET /v2/_diffids/<digest>.
func getDiffID(x *exchange) error { return own(mayList, (*exchange).one)(x) }

// getRepoDiffID answers GET /v2/<name>/_diffids/blobs/<digest>. It may fetch
// and hash the blob when asked to.
func getRepoDiffID(x *exchange) error { return own(mayReadBlob, (*exchange).one)(x) }

func mayReadBlob(x *exchange) error {
	dgst, err := validDigest(x.rt.digest)
	if err != nil {
		return err
	}
	err = x.p.upstream.has(x.r.Context(), x.caller(), x.rt.name, dgst)
	if errors.Is(err, verify.ErrNotFound) {
		return unknownBlob(nil)
	}
	return err
}

// unknownBlob is one answer for "nobody hashed it" and "not in the
// repository", so that neither tells about the other. Who may read the blob is
// told if the registry holds other bytes.
func unknownBlob(wrong *api.WrongBytes) error {
	e := errRefused(http.StatusNotFound, errcode.ErrorCodeBlobUnknown, "no such digest in the DiffID index")
	if wrong != nil {
		e.errs = errcode.Errors{errcode.ErrorCodeBlobUnknown.
			WithMessage("the registry holds other bytes under this digest").
			WithDetail(map[string]*api.WrongBytes{"wrong_bytes": wrong})}
	}
	e.header = http.Header{"Cache-Control": {"no-store"}}
	return e
}

func (x *exchange) one() error {
	t, err := negotiate(x.r, typeJSON, typeV1, typeText)
	if err != nil {
		return err
	}
	dgst, err := validDigest(x.rt.digest)
	if err != nil {
		return err
	}
	f, err := x.lookup(dgst)
	wrong := x.wrongBytes(dgst)
	switch {
	case errors.Is(err, verify.ErrUnknown), errors.Is(err, verify.ErrNotFound):
		return unknownBlob(wrong)
	case err != nil:
		return err
	}
	r, cache := api.NewRecord(f), "private, max-age=86400"
	if wrong != nil { // which may pass
		r.Wrong, cache = wrong, "private, no-cache"
	}
	body := encodeJSON(r)
	if t == typeText {
		body = encodePage(api.Page{DiffIDs: []api.Record{r}}, t)
	}
	x.sendETagged(t, cache, body)
	return nil
}

// wrongBytes returns nil unless the registry was seen to hold other bytes.
func (x *exchange) wrongBytes(dgst digest.Digest) *api.WrongBytes {
	w, err := x.p.cfg.Index.WrongBlob(x.r.Context(), dgst)
	if err != nil {
		return nil
	}
	return &api.WrongBytes{Digest: w.Actual, SeenAt: w.SeenAt}
}

func (x *exchange) lookup(dgst digest.Digest) (verify.Fact, error) {
	if x.rt.name != "" && x.fetchWanted() {
		return pushed{x.repository()}.fact(x.r.Context(), dgst)
	}
	f, err := x.p.cfg.Index.Get(x.r.Context(), dgst)
	if err != nil && !errors.Is(err, verify.ErrUnknown) {
		return f, indexError(x.r.Context(), err)
	}
	return f, err
}

// fetchWanted reports whether the caller asks to hash what is unknown.
func (x *exchange) fetchWanted() bool { return x.r.URL.Query().Get("fetch") == "true" }
