package verify

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// layer judges one layer against the config's claim.
func (j *judge) layer(i int, claim string) {
	l := &j.r.Layers[i]
	l.Claimed = claim
	id, ok := parseDiffID(claim)
	switch {
	case !ok:
		j.lie(i, Finding{Reason: ReasonDiffIDMalformed, Actual: l.DiffID,
			Message: fmt.Sprintf("diff_id malformed in %s: config says %+q, which is not a digest", j.at(i), clip(claim))})
	case j.hasOwnDigest(i, id):
		j.matched(i)
		if isLayer(l.Descriptor) && !isNydus(l.Descriptor) {
			j.warn(i, []Runtime{Docker, Containerd, Podman}, "%s is not a tar archive and its media type is %+q: docker, containerd and podman do not unpack it", j.at(i), clip(l.Descriptor.MediaType))
		}
	case !j.readable(i):
	case digest.Digest(id).Algorithm() != digest.SHA256:
		j.wide(i, id)
	case id == l.DiffID:
		j.matched(i)
	case j.isEncrypted(i):
		j.encrypted(i)
	case isTarLayer(l.Descriptor) && l.Fact.Encoding == Identity && !l.Fact.IsTar():
		why := "it is not a tar, gzip or zstd stream"
		if strings.Contains(normalType(l.Descriptor.MediaType), "+encrypted") {
			why += ", and has no org.opencontainers.image.enc annotation that an encrypted layer has"
		}
		j.unreadable(i, StatusCorrupt, ReasonLayerCorrupt, why)
	default:
		j.mismatch(i, id)
	}
}

// hasOwnDigest reports whether the claim about a blob that no runtime unpacks as a
// tar archive is its digest, as is the custom with artifacts and with nydus. A blob
// that no decoder reads has no other name.
func (j *judge) hasOwnDigest(i int, id DiffID) bool {
	l := j.r.Layers[i]
	f := l.Fact
	return f != nil && !isTarLayer(l.Descriptor) && !isErofs(l.Descriptor) &&
		!f.IsTar() && !f.mayUnpack() &&
		(id == DiffID(f.Digest) || id == DiffID(l.Descriptor.Digest))
}

// matched records a claim that is true.
func (j *judge) matched(i int) {
	if l := &j.r.Layers[i]; l.isLayer() {
		l.Status = StatusMatch
		j.portability(i)
	}
}

// isLayer reports whether some runtime unpacks the blob as a layer.
func (l LayerReport) isLayer() bool { return isLayer(l.Descriptor) || l.unpacks() }

// unpacks reports whether the blob is a tar archive.
func (l LayerReport) unpacks() bool {
	return l.Fact != nil && l.Fact.Problem == None && l.Fact.mayUnpack()
}

// mayUnpack reports whether the blob may be a tar archive, as far as is known.
func (l LayerReport) mayUnpack() bool { return l.Fact == nil || l.Fact.mayUnpack() }

// isEncrypted reports whether only the holder of a key can know what the blob
// unpacks to: it says that it is encrypted, and no decoder begins to read it.
func (j *judge) isEncrypted(i int) bool {
	l := j.r.Layers[i]
	return saysEncrypted(l.Descriptor) && (l.Fact.Problem == Corrupt && l.Fact.UnpackedSize == 0 ||
		l.Fact.Problem == None && l.Fact.Encoding == Identity && !l.Fact.IsTar())
}

// encrypted records that the layer is encrypted: what it unpacks to is not known.
func (j *judge) encrypted(i int) {
	l := &j.r.Layers[i]
	l.Status, l.DiffID = StatusUnverifiable, ""
	j.undecided(i, CauseEncrypted, "it is encrypted")
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
		j.undecided(i, "", fmt.Sprintf("its diff_id is a %s digest, which was not computed", digest.Digest(id).Algorithm()))
	case look.Has(id):
		j.r.Layers[i].Status = StatusMatch
		j.warn(i, []Runtime{Docker, Containerd, Podman, Crane, Umoci}, "%s has a %s diff_id: it is right, and runtimes, which compute sha256, refuse it",
			j.at(i), digest.Digest(id).Algorithm())
		j.portability(i)
	case j.isEncrypted(i):
		j.encrypted(i)
	default:
		j.mismatch(i, id)
	}
}

