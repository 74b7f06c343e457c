package indextest

import (
	"context"
	"crypto/sha512"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

// Judgement returns a judgement that no other i has, of any verdict that there
// is. Every fifth is a match, beginning with 0, and names a config that no
// other i has.
func Judgement(i int) verify.Judgement {
	j := verify.Judgement{
		Manifest:  Digest("manifest", i),
		MediaType: "application/vnd.oci.image.manifest.v1+json",
		Rules:     1 + i%2,
		Config:    Digest("config", i),
		JudgedAt:  time.Unix(1_790_000_000+int64(i), 0).UTC(),
	}
	switch i % 5 {
	case 0:
		j.Verdict = verify.Match
	case 1:
		j.Verdict = verify.Mismatch
		for layer := range 1 + i%verify.MaxFindings {
			j.Findings = append(j.Findings, finding(layer))
		}
	case 2: // false in itself
		j.Verdict, j.Config = verify.Mismatch, ""
		j.Findings = []verify.Finding{{Reason: verify.ReasonManifestInvalid, Layer: -1, Message: "the manifest is not valid: no config"}}
	case 3:
		j.Verdict, j.Config = verify.NotAnImage, Name(-1-i)
	case 4:
		j.Verdict = verify.Unverifiable
		j.Findings = []verify.Finding{{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable, Layer: i, Message: "unverifiable layer"}}
	}
	return j
}

// finding returns a finding that has everything a finding can have.
func finding(layer int) verify.Finding {
	return verify.Finding{
		Severity: verify.Portable, Reason: verify.ReasonNotPortable, Cause: verify.CauseOtherLayer, Layer: layer,
		Digest: Digest("blob", layer), Claimed: verify.DiffID(Digest("claim", layer)), Actual: verify.DiffID(Digest("tar", layer)),
		Runtimes: []verify.Runtime{verify.Docker, verify.WithPigz}, Manifest: Digest("child", layer),
		Message: `diff_id mismatch in layer: config says "<a>" & 'b'`,
	}
}

// Name returns a digest of another algorithm than SHA-256 that no other i has.
func Name(i int) digest.Digest {
	d := []byte(Digest("name", i))
	if i%2 == 0 {
		sum := sha512.Sum512(d)
		return digest.NewDigestFromBytes(digest.SHA512, sum[:])
	}
	sum := sha512.Sum384(d)
	return digest.NewDigestFromBytes(digest.SHA384, sum[:])
}

func testJudgements(t *testing.T, s index.Store) {
	longest := Judgement(1)
	longest.Manifest, longest.Findings = Digest("longest", 0), nil
	longest.MediaType = strings.Repeat("x", 256)
	for range verify.MaxFindings {
		f := finding(1 << 30)
		f.Runtimes = []verify.Runtime{
			verify.Docker, verify.Containerd, verify.Podman, verify.Crane, verify.Umoci, verify.WithPigz, verify.WithoutPigz,
		}
		f.Message = strings.Repeat(`"`, 300)
		longest.Findings = append(longest.Findings, f)
	}
	bare := verify.Judgement{Manifest: Digest("bare", 0), Verdict: verify.Match, JudgedAt: time.Time{}.UTC()}
	want := []verify.Judgement{longest, bare}
	for i := range 20 {
		want = append(want, Judgement(i))
	}
	for _, j := range want {
		noJudgement(t, s, j.Manifest)
		putJudgement(t, s, j)
	}
	for _, j := range want {
		if diff := gocmp.Diff(j, judgement(t, s, j.Manifest), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("judgement (-put +got):\n%s", diff)
		}
	}

	zoned := Judgement(100)
	zoned.JudgedAt = zoned.JudgedAt.In(time.FixedZone("", 3600)).Add(time.Millisecond)
	putJudgement(t, s, zoned)
	if got, want := judgement(t, s, zoned.Manifest).JudgedAt, Judgement(100).JudgedAt; got != want {
		t.Errorf("judged at %v, want whole seconds in UTC: %v", got, want)
	}
}

func testJudgementsAreCopies(t *testing.T, s index.Store) {
	want, put := Judgement(6), Judgement(6)
	putJudgement(t, s, put)
	put.Findings[0].Message, put.Findings[0].Runtimes[0] = "changed after Put", "changed"
	for range 2 {
		got := judgement(t, s, want.Manifest)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("judgement (-put +got):\n%s", diff)
		}
		got.Findings[0].Message, got.Findings[0].Runtimes[0] = "changed after Judgement", "changed"
	}
}

