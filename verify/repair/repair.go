// Package repair corrects the claims of an image whose layers are sound and
// whose config is not: it computes the config that tells the truth, and the
// manifest that names it. It does no I/O; pushing what it returns is for the
// caller.
//
// Only the values that are false are replaced, in the bytes as they are: every
// other byte of both documents stays, with fields that nobody here knows, the
// order of keys, the spelling of numbers and the blanks between. What two JSON
// parsers could read differently is not repaired but refused, because nobody
// can tell which reading was meant.
//
// A repair makes an image agree with the layers that it has. Whether they are
// the layers that it should have is for people to say: an image that names
// another's layers, or a placeholder for one, is then true and still of no use.
// [verify.Finding.Cause] is to be shown before a repair is pushed.
package repair

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// ErrNothing is returned by Fix for an image that has nothing to be repaired.
var ErrNothing = errors.New("nothing to repair: the config is right")

// An Image is what is to be repaired.
type Image struct {
	Manifest  []byte // as served
	MediaType string // of the manifest, as served
	Config    []byte // that the manifest names
	// Layers is what is known about each layer of the manifest, in its order. A
	// Look is needed only to keep a right diff_id of another algorithm than
	// SHA-256; without one it is replaced.
	Layers []verify.Evidence
}

// A Fixed is an image that tells the truth. Its bytes are new.
type Fixed struct {
	Manifest, Config             []byte
	ManifestDigest, ConfigDigest digest.Digest // SHA-256 of the manifest; of the config by the algorithm it had
	Changes                      []Change      // in the order of the documents: the config, then the manifest
	Notes                        []string      // what looks wrong and was left alone, a line each
}

// A Change is one value that was replaced.
type Change struct {
	Document string // "config" or "manifest"
	Path     string // for instance rootfs.diff_ids[1], counted from 0
	// Old and New are the value before and after, clipped to 200 bytes; empty
	// where there was or is none. An empty string, and what is no string, is
	// there as its JSON. Old is any text that the image's author liked: quote it.
	Old, New string
}

// Fix returns the image with right diff_ids, and with a manifest that names its
// config by the right digest and size.
//
// The error is ErrNothing when nothing is wrong; otherwise it says what cannot
// be repaired, naming the layer where it is one. Fix changes nothing of img and
// is safe for concurrent use.
func Fix(img Image) (Fixed, error) {
	m, err := verify.ParseManifest(img.MediaType, img.Manifest)
	switch {
	case err != nil:
		return Fixed{}, fmt.Errorf("not repaired: %w", err)
	case m.Kind != verify.ImageKind:
		return Fixed{}, fmt.Errorf("not repaired: %+q is not the media type of an image manifest", clip(img.MediaType))
	case len(img.Layers) != len(m.Layers):
		return Fixed{}, fmt.Errorf("not repaired: evidence about %d layers was given, and the manifest has %d", len(img.Layers), len(m.Layers))
	case m.Config.Digest.Algorithm().FromBytes(img.Config) != m.Config.Digest:
		return Fixed{}, fmt.Errorf("not repaired: the manifest names the config %s, and other bytes were given", m.Config.Digest)
	}
	ids, err := diffIDs(m, img)
	if err != nil {
		return Fixed{}, fmt.Errorf("not repaired: %w", err)
	}
	var f Fixed
	if err := f.config(img.Config, ids); err != nil {
		return Fixed{}, fmt.Errorf("not repaired: %w", err)
	}
	f.ConfigDigest = m.Config.Digest.Algorithm().FromBytes(f.Config)
	if err := f.manifest(img); err != nil {
		return Fixed{}, fmt.Errorf("not repaired: %w", err)
	}
	f.ManifestDigest = digest.FromBytes(f.Manifest)
	if len(f.Changes) == 0 {
		return Fixed{}, ErrNothing
	}
	f.note(len(ids))
	return f, nil
}

