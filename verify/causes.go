package verify

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// emptyTarDiffID is the DiffID of an end marker alone: the layer that builders
// put where nothing has changed.
var emptyTarDiffID = DiffID(digest.FromBytes(make([]byte, 2*tarBlock)))

// causes looks for the true story behind each false DiffID. layers are the
// positions that the DiffIDs belong to, in the order of the config.
func (j *judge) causes(layers []int) {
	s := stories{judge: j, reversed: j.reversed(layers), owners: j.owners(), right: j.right()}
	for k := range j.r.Findings {
		f := &j.r.Findings[k]
		if f.Reason != ReasonDiffIDMismatch {
			continue
		}
		if cause, why := s.tell(f); cause != "" {
			f.Cause = cause
			f.Message += " (" + why + ")"
		}
	}
}

// stories are what is known of an image as a whole.
type stories struct {
	*judge
	reversed bool           // every claim is true of the mirrored layer
	owners   map[DiffID]int // the first layer with a DiffID
	right    map[DiffID]int // the first layer with a DiffID that its claim is true of
}

// tell returns the cause of a mismatch and a clause about it, or nothing.
func (s stories) tell(f *Finding) (Cause, string) {
	l := s.r.Layers[f.Layer]
	twin, hasTwin := s.right[l.DiffID]
	other, isOther := s.owners[f.Claimed]
	switch {
	case f.Claimed == DiffID(l.Fact.Digest), f.Claimed == DiffID(l.Descriptor.Digest):
		if l.Fact.Encoding == Gzip || l.Fact.Encoding == Zstd {
			return CauseCompressedDigest, "that is the digest of the compressed blob"
		}
		return CauseCompressedDigest, fmt.Sprintf("that is the digest of the %s blob", inWords(l.Fact.Encoding))
	case s.reversed:
		return CauseReversed, "the diff_ids are in reverse order"
	case isOfNothing(f.Claimed):
		return CauseEmptyString, "that is the digest of nothing"
	case isOther:
		return CauseOtherLayer, fmt.Sprintf("that is the diff_id of %s", s.at(other))
	case isOfNothing(l.DiffID), l.DiffID == emptyTarDiffID:
		return CauseEmptyBlob, "the blob is empty: a placeholder was pushed for the layer"
	case hasTwin && l.Fact.Encoding == Identity:
		return CauseUncompressedTwin, fmt.Sprintf("the blob is %s, uncompressed", s.at(twin))
	case hasTwin:
		return CauseOtherLayer, fmt.Sprintf("the blob is %s", s.at(twin))
	}
	return s.look(f)
}

// isOfNothing reports whether a DiffID, of any algorithm, is that of no bytes.
func isOfNothing(d DiffID) bool {
	return digest.Digest(d) == digest.Digest(d).Algorithm().FromBytes(nil)
}

// look tells what only the evidence beyond the fact shows.
func (s stories) look(f *Finding) (Cause, string) {
	e := s.evidence[f.Layer]
	switch {
	case e.Look != nil && slices.Contains(e.Look.Unpadded, f.Claimed):
		return CauseUnpaddedTar, "that is the digest of the tar without its padding"
	case e.Look != nil && slices.Contains(e.Look.Padded, f.Claimed):
		return CauseUnpaddedTar, "that is the digest of the tar with padding that the blob lacks"
	case e.Look != nil && e.Look.Content.Encoding != Identity && DiffID(e.Look.Content.Unpacked) == f.Claimed:
		return CauseRecompressed, "that is what the blob unpacks to when decompressed twice"
	}
	return "", ""
}

// owners returns the position of the first layer with each DiffID.
func (j *judge) owners() map[DiffID]int {
	owners := map[DiffID]int{}
	for i, l := range slices.Backward(j.r.Layers) {
		owners[l.DiffID] = i
	}
	return owners
}

// right returns the position of the first layer with each DiffID whose claim is
// true.
func (j *judge) right() map[DiffID]int {
	right := map[DiffID]int{}
	for i, l := range slices.Backward(j.r.Layers) {
		if l.Status == StatusMatch {
			right[l.DiffID] = i
		}
	}
	return right
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

// surplus tells which layer has no DiffID, or which DiffID no layer, when the
// rest fits.
func (j *judge) surplus(all []int) string {
	var actual []string
	for _, i := range all {
		if j.r.Layers[i].DiffID == "" {
			return ""
		}
		actual = append(actual, j.r.Layers[i].DiffID.String())
	}
	claimed := j.c.DiffIDs
	if len(actual) == 0 || len(claimed) == 0 {
		return ""
	}
	if i, ok := extra(actual, claimed); ok {
		return fmt.Sprintf(" (%s has none)", j.at(i))
	}
	if i, ok := extra(claimed, actual); ok {
		return fmt.Sprintf(" (diff_id %d of %d is of no layer)", i+1, len(claimed))
	}
	return ""
}

// extra returns the first position in long that short leaves out, if short is
// long with some left out.
func extra(long, short []string) (first int, ok bool) {
	first = -1
	k := 0
	for i, s := range long {
		switch {
		case k < len(short) && short[k] == s:
			k++
		case first < 0:
			first = i
		}
	}
	return first, k == len(short) && first >= 0
}
