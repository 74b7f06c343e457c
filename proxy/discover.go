package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// An extension is one entry of _oci/ext/discover (OCI distribution
// specification, extensions).
type extension struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Description string   `json:"description"`
	Endpoints   []string `json:"endpoints"`
}

func ourExtension() extension {
	return extension{
		Name:        "_diffids",
		URL:         "https://github.com/opencontainers/image-spec/blob/main/config.md#layer-diffid",
		Description: "The DiffID of each blob, and whether configs tell the truth about their layers",
		Endpoints:   []string{"_diffids"},
	}
}

// maxDiscover bounds what is read of the upstream's list.
const maxDiscover = 1 << 20

// discover answers GET /v2/_oci/ext/discover with the upstream's extensions
// and ours. Who may ask the upstream may ask us.
func discover(x *exchange) error {
	return own(func(*exchange) error { return nil }, (*exchange).extensions)(x)
}

func (x *exchange) extensions() error {
	var list struct {
		Extensions []json.RawMessage `json:"extensions"`
	}
	ctx := x.r.Context()
	res, err := x.p.upstream.do(ctx, x.caller(), http.MethodGet, x.rt.path, "", typeJSON)
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK {
		defer res.Body.Close()
		if err := json.NewDecoder(io.LimitReader(res.Body, maxDiscover)).Decode(&list); err != nil {
			return errUnavailable(http.StatusBadGateway, "the upstream's list of extensions cannot be read", fmt.Errorf("decode extensions: %w", err))
		}
	} else {
		drain(res) // it has no extensions; whether the caller may ask, the base route knows
		res, err := x.p.upstream.do(ctx, x.caller(), http.MethodGet, "/v2/", "")
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			return answerError(res)
		}
		drain(res)
	}
	list.Extensions = append(list.Extensions, json.RawMessage(encodeJSON(ourExtension())))
	x.sendETagged(typeJSON, "private, no-cache", encodeJSON(list))
	return nil
}
