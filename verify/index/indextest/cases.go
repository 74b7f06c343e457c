package indextest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

func testEmpty(t *testing.T, s index.Store) {
	unknown(t, s, Digest("blob", 0))
	if got := list(t, s, "", 10); len(got) != 0 {
		t.Errorf("List = %v", got)
	}
	if got := byDiffID(t, s, Digest("tar", 0), 10); len(got) != 0 {
		t.Errorf("ByDiffID = %v", got)
	}
	unknown(t, s, Name(0))
	noJudgement(t, s, Digest("manifest", 0))
	noTwin(t, s, Digest("config", 0))
	if got := statOf(t, s).Facts; got != 0 {
		t.Errorf("number of facts = %d", got)
	}
	if err := s.Ready(context.Background()); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

func testRoundTrip(t *testing.T, s index.Store) {
	large := Fact(0)
	large.Digest, large.Size, large.UnpackedSize = Digest("large", 0), 1<<62, 1<<63-1
	large.Parts, large.Trailing, large.Quirks = 1<<40, 1<<50, 1<<15
	never := Fact(7)
	never.Digest, never.LearnedAt = Digest("never", 0), time.Time{}
	long := Fact(1)
	long.Digest, long.Reason = Digest("long", 0), strings.Repeat("ü", verify.MaxReason/2)
	for _, f := range put(t, s, append(Facts(40), large, never, long)...) {
		if diff := gocmp.Diff(f, get(t, s, f.Digest)); diff != "" {
			t.Errorf("fact (-put +got):\n%s", diff)
		}
	}

	zoned := Fact(100)
	zoned.LearnedAt = zoned.LearnedAt.In(time.FixedZone("", 3600)).Add(time.Millisecond)
	put(t, s, zoned)
	if got, want := get(t, s, zoned.Digest).LearnedAt, Fact(100).LearnedAt; got != want {
		t.Errorf("learned at %v, want whole seconds in UTC: %v", got, want)
	}
}

func testForeignDigests(t *testing.T, s index.Store) {
	known := put(t, s, Fact(0))[0].Digest
	for _, d := range []digest.Digest{
		"", "sha256", "sha256:", known[:70], known + "0", digest.Digest(known.Encoded()),
		"sha256:" + digest.Digest(strings.ToUpper(known.Encoded())), "SHA256:" + digest.Digest(known.Encoded()),
		"sha512:" + digest.Digest(known.Encoded()), digest.Digest("sha512:" + strings.Repeat("0", 128)),
		digest.Digest(strings.Repeat("g", 64)), "sha256:" + digest.Digest(strings.Repeat("g", 64)), known[:70] + "\x00",
	} {
		unknown(t, s, d)
		f := Fact(1)
		f.Digest = d
		if err := s.Put(context.Background(), f); err == nil {
			t.Errorf("Put of a fact about %q: no error", d)
		}
		if got := byDiffID(t, s, d, 10); len(got) != 0 {
			t.Errorf("ByDiffID(%q) = %v", d, got)
		}
	}
}

func testMalformed(t *testing.T, s index.Store) {
	tests := []struct {
		why   string
		spoil func(f *verify.Fact)
	}{
		{"negative size", func(f *verify.Fact) { f.Size = -1 }},
		{"given up", func(f *verify.Fact) { f.Problem, f.Unpacked = verify.GivenUp, "" }},
		{"negative unpacked size", func(f *verify.Fact) { f.UnpackedSize = -1 }},
		{"negative number of parts", func(f *verify.Fact) { f.Parts = -1 }},
		{"negative trailing bytes", func(f *verify.Fact) { f.Trailing = -1 }},
		{"no problem, and no DiffID", func(f *verify.Fact) { f.Unpacked = "" }},
		{"a DiffID of another algorithm", func(f *verify.Fact) { f.Unpacked = digest.Digest("sha512:" + strings.Repeat("0", 128)) }},
		{"a problem and a DiffID", func(f *verify.Fact) { f.Problem = verify.Corrupt }},
		{"a reason without a problem", func(f *verify.Fact) { f.Reason = "because" }},
		{"a reason that is too long", func(f *verify.Fact) {
			f.Problem, f.Unpacked, f.Reason = verify.Corrupt, "", strings.Repeat("x", verify.MaxReason+1)
		}},
	}
	for _, tt := range tests {
		f := Fact(0)
		tt.spoil(&f)
		if err := s.Put(context.Background(), f); err == nil || errors.Is(err, verify.ErrConflict) {
			t.Errorf("Put with %s: %v, want an error that is no conflict", tt.why, err)
		}
		unknown(t, s, f.Digest)
	}
}

func testRepeated(t *testing.T, s index.Store) {
	f := Fact(0)
	put(t, s, f)
	again := f
	again.Source, again.LearnedAt = verify.Scanned, f.LearnedAt.Add(time.Hour)
	put(t, s, again, again)
	if diff := gocmp.Diff(f, get(t, s, f.Digest)); diff != "" {
		t.Errorf("fact (-first +got):\n%s", diff)
	}
}

func testSupersede(t *testing.T, s index.Store) {
	final := Fact(0)
	limited := final
	limited.Problem, limited.Reason, limited.Unpacked, limited.UnpackedSize = verify.Limit, "over 1 TiB", "", 10
	further := limited
	further.UnpackedSize = 20

	for _, step := range []struct{ put, want verify.Fact }{
		{limited, limited}, {further, further}, {limited, further}, {final, final}, {further, final},
	} {
		put(t, s, step.put)
		if diff := gocmp.Diff(step.want, get(t, s, final.Digest)); diff != "" {
			t.Errorf("fact (-want +got):\n%s", diff)
		}
	}
	if got := byDiffID(t, s, final.Unpacked, 10); len(got) != 1 {
		t.Errorf("ByDiffID = %v, want the final fact", got)
	}
}

func testConflict(t *testing.T, s index.Store) {
	f := put(t, s, Fact(0))[0]
	other := f
	other.Unpacked = Digest("tar", 1)
	corrupt := f
	corrupt.Unpacked, corrupt.Problem = "", verify.Corrupt
	for _, lie := range []verify.Fact{other, corrupt} {
		if err := s.Put(context.Background(), lie); !errors.Is(err, verify.ErrConflict) {
			t.Errorf("Put of a contradiction: %v, want ErrConflict", err)
		}
	}
	if diff := gocmp.Diff(f, get(t, s, f.Digest)); diff != "" {
		t.Errorf("fact (-first +got):\n%s", diff)
	}
	if got := byDiffID(t, s, other.Unpacked, 10); len(got) != 0 {
		t.Errorf("ByDiffID of the refused DiffID = %v", got)
	}
}

func testRevision(t *testing.T, s index.Store) {
	seen := map[string]bool{revisionOf(t, s): true}
	changes := []func(){
		func() { put(t, s, Fact(0)) },
		func() { put(t, s, Fact(1)) },
		func() { link(t, s, Name(0), Fact(0).Digest) },
		func() { link(t, s, Name(2), Fact(2).Digest) },
		func() { put(t, s, Fact(2)) },
	}
	for _, change := range changes {
		change()
		r := revisionOf(t, s)
		if seen[r] {
			t.Errorf("revision %q came back", r)
		}
		seen[r] = true
		change() // says the same again
		if again := revisionOf(t, s); again != r {
			t.Errorf("revision went from %q to %q without a change", r, again)
		}
	}
}

func testStat(t *testing.T, s index.Store) {
	put(t, s, Facts(50)...)
	put(t, s, Facts(50)...)
	if got := statOf(t, s); got.Facts != 50 || got.SizeBytes <= 0 {
		t.Errorf("Stat = %+v, want 50 facts that take some bytes", got)
	}
}

func testContext(t *testing.T, s index.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, err := range calls(ctx, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
}

func testClosed(t *testing.T, s index.Store) {
	put(t, s, Fact(0))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for name, err := range calls(context.Background(), s) {
		if !errors.Is(err, index.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

// calls calls every method but Close.
func calls(ctx context.Context, s index.Store) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = s.Get(ctx, Fact(0).Digest)
	errs["Put"] = s.Put(ctx, Fact(0))
	_, errs["PutAll"] = s.PutAll(ctx, slices.Values([]verify.Fact{Fact(0)}), nil)
	errs["Link"] = s.Link(ctx, Name(0), Fact(0).Digest)
	_, errs["Judgement"] = s.Judgement(ctx, Judgement(0).Manifest)
	errs["PutJudgement"] = s.PutJudgement(ctx, Judgement(0))
	_, errs["Twin"] = s.Twin(ctx, Judgement(0).Config)
	errs["MarkWrong"] = s.MarkWrong(ctx, Wrong(0))
	errs["ClearWrong"] = s.ClearWrong(ctx, Wrong(0).Digest)
	_, errs["WrongBlob"] = s.WrongBlob(ctx, Wrong(0).Digest)
	_, errs["WrongBlobs"] = s.WrongBlobs(ctx, 10)
	_, errs["ByDiffID"] = s.ByDiffID(ctx, verify.DiffID(Fact(0).Unpacked), 10)
	_, errs["List"] = s.List(ctx, "", 10)
	_, errs["Revision"] = s.Revision(ctx)
	_, errs["Stat"] = s.Stat(ctx)
	errs["Ready"] = s.Ready(ctx)
	return errs
}

func testConcurrent(t *testing.T, s index.Store) {
	const workers, each = 16, 20
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				f := Fact(w/2*each + i) // each fact comes from two workers
				if err := s.Put(context.Background(), f); err != nil {
					t.Errorf("Put: %v", err)
				}
				if got, err := s.Get(context.Background(), f.Digest); err != nil || got != f {
					t.Errorf("Get after Put = %v, %v", got, err)
				}
				page, err := s.List(context.Background(), f.Digest, 5)
				if err != nil || !slices.IsSortedFunc(page, func(a, b verify.Fact) int { return cmp.Compare(a.Digest, b.Digest) }) {
					t.Errorf("List = %v, %v", page, err)
				}
			}
		})
	}
	wg.Wait()
	if got := statOf(t, s).Facts; got != workers/2*each {
		t.Errorf("number of facts = %d, want %d", got, workers/2*each)
	}
}
