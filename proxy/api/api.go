// Package api is the JSON of the DiffID index API (docs/api.md): what the proxy
// answers under /v2/_diffids, and what its clients and the command line read and
// print. It has no behaviour but to turn what package verify knows into that
// JSON, and a record back into a fact.
package api

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// A Record is a fact as the API gives it out.
type Record struct {
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	Encoding     string        `json:"encoding"`
	DiffID       digest.Digest `json:"diff_id,omitempty"`
	UnpackedSize *int64        `json:"unpacked_size,omitempty"`
	Members      int64         `json:"members,omitempty"`        // when not 1
	Trailing     int64         `json:"trailing_bytes,omitempty"` // when not 0
	Quirks       []string      `json:"quirks,omitempty"`         // for which some runtime refuses it
	Problem      string        `json:"problem,omitempty"`        // why there is no diff_id
	Reason       string        `json:"reason,omitempty"`
	Source       string        `json:"source"`
	VerifiedAt   time.Time     `json:"verified_at"`
	Wrong        *WrongBytes   `json:"wrong_bytes,omitempty"` // of an answer about one blob
}

// WrongBytes says that the registry was seen to hold other bytes of a blob.
type WrongBytes struct {
	Digest digest.Digest `json:"digest"` // of those bytes
	SeenAt time.Time     `json:"seen_at"`
}

// A Page is an answer of /v2/_diffids.
type Page struct {
	DiffIDs []Record `json:"diffids"`
	Unknown []string `json:"unknown,omitempty"` // digests that were asked for
}

// NewRecord returns the record of a fact.
func NewRecord(f verify.Fact) Record {
	r := Record{Digest: f.Digest, Size: f.Size, Encoding: f.Encoding.String(), DiffID: f.Unpacked, Trailing: f.Trailing,
		Quirks: f.Quirks.Names(), Problem: f.Problem.String(), Reason: f.Reason, Source: f.Source.String(), VerifiedAt: f.LearnedAt}
	if f.Problem == verify.None {
		r.UnpackedSize = &f.UnpackedSize
	}
	if f.Parts != 1 {
		r.Members = f.Parts
	}
	return r
}

// Fact is the inverse of NewRecord, but for how far the decoding of a blob with
// a problem came. It returns an error for a word that it does not know; whether
// the fact makes sense is for the store that it is put in to say.
func (r Record) Fact() (verify.Fact, error) {
	f := verify.Fact{Digest: r.Digest, Size: r.Size, Unpacked: r.DiffID, Parts: 1, Trailing: r.Trailing,
		Reason: r.Reason, LearnedAt: r.VerifiedAt.UTC().Truncate(time.Second)}
	if r.Members != 0 {
		f.Parts = r.Members
	}
	for _, word := range []struct {
		name, value string
		into        interface{ UnmarshalText([]byte) error }
	}{{"encoding", r.Encoding, &f.Encoding}, {"problem", r.Problem, &f.Problem}, {"source", r.Source, &f.Source}} {
		if err := word.into.UnmarshalText([]byte(word.value)); err != nil {
			return verify.Fact{}, fmt.Errorf("%s: %w", word.name, err)
		}
	}
	var err error
	if f.Quirks, err = verify.ParseQuirks(r.Quirks); err != nil {
		return verify.Fact{}, fmt.Errorf("quirks: %w", err)
	}
	if f.Problem != verify.None {
		return f, nil
	}
	if r.UnpackedSize == nil {
		return verify.Fact{}, fmt.Errorf("unpacked_size is missing")
	}
	f.UnpackedSize = *r.UnpackedSize
	return f, nil
}
