package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/distribution/reference"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
)

// A handler serves one exchange. It either answers or returns an error.
type handler func(*exchange) error

// A methods row says what happens to each method of a route; nil is refused.
type methods struct{ read, post, patch, put, delete handler }

func (m methods) of(method string) handler {
	switch method {
	case http.MethodPost:
		return m.post
	case http.MethodPatch:
		return m.patch
	case http.MethodPut:
		return m.put
	case http.MethodDelete:
		return m.delete
	}
	return m.read // GET, HEAD and OPTIONS: checkRequest let no other pass
}

// allowed lists the methods of a route for an Allow header.
func (m methods) allowed() string {
	list := []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	for _, w := range []string{http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete} {
		if m.of(w) != nil {
			list = append(list, w)
		}
	}
	return strings.Join(list, ", ")
}

// The routes of our own. No repository can have these paths: a component of a
// repository's name does not begin with an underscore.
const (
	routeOther        = "other"
	routeReferrers    = "referrers"
	routeDiffIDs      = "diffids"
	routeDiffID       = "diffid"
	routeRepoBlob     = "repo-diffid"
	routeRepoManifest = "repo-report"
	routeDiscover     = "discover"
)

// table is the whole of what the proxy does, by route and method.
func table() map[string]methods {
	return map[string]methods{
		v2.RouteNameBase:            {read: pass},
		v2.RouteNameCatalog:         {read: pass},
		v2.RouteNameTags:            {read: pass},
		routeReferrers:              {read: pass},
		v2.RouteNameBlob:            {read: tapDownload, delete: pass},
		v2.RouteNameBlobUpload:      {read: pass, post: startUpload},
		v2.RouteNameBlobUploadChunk: {read: pass, patch: tapUpload, put: tapUpload, delete: endUpload},
		v2.RouteNameManifest:        {read: pullGate, put: gate, delete: pass},
		routeDiffIDs:                {read: listDiffIDs},
		routeDiffID:                 {read: getDiffID},
		routeRepoBlob:               {read: getRepoDiffID},
		routeRepoManifest:           {read: getReport},
		routeDiscover:               {read: discover},
		routeOther:                  {read: pass},
	}
}

// A route is what was parsed of a request's path, and the path to forward.
type route struct {
	kind      string // one of the names above, or a v2.RouteName
	name      string // repository
	reference string // tag or digest of a manifest
	digest    string // of a blob; not yet validated
	session   string // upload session
	path      string // canonical; never bytes that were not parsed
}

// A router parses paths with distribution's own route patterns, so that what
// distribution takes for a manifest is a manifest here.
type router struct{ mux *mux.Router }

func newRouter() *router {
	r := v2.RouterWithPrefix("")
	repo := "/v2/{name:" + reference.NameRegexp.String() + "}"
	dgst := "{digest:" + digest.DigestRegexp.String() + "}"
	segment := "{digest:[!-.0-~]+}" // to say that it is no digest is for the handler
	ref := "{reference:" + reference.TagRegexp.String() + "|" + digest.DigestRegexp.String() + "}"
	for _, own := range []struct{ name, path string }{
		{routeReferrers, repo + "/referrers/" + dgst},
		{routeDiffIDs, "/v2/_diffids"},
		{routeDiffID, "/v2/_diffids/" + segment},
		{routeRepoBlob, repo + "/_diffids/blobs/" + segment},
		{routeRepoManifest, repo + "/_diffids/manifests/" + ref},
		{routeDiscover, "/v2/_oci/ext/discover"},
		// Upload sessions of other registries use more characters than
		// distribution's.
		{v2.RouteNameBlobUploadChunk + "-wide", repo + "/blobs/uploads/{uuid:[a-zA-Z0-9-_.=~:@+]+}"},
	} {
		r.Path(own.path).Name(own.name)
	}
	return &router{r}
}

// parse classifies a request by its decoded path.
//
// A read that no pattern matches is routeOther and goes on as it came. A write
// must be spelled the one way that every server reads alike: a registry
// behind another proxy may see "a%2Fb/manifests/t" as a manifest of a/b.
func (r *router) parse(req *http.Request) (route, error) {
	rt := route{kind: routeOther, path: req.URL.EscapedPath()}
	// Paths of ours with a slash at the end are the same lists.
	decoded := &url.URL{Path: req.URL.Path}
	if decoded.Path == "/v2/_diffids/" {
		decoded.Path = "/v2/_diffids"
	}
	var m mux.RouteMatch
	// A handler in the match is a redirect to another spelling of the path.
	if r.mux.Match(&http.Request{Method: req.Method, URL: decoded}, &m) && m.Route != nil && m.Handler == nil {
		rt = route{
			kind:      strings.TrimSuffix(m.Route.GetName(), "-wide"),
			name:      m.Vars["name"],
			reference: m.Vars["reference"],
			digest:    m.Vars["digest"],
			session:   m.Vars["uuid"],
			path:      decoded.Path, // the patterns admit no byte that needs escaping
		}
	}
	if isRead(req.Method) {
		return rt, nil
	}
	if rt.kind == routeOther {
		return rt, errRefused(http.StatusMethodNotAllowed, errcode.ErrorCodeUnsupported,
			"%s is not a registry path that can be written; nothing was forwarded", printable(rt.path))
	}
	if !plainPath(req.URL.EscapedPath()) {
		return rt, errRefused(http.StatusBadRequest, errcode.ErrorCodeNameInvalid,
			"the path %s has escaped characters; send it as %s", printable(req.URL.EscapedPath()), rt.path)
	}
	if len(rt.name) > reference.RepositoryNameTotalLengthMax {
		return rt, errRefused(http.StatusBadRequest, errcode.ErrorCodeNameInvalid,
			"the repository name is longer than %d bytes", reference.RepositoryNameTotalLengthMax)
	}
	return rt, nil
}

// plainPath reports whether an escaped path has no escapes but that of the
// colon in a digest, which some clients escape.
func plainPath(escaped string) bool {
	return !strings.Contains(strings.NewReplacer("%3A", "", "%3a", "").Replace(escaped), "%")
}

func isRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// pass forwards the request unread.
func pass(x *exchange) error { return x.forward(nil) }