// unclaimed records what is wrong with a blob that no diff_id is about, though the
// counts are right: some runtime may unpack it all the same.
func (j *judge) unclaimed(i int) {
	l := &j.r.Layers[i]
	switch {
	case l.Fact != nil && l.Fact.Problem == Corrupt && !l.Fact.mayUnpack(): // no runtime begins to unpack it
	case !j.readable(i):
	case l.unpacks():
		l.Status = StatusUncompared
		j.add(Finding{Reason: ReasonDiffIDCount, Layer: i, Digest: l.Descriptor.Digest, Actual: l.DiffID,
			Message: fmt.Sprintf("diff_id count: %s (%s) is a tar archive that no diff_id is about", j.at(i), short(l.Descriptor.Digest))})
	}
}

// uncompared records what is wrong with a layer when the counts are wrong, so that
// no claim belongs to it.
func (j *judge) uncompared(i int) {
	l := &j.r.Layers[i]
	if l.isLayer() && j.readable(i) {
		l.Status = StatusUncompared
	}
}

// readable reports whether the layer has a DiffID to compare with, and adds
// the finding when it has none.
func (j *judge) readable(i int) bool {
	l := &j.r.Layers[i]
	f := l.Fact
	switch {
	case f == nil && mayBeElsewhere(l.Descriptor):
		l.Status = StatusUnverifiable
		j.undecided(i, CauseForeign, "the registry does not hold this foreign layer")
	case f == nil:
		l.Status = StatusUnverified
	case f.Problem == Limit, f.Problem == Unsupported:
		l.Status = StatusUnverifiable
		j.add(Finding{Severity: Undecided, Reason: ReasonOverLimit, Layer: i, Digest: l.Descriptor.Digest,
			Message: fmt.Sprintf("over limit: %s (%s): %s", j.at(i), short(l.Descriptor.Digest), f.Reason)})
	case f.Problem == Corrupt && j.isEncrypted(i):
		j.encrypted(i)
	case f.Problem == Corrupt:
		j.unreadable(i, StatusCorrupt, ReasonLayerCorrupt, f.Reason)
	case f.Problem == Ambiguous:
		j.unreadable(i, StatusAmbiguous, ReasonLayerAmbiguous, f.Reason)
	case f.Problem != None:
		l.Status = StatusUnverifiable // hashing was given up, for no reason of the blob's
		j.undecided(i, "", f.Reason)
	case isErofs(l.Descriptor):
		return j.readableErofs(i)
	default:
		return true
	}
	return false
}

// readableErofs is readable for a layer with the media type of EROFS, whose suffix
// says how its diff_id is computed: containerd does not look at the bytes.
func (j *judge) readableErofs(i int) bool {
	l := &j.r.Layers[i]
	says, known := erofsEncoding(l.Descriptor)
	switch {
	case !known:
		l.Status = StatusUnverifiable
		j.undecided(i, "", "no runtime knows its media type, so its diff_id is not defined")
	case says != l.Fact.Encoding:
		j.unreadable(i, StatusAmbiguous, ReasonLayerAmbiguous, fmt.Sprintf("it is %s and its media type says %s EROFS", inWords(l.Fact.Encoding), inWords(says)))
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

// undecided records that nobody can find out what a layer unpacks to. cause is empty
// if no setting accepts it.
func (j *judge) undecided(i int, cause Cause, why string) {
	l := j.r.Layers[i]
	j.add(Finding{Severity: Undecided, Reason: ReasonUnverifiable, Cause: cause, Layer: i, Digest: l.Descriptor.Digest,
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
