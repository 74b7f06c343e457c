package verify

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Judge compares the claims of an image with the facts about its layers and
// returns the report. It does no I/O.
//
// facts has one entry for each layer of m; nil means that nobody hashed the
// blob. m must be of ImageKind. Judge does not modify its arguments.
func Judge(m Manifest, c Config, facts []*Fact) Report {
	j := judge{m: m, c: c, r: Report{Config: m.Config.Digest, Platform: c.Platform}}
	j.r.Layers = make([]LayerReport, len(m.Layers))
	for i, d := range m.Layers {
		l := LayerReport{Descriptor: d, Fact: facts[i], TOC: toc(d), Status: StatusUnverified}
		if facts[i] != nil && facts[i].Problem == None {
			l.DiffID = DiffID(facts[i].Unpacked)
		}
		if !isLayer(d) {
			l.Status = StatusNotALayer
		}
		j.r.Layers[i] = l
	}
	if !m.MayBeImage() || (!c.HasRootFS && slices.Contains(legacyConfigTypes, m.Config.MediaType)) {
		j.r.Verdict = NotAnImage
		return j.r
	}
	j.rootFS()
	claimed := j.align()
	for i, at := range claimed {
		j.layer(at, c.DiffIDs[i])
	}
	if claimed == nil {
		for i := range j.r.Layers {
			j.uncompared(i)
		}
	}
	j.causes(claimed)
	j.chain()
	j.r.Verdict = j.verdict()
	return j.r
}

type judge struct {
	m Manifest
	c Config
	r Report
}

func (j *judge) add(f Finding) { j.r.Findings = append(j.r.Findings, f) }

func (j *judge) warn(layer int, format string, args ...any) {
	f := Finding{Severity: Portable, Reason: ReasonNotPortable, Layer: layer, Message: fmt.Sprintf(format, args...)}
	if layer >= 0 {
		f.Digest = j.m.Layers[layer].Digest
	}
	j.add(f)
}

// at names a layer in messages, counted from 1 as people do.
func (j *judge) at(layer int) string {
	return fmt.Sprintf("layer %d of %d", layer+1, len(j.m.Layers))
}

func (j *judge) rootFS() {
	switch {
	case !j.c.HasRootFS && len(j.m.Layers) == 0:
		j.warn(-1, "the config has no rootfs: docker does not pull it")
	case j.c.HasRootFS && j.c.RootFSType == "":
		j.warn(-1, "rootfs.type is missing: crane and umoci refuse the image, new containerd only fetches it")
	case j.c.HasRootFS && j.c.RootFSType != "layers":
		j.warn(-1, "rootfs.type is %+q, not \"layers\": crane and umoci refuse the image", clip(j.c.RootFSType))
	}
}

