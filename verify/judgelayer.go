package verify

import (
	"fmt"

	"github.com/opencontainers/go-digest"
)

// layer judges one layer against the config's claim.
func (j *judge) layer(i int, claim string) {
	l := &j.r.Layers[i]
	l.Claimed = claim
	if !isLayer(l.Descriptor) {
		j.notALayer(i, claim)
		return
	}
	id, ok := parseDiffID(claim)
	switch {
	case !ok:
		j.lie(i, Finding{Reason: ReasonDiffIDMalformed, Actual: l.DiffID,
			Message: fmt.Sprintf("diff_id malformed in %s: config says %+q, which is not a digest", j.at(i), clip(claim))})
	case j.isItsOwn(i, id):
		l.Status = StatusMatch
	case !j.readable(i):
	case digest.Digest(id).Algorithm() != digest.SHA256:
		j.wide(i, id)
	case id == l.DiffID:
		l.Status = StatusMatch
		j.portability(i)
	case isNydus(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, "its diff_id is neither its digest, as is the custom with nydus, nor that of its content")
	default:
		j.mismatch(i, id)
	}
}

// isItsOwn reports whether a layer of a form of its own (nydus, and what may
// come) has its digest for a diff_id. Of a blob that runtimes unpack all the
// same, whatever its type, that is no diff_id.
func (j *judge) isItsOwn(i int, id DiffID) bool {
	l := j.r.Layers[i]
	if isTarLayer(l.Descriptor) || id != DiffID(l.Descriptor.Digest) {
		return false
	}
	return isNydus(l.Descriptor) || l.Fact != nil && l.Fact.Encoding == Identity
}

// lie adds a finding that makes the claim about a layer false.
func (j *judge) lie(i int, f Finding) {
	l := &j.r.Layers[i]
	l.Status = StatusMismatch
	f.Layer, f.Digest = i, l.Descriptor.Digest
	j.add(f)
}

func (j *judge) mismatch(i int, id DiffID) {
	l := j.r.Layers[i]
	j.lie(i, Finding{Reason: ReasonDiffIDMismatch, Claimed: id, Actual: l.DiffID,
		Message: fmt.Sprintf("diff_id mismatch in %s: config says %s, blob %s unpacks to %s",
			j.at(i), inMessage(id), short(l.Descriptor.Digest), l.DiffID)})
}

// wide judges a claim of another algorithm than SHA-256. The specification
// allows it and no runtime computes it.
func (j *judge) wide(i int, id DiffID) {
	look := j.evidence[i].Look
	switch {
	case look == nil:
		j.r.Layers[i].Status = StatusUnverified
		j.undecided(i, fmt.Sprintf("its diff_id is a %s digest, which was not computed", digest.Digest(id).Algorithm()))
	case look.Has(id):
		j.r.Layers[i].Status = StatusMatch
		j.warn(i, []Runtime{Docker, Containerd, Podman, Crane, Umoci}, "%s has a %s diff_id: it is right, and runtimes, which compute sha256, refuse it",
			j.at(i), digest.Digest(id).Algorithm())
		j.portability(i)
	default:
		j.mismatch(i, id)
	}
}

// notALayer looks at a blob that is no layer by its type but that the config
// lists: its own digest is the customary claim. Runtimes that count it refuse
// the image anyhow, so a wrong one is warned about, unless docker would unpack
// the blob.
func (j *judge) notALayer(i int, claim string) {
	l := &j.r.Layers[i]
	id, ok := parseDiffID(claim)
	switch {
	case claim == l.Descriptor.Digest.String(), claim == l.DiffID.String():
	case ok && mayBeLayer(l.Descriptor) && j.isTar(i):
		j.mismatch(i, id)
	case len(j.m.Layers) > 0 && j.m.unpacks():
		j.warn(i, []Runtime{Docker, Containerd}, "%s is no tar archive and its diff_id is neither its digest nor that of its content", j.at(i))
	}
}

// isTar reports whether the bytes of a layer are a tar archive, as far as
// anybody can tell without unpacking it.
func (j *judge) isTar(i int) bool {
	f := j.r.Layers[i].Fact
	return f != nil && f.Problem == None && f.Size > 0 && f.Quirks&NotTar == 0
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
	case isEncrypted(l.Descriptor) && !j.isTar(i):
		l.Status = StatusUnverifiable
		j.undecided(i, "it is encrypted")
	case f == nil && IsForeign(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, "the registry does not hold this foreign layer")
	case f == nil:
		l.Status = StatusUnverified
	case f.Problem == Corrupt && !isTarLayer(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, "its media type is of no form that is known, and "+f.Reason)
	case f.Problem == Corrupt:
		j.unreadable(i, StatusCorrupt, ReasonLayerCorrupt, f.Reason)
	case f.Problem == Ambiguous:
		j.unreadable(i, StatusAmbiguous, ReasonLayerAmbiguous, f.Reason)
	case f.Problem != None:
		l.Status = StatusUnverifiable
		j.undecided(i, f.Reason)
	case f.Quirks&NotTar != 0 && isTarLayer(l.Descriptor) && l.Claimed != l.DiffID.String():
		j.unreadable(i, StatusCorrupt, ReasonLayerCorrupt, "it is not a tar, gzip or zstd stream")
	default:
		return true
	}
	return false
}

func (j *judge) unreadable(i int, s Status, r Reason, why string) {
	l := &j.r.Layers[i]
	l.Status = s
	j.add(Finding{Reason: r, Layer: i, Digest: l.Descriptor.Digest,
		Message: fmt.Sprintf("%s %s (%s): %s", s, j.at(i), short(l.Descriptor.Digest), why)})
}

func (j *judge) undecided(i int, why string) {
	l := j.r.Layers[i]
	j.add(Finding{Severity: Undecided, Reason: ReasonUnverifiable, Layer: i, Digest: l.Descriptor.Digest,
		Message: fmt.Sprintf("unverifiable %s (%s): %s", j.at(i), short(l.Descriptor.Digest), why)})
}

// inMessage is a DiffID for people: whole, unless it is of a longer algorithm
// than messages have room for.
func inMessage(d DiffID) string {
	if digest.Digest(d).Algorithm() == digest.SHA256 {
		return d.String()
	}
	return short(digest.Digest(d))
}

// short names a blob in messages, where two whole digests stand already.
func short(d digest.Digest) string {
	const hexes = 12
	if h := d.Encoded(); len(h) > hexes {
		return d.Algorithm().String() + ":" + h[:hexes]
	}
	return d.String()
}