// diffIDs returns the right claim for each layer. A claim that is right is
// kept, however it is written.
func diffIDs(m verify.Manifest, img Image) ([]string, error) {
	if len(m.Layers) == 0 {
		return nil, errors.New("the manifest has no layers, so nothing says which diff_ids are right")
	}
	c, err := verify.ParseConfig(img.Config)
	if err != nil { // what cannot be mended is refused after mending
		c = verify.Config{HasRootFS: true}
	}
	r := verify.Judge(m, c, img.Layers)
	ids := make([]string, len(r.Layers))
	for i, l := range r.Layers {
		if ids[i], err = diffID(l); err != nil {
			return nil, fmt.Errorf("layer %d of %d (%s) %w", i+1, len(r.Layers), l.Descriptor.Digest, err)
		}
	}
	return ids, nil
}

// diffID returns the right claim for one layer, or why there is none.
func diffID(l verify.LayerReport) (string, error) {
	switch {
	case l.Status == verify.StatusMatch:
		return l.Claimed, nil
	case l.Status == verify.StatusNotALayer:
		return "", fmt.Errorf("has no diff_id: no runtime unpacks its media type %+q", clip(l.Descriptor.MediaType))
	case l.Fact == nil:
		return "", errors.New("has no diff_id: its bytes were not read")
	case l.Fact.Problem != verify.None:
		return "", fmt.Errorf("has no diff_id: it is %s: %s", inWords(l.Fact.Problem), l.Fact.Reason)
	case l.Fact.Encoding == verify.Identity && !l.Fact.IsTar():
		return "", errors.New("has no diff_id: it is not a tar, gzip or zstd stream")
	case l.Status == verify.StatusUnverifiable:
		return "", errors.New("has no diff_id that could be verified")
	}
	return l.DiffID.String(), nil
}

func inWords(p verify.Problem) string {
	switch p {
	case verify.Corrupt, verify.Ambiguous:
		return p.String()
	}
	return "unverifiable"
}

// config makes the right config.
func (f *Fixed) config(old []byte, ids []string) error {
	e, err := diffIDEdits(old, ids)
	if err != nil {
		return err
	}
	f.Config = e.apply(old)
	f.Changes = append(f.Changes, e.changes...)
	c, err := verify.ParseConfig(f.Config)
	if err != nil {
		return err
	}
	if !slices.Equal(c.DiffIDs, ids) {
		return errors.New("the config is not read as it was written")
	}
	return nil
}

// manifest makes the manifest that names the right config.
func (f *Fixed) manifest(img Image) error {
	top, err := object(img.Manifest, span{0, len(img.Manifest)})
	if err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	desc, err := object(img.Manifest, top.members["config"])
	if err != nil {
		return fmt.Errorf("config of the manifest: %w", err)
	}
	e := edits{document: "manifest"}
	e.set(img.Manifest, desc, "digest", "config.digest", quote(f.ConfigDigest.String()))
	e.set(img.Manifest, desc, "size", "config.size", fmt.Appendf(nil, "%d", len(f.Config)))
	if at, ok := desc.members["data"]; ok && !bytes.Equal(at.of(img.Manifest), []byte("null")) {
		e.set(img.Manifest, desc, "data", "config.data", quote(base64.StdEncoding.EncodeToString(f.Config)))
	}
	f.Manifest = e.apply(img.Manifest)
	f.Changes = append(f.Changes, e.changes...)
	m, err := verify.ParseManifest(img.MediaType, f.Manifest)
	if err != nil {
		return err
	}
	if m.Config.Digest != f.ConfigDigest || m.Config.Size != int64(len(f.Config)) {
		return errors.New("the manifest is not read as it was written")
	}
	return nil
}

// note compares the history with the layers: builders list a layer for each
// entry that is not empty (image-spec, config.md, "history"), and no runtime
// insists on it.
func (f *Fixed) note(layers int) {
	var c struct {
		History []struct {
			Empty bool `json:"empty_layer"`
		} `json:"history"`
	}
	if err := json.Unmarshal(f.Config, &c); err != nil || len(c.History) == 0 {
		return // a history of another form says nothing
	}
	n := 0
	for _, h := range c.History {
		if !h.Empty {
			n++
		}
	}
	if n != layers {
		f.Notes = append(f.Notes, fmt.Sprintf("the history tells of %d layers and the image has %d; it was not changed", n, layers))
	}
}