// align decides which layer each DiffID of the config is about. It returns
// the position of a layer for each DiffID, or nil after a finding when the
// counts fit no reading.
func (j *judge) align() []int {
	var all, layers []int
	for i, d := range j.m.Layers {
		all = append(all, i)
		if isLayer(d) {
			layers = append(layers, i)
		}
	}
	n := len(j.c.DiffIDs)
	mixed := len(layers) < len(all)
	switch {
	case mixed && (n == len(layers) || n == len(all)):
		j.warn(-1, "layers that unpack and other blobs are mixed: docker and older containerd do not pull it")
		if n == len(layers) {
			return layers
		}
		return all
	case n == len(all):
		return all
	}
	j.add(Finding{Reason: ReasonDiffIDCount, Layer: -1, Digest: j.m.Config.Digest,
		Message: fmt.Sprintf("diff_id count: config lists %s for %s", count(n, "diff_id"), count(len(all), "layer"))})
	return nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// layer judges one layer against the config's claim.
func (j *judge) layer(i int, claim string) {
	l := &j.r.Layers[i]
	l.Claimed = claim
	if !isLayer(l.Descriptor) {
		j.notALayer(i, claim)
		return
	}
	id, ok := parseDiffID(claim)
	if !ok {
		l.Status = StatusMismatch
		j.add(Finding{Reason: ReasonDiffIDMalformed, Layer: i, Digest: l.Descriptor.Digest, Actual: l.DiffID,
			Message: fmt.Sprintf("diff_id malformed in %s: config says %+q, which is not a digest", j.at(i), clip(claim))})
		return
	}
	if !j.readable(i) {
		return
	}
	switch {
	case id == l.DiffID:
		l.Status = StatusMatch
		j.portability(i)
	case digest.Digest(id).Algorithm() != digest.SHA256:
		l.Status = StatusUnverifiable
		j.undecided(i, fmt.Sprintf("its diff_id is a %s digest; runtimes compute sha256 and refuse it", digest.Digest(id).Algorithm()))
	default:
		l.Status = StatusMismatch
		j.add(Finding{Reason: ReasonDiffIDMismatch, Layer: i, Digest: l.Descriptor.Digest, Claimed: id, Actual: l.DiffID,
			Message: fmt.Sprintf("diff_id mismatch in %s: config says %s, blob %s unpacks to %s",
				j.at(i), id, short(l.Descriptor.Digest), l.DiffID)})
	}
}

// notALayer looks at a blob that no runtime unpacks but that the config lists:
// its own digest is the customary claim. Runtimes that count it refuse the
// image anyhow, so a wrong one is warned about.
func (j *judge) notALayer(i int, claim string) {
	l := &j.r.Layers[i]
	if claim != l.Descriptor.Digest.String() && claim != l.DiffID.String() {
		j.warn(i, "%s is no tar archive and its diff_id is neither its digest nor that of its content", j.at(i))
	}
}

// uncompared records what is wrong with a layer when no claim belongs to it.
func (j *judge) uncompared(i int) {
	if isLayer(j.r.Layers[i].Descriptor) && j.readable(i) {
		j.r.Layers[i].Status = StatusUncompared
	}
}

// readable reports whether the layer has a DiffID to compare with, and adds
// the finding when it has none.
func (j *judge) readable(i int) bool {
	l := &j.r.Layers[i]
	f := l.Fact
	switch {
	case isEncrypted(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, "it is encrypted")
		return false
	case f == nil && isForeign(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, "the registry does not hold this foreign layer")
		return false
	case f == nil:
		l.Status = StatusUnverified
		return false
	}
	switch f.Problem {
	case None:
		return true
	case Corrupt:
		l.Status = StatusCorrupt
		j.add(Finding{Reason: ReasonLayerCorrupt, Layer: i, Digest: l.Descriptor.Digest,
			Message: fmt.Sprintf("corrupt %s (%s): %s", j.at(i), short(l.Descriptor.Digest), f.Reason)})
	case Ambiguous:
		l.Status = StatusAmbiguous
		j.add(Finding{Reason: ReasonLayerAmbiguous, Layer: i, Digest: l.Descriptor.Digest,
			Message: fmt.Sprintf("ambiguous %s (%s): %s", j.at(i), short(l.Descriptor.Digest), f.Reason)})
	default:
		l.Status = StatusUnverifiable
		j.undecided(i, f.Reason)
	}
	return false
}

func (j *judge) undecided(i int, why string) {
	l := j.r.Layers[i]
	j.add(Finding{Severity: Undecided, Reason: ReasonUnverifiable, Layer: i, Digest: l.Descriptor.Digest,
		Message: fmt.Sprintf("unverifiable %s (%s): %s", j.at(i), short(l.Descriptor.Digest), why)})
}

// chain computes the ChainIDs from the computed DiffIDs, as far as they go
// (image-spec, config.md, "Layer ChainID").
func (j *judge) chain() {
	var chain digest.Digest
	for i := range j.r.Layers {
		l := &j.r.Layers[i]
		if !isLayer(l.Descriptor) {
			continue
		}
		if l.DiffID == "" {
			return
		}
		if chain == "" {
			chain = digest.Digest(l.DiffID)
		} else {
			chain = identity.ChainID([]digest.Digest{chain, digest.Digest(l.DiffID)})
		}
		l.ChainID = chain
	}
}

func (j *judge) verdict() Verdict {
	v := Match
	for _, f := range j.r.Findings {
		switch f.Severity {
		case False:
			return Mismatch
		case Undecided:
			v = Unverifiable
		}
	}
	for _, l := range j.r.Layers {
		if l.Status == StatusUnverified {
			return Unverified
		}
	}
	return v
}

// short names a blob in messages, where two whole digests stand already.
func short(d digest.Digest) string {
	const hexes = 12
	if h := d.Encoded(); len(h) > hexes {
		return d.Algorithm().String() + ":" + h[:hexes]
	}
	return d.String()
}
