package verify

import (
	"slices"

	"github.com/opencontainers/go-digest"
)

// emptyDiffID is the SHA-256 of nothing.
var emptyDiffID = DiffID(digest.FromBytes(nil))

// causes looks for the true story behind each false DiffID. layers are the
// positions that the DiffIDs belong to, in the order of the config.
func (j *judge) causes(layers []int) {
	reversed := j.reversed(layers)
	owners := j.owners()
	for k := range j.r.Findings {
		f := &j.r.Findings[k]
		if f.Reason != ReasonDiffIDMismatch {
			continue
		}
		var why string
		switch {
		case f.Claimed == DiffID(j.r.Layers[f.Layer].Fact.Digest):
			f.Cause, why = CauseCompressedDigest, "that is the digest of the compressed blob"
		case reversed:
			f.Cause, why = CauseReversed, "the diff_ids are in reverse order"
		case f.Claimed == emptyDiffID:
			f.Cause, why = CauseEmptyString, "that is the digest of nothing"
		default:
			other, ok := owners[f.Claimed]
			if !ok {
				continue
			}
			f.Cause, why = CauseOtherLayer, "that is the diff_id of "+j.at(other)
		}
		f.Message += " (" + why + ")"
	}
}

// owners returns the position of the first layer with each DiffID.
func (j *judge) owners() map[DiffID]int {
	owners := map[DiffID]int{}
	for i, l := range slices.Backward(j.r.Layers) {
		owners[l.DiffID] = i
	}
	return owners
}

// reversed reports whether every claim is true of the layer at the mirrored
// position.
func (j *judge) reversed(layers []int) bool {
	for k, at := range layers {
		mirror := j.r.Layers[layers[len(layers)-1-k]]
		if mirror.DiffID == "" || DiffID(j.r.Layers[at].Claimed) != mirror.DiffID {
			return false
		}
	}
	return len(layers) > 1
}
