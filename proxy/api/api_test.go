package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/api"
	"diffgate/verify"
)

// A record carries all of a fact but how far the decoding of a bad blob came.
func TestRecordsCarryFacts(t *testing.T) {
	t.Parallel()
	learned := time.Date(2026, 11, 23, 8, 49, 4, 0, time.UTC)
	for _, tt := range []struct {
		is   string
		fact verify.Fact
	}{
		{"an ordinary layer", verify.Fact{Size: 3, Encoding: verify.Gzip, Unpacked: digest.FromString("a"), UnpackedSize: 1, Parts: 1, Source: verify.Pushed}},
		{"nothing", verify.Fact{Unpacked: digest.FromString(""), Parts: 1, Source: verify.Pulled}},
		{"zstd frames that some refuse", verify.Fact{Encoding: verify.Zstd, Unpacked: digest.FromString("a"), Parts: 7,
			Quirks: verify.SkippableFirst, Source: verify.Fetched}},
		{"gzip with all that is odd", verify.Fact{Encoding: verify.Gzip, Unpacked: digest.FromString("a"), Parts: 2, Trailing: 512,
			Quirks: verify.HeaderCRC | verify.LongName | verify.ReservedFlag | verify.TrailingZeros, Source: verify.Scanned}},
		{"no tar", verify.Fact{Unpacked: digest.FromString("a"), Parts: 1, Quirks: verify.NotTar, Source: verify.Pushed}},
		{"a blob that is cut", verify.Fact{Encoding: verify.Gzip, Problem: verify.Corrupt, Reason: "the stream is cut", Parts: 1, Source: verify.Pushed}},
	} {
		tt.fact.Digest, tt.fact.LearnedAt = digest.FromString(tt.is), learned
		body, err := json.Marshal(api.NewRecord(tt.fact))
		if err != nil {
			t.Fatal(err)
		}
		var r api.Record
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		got, err := r.Fact()
		if err != nil {
			t.Errorf("%s: %v", tt.is, err)
		}
		if diff := cmp.Diff(tt.fact, got); diff != "" {
			t.Errorf("%s (-put +got):\n%s", tt.is, diff)
		}
	}
}

// Words of a later version are not guessed at.
func TestUnknownWords(t *testing.T) {
	t.Parallel()
	size := int64(1)
	good := api.Record{Encoding: "gzip", Source: "push", UnpackedSize: &size}
	for _, tt := range []struct {
		want   string
		change func(*api.Record)
	}{
		{"encoding: ", func(r *api.Record) { r.Encoding = "lz4" }},
		{"problem: ", func(r *api.Record) { r.Problem = "cursed" }},
		{"source: ", func(r *api.Record) { r.Source = "rumour" }},
		{"quirks: ", func(r *api.Record) { r.Quirks = []string{"odd"} }},
		{"unpacked_size is missing", func(r *api.Record) { r.UnpackedSize = nil }},
	} {
		r := good
		tt.change(&r)
		if _, err := r.Fact(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