func testJudgedAgain(t *testing.T, s index.Store) {
	first := Judgement(0)
	later := first
	later.JudgedAt = first.JudgedAt.Add(time.Hour)
	otherwise := later
	otherwise.Rules++
	older := first
	older.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	worse := older
	worse.Verdict, worse.Findings = verify.Mismatch, []verify.Finding{finding(1)}
	for _, step := range []struct {
		why       string
		put, want verify.Judgement
	}{
		{"the first judgement is stored", first, first},
		{"one that differs in its time alone is not", later, first},
		{"one by other rules is", otherwise, otherwise},
		{"an older one that says otherwise is", older, older},
		{"one with other findings is", worse, worse},
		{"the first judgement can come back", first, first},
	} {
		putJudgement(t, s, step.put)
		if diff := gocmp.Diff(step.want, judgement(t, s, first.Manifest)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.why, diff)
		}
	}
}

func testNoJudgement(t *testing.T, s index.Store) {
	findings := make([]verify.Finding, verify.MaxFindings+1)
	tests := []struct {
		why   string
		spoil func(j *verify.Judgement)
	}{
		{"no manifest", func(j *verify.Judgement) { j.Manifest = "" }},
		{"a manifest of another algorithm", func(j *verify.Judgement) { j.Manifest = Name(0) }},
		{"a manifest in upper case", func(j *verify.Judgement) {
			j.Manifest = "sha256:" + digest.Digest(strings.ToUpper(j.Manifest.Encoded()))
		}},
		{"no verdict", func(j *verify.Judgement) { j.Verdict = "" }},
		{"too many findings", func(j *verify.Judgement) { j.Findings = findings }},
		{"a media type that is too long", func(j *verify.Judgement) { j.MediaType = strings.Repeat("x", 257) }},
		{"a config that is no digest", func(j *verify.Judgement) { j.Config = "latest" }},
		{"a config cut short", func(j *verify.Judgement) { j.Config = j.Config[:70] }},
		{"a config of an unknown algorithm", func(j *verify.Judgement) { j.Config = "md5:d41d8cd98f00b204e9800998ecf8427e" }},
		{"a SHA-512 config in upper case", func(j *verify.Judgement) {
			j.Config = "sha512:" + digest.Digest(strings.ToUpper(Name(0).Encoded()))
		}},
		{"a message of absurd length", func(j *verify.Judgement) {
			j.Findings = []verify.Finding{{Message: strings.Repeat("x", 16<<10)}}
		}},
		{"a message that is not UTF-8", func(j *verify.Judgement) { j.Findings = []verify.Finding{{Message: "\xff"}} }},
		{"a media type that is not UTF-8", func(j *verify.Judgement) { j.MediaType = "\xff" }},
	}
	for _, tt := range tests {
		j := Judgement(0)
		tt.spoil(&j)
		if err := s.PutJudgement(context.Background(), j); err == nil || errors.Is(err, verify.ErrConflict) {
			t.Errorf("PutJudgement with %s: %v, want an error that is no conflict", tt.why, err)
		}
		noJudgement(t, s, j.Manifest)
		noJudgement(t, s, Judgement(0).Manifest)
		noTwin(t, s, j.Config)
	}

	known := Judgement(0)
	putJudgement(t, s, known)
	for _, d := range []digest.Digest{known.Manifest[:70], known.Manifest + "0", digest.Digest(known.Manifest.Encoded()), known.Config, "sha512:" + digest.Digest(known.Manifest.Encoded())} {
		noJudgement(t, s, d)
	}
}

func testTwins(t *testing.T, s index.Store) {
	first, second := Judgement(0), Judgement(5)
	second.Config = first.Config
	lie := Judgement(1)
	lie.Config = first.Config
	artifact := Judgement(3) // names its config by SHA-512
	artifact.Verdict = verify.Match
	other := Judgement(10)

	putJudgement(t, s, lie)
	noTwin(t, s, first.Config)
	for _, j := range []verify.Judgement{first, second, other, artifact} {
		putJudgement(t, s, j)
		twin(t, s, first.Config, first)
	}
	twin(t, s, other.Config, other)
	for _, d := range []digest.Digest{
		"", artifact.Config, first.Manifest, first.Config[:70], first.Config + "0",
		"sha256:" + digest.Digest(strings.ToUpper(first.Config.Encoded())),
	} {
		noTwin(t, s, d)
	}
	later := first
	later.Rules++
	putJudgement(t, s, later)
	twin(t, s, first.Config, later)
}

