package scan_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy/remote"
	"diffgate/proxy/scan"
	"diffgate/proxy/scan/scantest"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// scanned runs a scan to its end and returns all results, in the order of
// repositories and tags.
func scanned(t *testing.T, r *scantest.Registry, store scan.Store, edit func(*scan.Config)) ([]scan.Result, scan.Summary) {
	t.Helper()
	results, summary, err := try(t, r, store, edit)
	if err != nil {
		t.Fatal(err)
	}
	return results, summary
}

func try(t *testing.T, r *scantest.Registry, store scan.Store, edit func(*scan.Config)) (results []scan.Result, summary scan.Summary, err error) {
	t.Helper()
	cfg := scan.Config{Registry: remote.Config{Host: r.Host}, Store: store}
	cfg.OnResult = func(r scan.Result) error { results = append(results, r); return nil }
	if edit != nil {
		edit(&cfg)
	}
	summary, err = scan.Run(context.Background(), cfg)
	slices.SortFunc(results, func(a, b scan.Result) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
	return results, summary, err
}

// wrong returns the first finding of each result that is not right.
func wrong(results []scan.Result) (out []scantest.Wrong) {
	for _, r := range results {
		if r.Outcome == scan.Right {
			continue
		}
		w := scantest.Wrong{Repository: r.Repository, Tag: r.Tag, Platform: r.Platform, Cause: r.Error}
		if len(r.Findings) > 0 {
			f := r.Findings[0]
			w.Platform, w.Cause = f.Platform, f.What()
			if f.Layer != nil {
				w.Layer = *f.Layer + 1
			}
		}
		out = append(out, w)
	}
	return out
}

func sorted(w []scantest.Wrong) []scantest.Wrong {
	slices.SortFunc(w, func(a, b scantest.Wrong) int { return cmp.Compare(a.Repository, b.Repository) })
	return w
}

// twice returns the layers that were read more often than once. One whose false
// DiffID nothing explains is read once more in search of a reason.
func twice(reads ...map[digest.Digest]int) (out []digest.Digest) {
	sum := map[digest.Digest]int{}
	for _, r := range reads {
		for d, n := range r {
			sum[d] += n
		}
	}
	for d, n := range sum {
		if n > 1 {
			out = append(out, d)
		}
	}
	return out
}

// Ten images out of 200 are wrong, and those are found, each with its cause. A
// second scan finds the same and reads no layer but the one that came wrong.
func TestFindsExactlyTheWrong(t *testing.T) {
	t.Parallel()
	r, store := scantest.Start(t), index.NewMemory()
	want := sorted(r.Fill(t))
	unexplained := scantest.Image(7).Layers[2].Digest()
	rotten := scantest.Image(199).Layers[2].Digest()

	results, sum := scanned(t, r, store, nil)
	if diff := gocmp.Diff(want, wrong(results)); diff != "" {
		t.Errorf("what is wrong (-want +got):\n%s", diff)
	}
	if sum.False != 10 || sum.Undecided != 0 || sum.Repositories != 200 || sum.Manifests != 200 || sum.Right+10 != sum.Tags || !sum.Complete {
		t.Errorf("summary: %+v", sum)
	}
	reads := r.Reads()
	if diff := gocmp.Diff([]digest.Digest{unexplained}, twice(reads)); diff != "" {
		t.Errorf("layers read twice (-want +got):\n%s", diff)
	}
	if int(sum.Read.Layers)+1 != len(reads) { // the rotten one was read and taught nothing
		t.Errorf("the summary counts %d layers, the registry gave out %d", sum.Read.Layers, len(reads))
	}

	results, sum = scanned(t, r, store, nil)
	if diff := gocmp.Diff(want, wrong(results)); diff != "" {
		t.Errorf("what is wrong, the second time (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(map[digest.Digest]int{rotten: 1}, r.Reads()); diff != "" {
		t.Errorf("layers read the second time (-want +got):\n%s", diff)
	}
	if sum.Known != 198 { // all but the rotten one, and the one that misses a layer
		t.Errorf("%d manifests were known, want 198", sum.Known)
	}
}

// A scan that is ended half-way goes on where it was.
func TestResumes(t *testing.T) {
	t.Parallel()
	r, store := scantest.Start(t), index.NewMemory()
	want := sorted(r.Fill(t))
	enough := errors.New("enough")
	told := 0
	_, first, err := try(t, r, store, func(c *scan.Config) {
		c.OnResult = func(scan.Result) error {
			if told++; told == 100 {
				return enough
			}
			return nil
		}
	})
	if !errors.Is(err, enough) || first.Complete || first.Tags != 100 {
		t.Fatalf("error %v after %d tags, complete: %t; want it to end after 100", err, first.Tags, first.Complete)
	}
	before := r.Reads()
	results, second := scanned(t, r, store, nil)
	if diff := gocmp.Diff(want, wrong(results)); diff != "" {
		t.Errorf("what is wrong (-want +got):\n%s", diff)
	}
	// A layer under way when the first was ended is begun anew.
	again := len(twice(before, r.Reads()))
	if second.Known < 50 || again > 1+2 {
		t.Errorf("%d manifests known, %d layers read twice", second.Known, again)
	}
}

// Whatever is wrong with one repository, the rest is looked at.
func TestBrokenRepositories(t *testing.T) {
	t.Parallel()
	r := scantest.Start(t)
	for n, name := range []string{"a", "b", "c", "d", "e"} {
		r.Push(t, name, "1", scantest.Image(n))
	}
	r.Break("a", http.StatusInternalServerError, 0) // which is tried again for some seconds
	r.Break("c", http.StatusNotFound, 1)
	r.Break("d", http.StatusForbidden, 0)
	results, sum := scanned(t, r, index.NewMemory(), nil)
	got := map[string]scan.Outcome{}
	for _, res := range results {
		got[res.Repository+":"+res.Tag] = res.Outcome
		if (res.Error == "") != (res.Outcome == scan.Right) {
			t.Errorf("%s: outcome %s with error %q", res.Repository, res.Outcome, res.Error)
		}
	}
	want := map[string]scan.Outcome{"a:": scan.Undecided, "b:1": scan.Right,
		"c:1": scan.Right, "c:": scan.Undecided, "d:": scan.Undecided, "e:1": scan.Right}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if sum.Undecided != 3 || sum.Repositories != 5 || !sum.Complete {
		t.Errorf("summary: %+v", sum)
	}
}

// An image index is judged with its images, and the platform of a false one is
// told. Many tags of it are many results about one manifest.
func TestImageIndex(t *testing.T) {
	t.Parallel()
	r, store := scantest.Start(t), index.NewMemory()
	good, bad := scantest.Image(1), verifytest.Reversed(scantest.Image(2))
	r.Push(t, "app", good.Digest().String(), good)
	r.Push(t, "app", bad.Digest().String(), bad)
	mediaType, body := scantest.Index(t, good, bad)
	for _, tag := range []string{"1", "1.0", "latest"} {
		r.PushManifest(t, "app", tag, mediaType, body)
	}
	for _, run := range []string{"first", "second"} {
		results, sum := scanned(t, r, store, nil)
		var want []scantest.Wrong
		for _, tag := range []string{"1", "1.0", "latest"} {
			want = append(want, scantest.Wrong{Repository: "app", Tag: tag, Platform: "linux/arm64", Layer: 1, Cause: "reversed"})
		}
		if diff := gocmp.Diff(want, wrong(results)); diff != "" {
			t.Errorf("%s scan (-want +got):\n%s", run, diff)
		}
		if sum.Manifests != 1 || sum.Tags != 3 || sum.False != 3 {
			t.Errorf("%s scan: %+v", run, sum)
		}
	}
	if again := twice(r.Reads()); again != nil {
		t.Errorf("read twice: %s", again)
	}
}

// Each way to choose has its row: what it looks at.
func TestChoose(t *testing.T) {
	t.Parallel()
	r := scantest.Start(t)
	for n, name := range []string{"base", "team/app", "team/deep/app", "teams/app"} {
		img := scantest.Image(n)
		img.RawConfig = slices.Concat([]byte(`{"created":"202`), []byte{byte('0' + n)}, []byte(`-01-02T03:04:05.5Z",`), img.Config()[1:])
		r.Push(t, name, "1", img)
	}
	r.Push(t, "undated", "1", scantest.Image(9))
	day := func(s string) time.Time {
		d, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, tt := range []struct {
		says     string
		patterns scan.Patterns
		since    time.Time
		want     []string
	}{
		{"no pattern is all", nil, time.Time{}, []string{"base", "team/app", "team/deep/app", "teams/app", "undated"}},
		{"a name is itself", scan.Patterns{"base"}, time.Time{}, []string{"base"}},
		{"* ends at a slash", scan.Patterns{"team/*"}, time.Time{}, []string{"team/app"}},
		{"* is what it stands for", scan.Patterns{"team*/app"}, time.Time{}, []string{"team/app", "teams/app"}},
		{"/** is all below", scan.Patterns{"team/**"}, time.Time{}, []string{"team/app", "team/deep/app"}},
		{"/** is not the folder itself", scan.Patterns{"base/**"}, time.Time{}, nil},
		{"patterns add up", scan.Patterns{"base", "te?ms/**"}, time.Time{}, []string{"base", "teams/app"}},
		{"since leaves out what is older, and keeps what has no date", nil, day("2021-06-01T00:00:00Z"), []string{"team/deep/app", "teams/app", "undated"}},
		{"the very time is not later", nil, day("2022-01-02T03:04:05.5Z"), []string{"teams/app", "undated"}},
	} {
		results, sum := scanned(t, r, index.NewMemory(), func(c *scan.Config) { c.Repositories, c.Since = tt.patterns, tt.since })
		var got []string
		for _, res := range results {
			got = append(got, res.Repository)
		}
		if diff := gocmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.says, diff)
		}
		if int(sum.Tags-sum.Skipped) != len(tt.want) {
			t.Errorf("%s: %d tags, %d skipped", tt.says, sum.Tags, sum.Skipped)
		}
	}
}

// A dry run reads no layer and tells how many bytes a run would read, each layer
// once; that run then reads as many.
func TestDryRun(t *testing.T) {
	t.Parallel()
	r, store := scantest.Start(t), index.NewMemory()
	layers := map[digest.Digest]int64{}
	for n, name := range []string{"a", "b", "c"} {
		img := scantest.Image(n)
		r.Push(t, name, "1", img)
		for _, l := range img.Layers {
			layers[l.Digest()] = int64(len(l.Blob))
		}
	}
	want := scan.Amount{Layers: int64(len(layers))}
	for _, size := range layers {
		want.Bytes += size
	}
	_, sum := scanned(t, r, store, func(c *scan.Config) { c.DryRun = true })
	if sum.ToRead == nil || *sum.ToRead != want {
		t.Errorf("to read: %+v, want %+v", sum.ToRead, want)
	}
	if reads := r.Reads(); len(reads) > 0 {
		t.Errorf("a dry run read %d layers", len(reads))
	}
	if _, sum = scanned(t, r, store, nil); sum.Read.Layers != want.Layers || sum.Read.Bytes < want.Bytes {
		t.Errorf("read %+v, want %+v", sum.Read, want)
	}
	if _, sum = scanned(t, r, store, func(c *scan.Config) { c.DryRun = true }); *sum.ToRead != (scan.Amount{}) {
		t.Errorf("to read after all was read: %+v", *sum.ToRead)
	}
}

// Progress is told while the scan is under way.
func TestProgress(t *testing.T) {
	t.Parallel()
	r := scantest.Start(t)
	for n, name := range []string{"a", "b", "c"} {
		r.Push(t, name, "1", scantest.Image(n))
	}
	told := make(chan struct{})
	open, all := sync.OnceFunc(func() { close(told) }), 0
	r.OnRead(func(int) { <-told }) // the first layer lasts until there was progress
	_, sum := scanned(t, r, index.NewMemory(), func(c *scan.Config) {
		c.Interval = time.Millisecond
		c.OnProgress = func(p scan.Progress) {
			if all++; p.Total == 3 { // the catalog was read
				open()
			}
		}
	})
	if all == 0 || sum.Repositories != 3 || sum.Read.Layers != 5 {
		t.Errorf("%d times; summary: %+v", all, sum)
	}
}
