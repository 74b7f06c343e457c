//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"diffgate/verify/verifytest"
)

// tag is the tag of every case.
const tag = "1"

// repository returns the name of the repository of a case.
func repository(c verifytest.Case) string { return strings.ToLower(c.ID) }

// imageAt returns what a client calls a case in the registry at an address.
func imageAt(addr string, c verifytest.Case) string { return addr + "/" + repository(c) + ":" + tag }

// shelf is a read-only registry that holds each case in a repository of its own.
// It also holds images that a real registry does not let a client push.
func shelf(trials []*trial) http.Handler {
	images := map[string]verifytest.Image{}
	for _, c := range trials {
		images[repository(c.Case)] = c.Image
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/{repo}/manifests/{reference}", func(w http.ResponseWriter, r *http.Request) {
		img, ok := images[r.PathValue("repo")]
		if reference := r.PathValue("reference"); !ok || reference != tag && reference != img.Digest().String() {
			unknown(w, "MANIFEST_UNKNOWN")
			return
		}
		mediaType, body := img.Manifest()
		serve(w, r, mediaType, img.Digest().String(), body)
	})
	mux.HandleFunc("GET /v2/{repo}/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		for dgst, blob := range images[r.PathValue("repo")].Blobs() {
			if dgst.String() == r.PathValue("digest") {
				serve(w, r, "application/octet-stream", dgst.String(), blob)
				return
			}
		}
		unknown(w, "BLOB_UNKNOWN")
	})
	return mux
}

func serve(w http.ResponseWriter, r *http.Request, mediaType, dgst string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", dgst)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func unknown(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	// If the client has hung up, it does not need the answer.
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": "unknown"}}})
}

// serveHere runs the registry on a free port of this machine until the test ends.
func serveHere(t *testing.T, registry http.Handler) (addr string) {
	srv := httptest.NewServer(registry)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}