func testTwinJudgedAgain(t *testing.T, s index.Store) {
	first, second := Judgement(0), Judgement(5)
	second.Config = first.Config
	putJudgement(t, s, first)
	putJudgement(t, s, second)

	worse := first
	worse.Verdict = verify.Mismatch
	putJudgement(t, s, worse)
	got, err := s.Twin(context.Background(), first.Config)
	if diff := gocmp.Diff(second, got); !errors.Is(err, verify.ErrUnknown) && (err != nil || diff != "") {
		t.Errorf("Twin after the first is none any more: %v (-second +got):\n%s", err, diff)
	}
	putJudgement(t, s, second)
	twin(t, s, first.Config, second)
	putJudgement(t, s, first)
	twin(t, s, first.Config, second)

	moved := second
	moved.Config = Digest("config", 10)
	putJudgement(t, s, moved)
	twin(t, s, moved.Config, moved)
	if got, err := s.Twin(context.Background(), first.Config); !errors.Is(err, verify.ErrUnknown) && got.Config != first.Config {
		t.Errorf("Twin after its manifest names another config: %+v, %v", got, err)
	}
}

func testNotFacts(t *testing.T, s index.Store) {
	facts := put(t, s, Facts(10)...)
	for i := range 10 {
		link(t, s, Name(i), Fact(i).Digest)
		link(t, s, Name(10+i), Fact(10+i).Digest)
		revision, j := revisionOf(t, s), Judgement(i)
		putJudgement(t, s, j)
		unknown(t, s, j.Manifest)
		unknown(t, s, j.Config)
		j.Manifest = Fact(i).Digest
		putJudgement(t, s, j)
		markWrong(t, s, Wrong(i))
		unknown(t, s, Wrong(i).Digest)
		markWrong(t, s, verify.WrongBlob{Digest: Fact(i).Digest, Actual: Wrong(2).Actual})
		if got := revisionOf(t, s); got != revision {
			t.Errorf("a judgement or wrong blob changed the revision from %q to %q", revision, got)
		}
	}
	if got := statOf(t, s).Facts; got != 10 {
		t.Errorf("number of facts = %d, want 10", got)
	}
	if diff := gocmp.Diff(facts, list(t, s, "", 100)); diff != "" {
		t.Errorf("facts (-put +got):\n%s", diff)
	}
	for _, f := range facts {
		noTwin(t, s, f.Digest)
		if diff := gocmp.Diff(f, get(t, s, f.Digest)); diff != "" {
			t.Errorf("fact (-put +got):\n%s", diff)
		}
	}
	if got := byDiffID(t, s, Fact(0).Unpacked, 10); len(got) != 1 {
		t.Errorf("ByDiffID = %v, want one fact", got)
	}
}

func testJudgingConcurrently(t *testing.T, s index.Store) {
	const workers, each = 16, 20
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				n := w/2*each + i // each comes from two workers
				j, f := Judgement(n), Fact(n)
				err := errors.Join(s.PutJudgement(ctx, j), s.Link(ctx, Name(n), f.Digest), s.Put(ctx, f))
				if err != nil {
					t.Error(err)
				}
				if got, err := s.Judgement(ctx, j.Manifest); err != nil || !gocmp.Equal(got, j) {
					t.Errorf("Judgement after PutJudgement = %v, %v", got, err)
				}
				if got, err := s.Get(ctx, Name(n)); err != nil || got != f {
					t.Errorf("Get after Link and Put = %v, %v", got, err)
				}
				if _, err := s.Twin(ctx, j.Config); j.Verdict == verify.Match && err != nil {
					t.Errorf("Twin after PutJudgement: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func putJudgement(t *testing.T, s index.Store, j verify.Judgement) {
	t.Helper()
	if err := s.PutJudgement(context.Background(), j); err != nil {
		t.Errorf("PutJudgement: %v", err)
	}
}

func judgement(t *testing.T, s index.Store, manifest digest.Digest) verify.Judgement {
	t.Helper()
	j, err := s.Judgement(context.Background(), manifest)
	if err != nil {
		t.Fatalf("Judgement(%s): %v", manifest, err)
	}
	return j
}

func noJudgement(t *testing.T, s index.Store, manifest digest.Digest) {
	t.Helper()
	if j, err := s.Judgement(context.Background(), manifest); !errors.Is(err, verify.ErrUnknown) {
		t.Errorf("Judgement(%q) = %+v, %v; want ErrUnknown", manifest, j, err)
	}
}

func twin(t *testing.T, s index.Store, config digest.Digest, want verify.Judgement) {
	t.Helper()
	got, err := s.Twin(context.Background(), config)
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("Twin(%s): %v (-want +got):\n%s", config, err, diff)
	}
}

func noTwin(t *testing.T, s index.Store, config digest.Digest) {
	t.Helper()
	if j, err := s.Twin(context.Background(), config); !errors.Is(err, verify.ErrUnknown) {
		t.Errorf("Twin(%q) = %+v, %v; want ErrUnknown", config, j, err)
	}
}
