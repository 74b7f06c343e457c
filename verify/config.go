package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Config is what an image config claims.
type Config struct {
	HasRootFS  bool
	RootFSType string
	DiffIDs    []string // as written; not yet known to be digests
	Platform   ocispec.Platform
	// Variants are keys that are spelled in another case than the specification
	// has them, such as "rootfS". Runtimes written in Go read them, others do not.
	Variants []string
	// SaysDiffIDs reports whether some parser finds diff_ids in the document that
	// are not empty; HasImageKeys, whether it has any key of an image config. Both
	// are set even when the document cannot be judged.
	SaysDiffIDs, HasImageKeys bool
}

func configShape() shape {
	return shape{keys: map[string][]string{
		"":        append([]string{"rootfs"}, platformKeys...),
		".rootfs": {"type", "diff_ids"},
	}, lone: true}
}

// ParseConfig reads an image config. The error is a *ClaimError when it is not
// valid or when two parsers could read it differently. SaysDiffIDs and HasImageKeys
// are right even then.
func ParseConfig(body []byte) (Config, error) {
	var c Config
	c.SaysDiffIDs, c.HasImageKeys = survey(body)
	variants, err := configShape().check(body)
	if err != nil {
		return c, configError(err)
	}
	c.Variants = variants
	var raw struct {
		ocispec.Platform
		RootFS *struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return c, configError(err)
	}
	c.Platform = raw.Platform
	if raw.RootFS != nil {
		c.HasRootFS, c.RootFSType, c.DiffIDs = true, raw.RootFS.Type, raw.RootFS.DiffIDs
	}
	return c, nil
}

func configError(err error) error {
	if errors.Is(err, errAmbiguousJSON) {
		return &ClaimError{Reason: ReasonConfigAmbiguous, Message: "the config is ambiguous: " + strings.TrimPrefix(err.Error(), errAmbiguousJSON.Error()+": ")}
	}
	return &ClaimError{Reason: ReasonConfigInvalid, Message: "the config is not valid: " + clipError(err)}
}

// imageKeys are the keys of an image config (OCI image specification, config.md),
// and those that only docker writes.
var imageKeys = []string{
	"architecture", "author", "config", "created", "history", "os", "os.features", "os.version", "rootfs", "variant",
	"comment", "container", "container_config", "docker_version", "parent",
}

// survey reads a document as the most tolerant parser would. It reports whether
// any key that may be read as rootfs holds any key that may be read as diff_ids
// with something in it, and whether there is a key of an image config. A document
// that is cut or damaged counts as far as it goes.
func survey(body []byte) (says, image bool) {
	members(body, func(key string, value json.RawMessage) {
		image = image || slices.ContainsFunc(imageKeys, func(k string) bool { return strings.EqualFold(k, key) })
		if !strings.EqualFold(key, "rootfs") {
			return
		}
		members(value, func(key string, value json.RawMessage) {
			says = says || strings.EqualFold(key, "diff_ids") && !isEmpty(value)
		})
	})
	return says, image
}

// members calls visit for each member of a JSON object, until its end or until it
// is damaged. It does nothing for other values.
func members(body []byte, visit func(key string, value json.RawMessage)) {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return
		}
		name, _ := key.(string) // an object has no other keys
		visit(name, value)
	}
}

// isEmpty reports whether a value claims nothing: null, or an array without members.
func isEmpty(value json.RawMessage) bool {
	var list []json.RawMessage
	return json.Unmarshal(value, &list) == nil && len(list) == 0
}

// parseDiffID reads one entry of rootfs.diff_ids.
func parseDiffID(s string) (DiffID, bool) {
	d, err := digest.Parse(s)
	return DiffID(d), err == nil
}
