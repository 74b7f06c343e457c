package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// A brokenStore is a DiffID index whose medium fails.
type brokenStore struct {
	*index.Memory
	get, put, query error // in place of an answer, when not nil
	lists           int   // how often List answers, when not 0
}

func (s *brokenStore) List(ctx context.Context, after digest.Digest, n int) ([]verify.Fact, error) {
	if s.lists--; s.lists == 0 {
		return nil, s.query
	}
	return s.Memory.List(ctx, after, n)
}

func (s *brokenStore) Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	if s.get != nil {
		return verify.Fact{}, s.get
	}
	return s.Memory.Get(ctx, dgst)
}

func (s *brokenStore) Put(ctx context.Context, f verify.Fact) error {
	if s.put != nil {
		return s.put
	}
	return s.Memory.Put(ctx, f)
}

func (s *brokenStore) Revision(ctx context.Context) (string, error) {
	if s.query != nil {
		return "", s.query
	}
	return s.Memory.Revision(ctx)
}

// A DiffID index that fails costs time, never a right answer.
func TestIndexThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	for _, tt := range []struct {
		is     string
		store  brokenStore
		metric []string
		line   string
	}{
		{"it cannot be read", brokenStore{get: broken}, []string{"diffid_index_lookups_total", "result", "error"}, "DiffID index cannot be read"},
		{"it cannot be written", brokenStore{put: broken}, []string{"diffid_index_write_errors_total"}, "DiffID index cannot be written"},
		{"neither", brokenStore{get: broken, put: broken}, []string{"diffid_index_write_errors_total"}, "DiffID index cannot be read"},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			tt.store.Memory = index.NewMemory()
			p := newProxy(t, newRegistry(t).URL, func(c *proxy.Config) { c.Index = &tt.store })
			if got := pushImage(t, p.URL, "app", "1.4", verifytest.Honest(2)); got.Status != http.StatusCreated {
				t.Errorf("the truth: got %d %s, want 201", got.Status, got.Body)
			}
			if got := pushImage(t, p.URL, "app", "1.5", verifytest.WrongDigit(verifytest.Honest(2))); got.Status != http.StatusBadRequest {
				t.Errorf("a lie: got %d %s, want 400", got.Status, got.Body)
			}
			if p.metric(t, tt.metric[0], tt.metric[1:]...) == 0 {
				t.Errorf("%q counts nothing", tt.metric)
			}
			if p.Logs.FilterMessage(tt.line).Len() == 0 {
				t.Errorf("the log does not say %q", tt.line)
			}
		})
	}
}

// A fact that contradicts the DiffID index is an alarm: nobody knows what the
// layer contains, so the push can neither pass nor be called a lie.
func TestIndexThatContradicts(t *testing.T) {
	t.Parallel()
	store := &brokenStore{Memory: index.NewMemory(), put: fmt.Errorf("%w: sha256:1 was gzip, now zstd", verify.ErrConflict)}
	reg := newRegistry(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Index = store })
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	mediaType, body := img.Manifest()
	got := putManifest(t, p.URL, "app", "1.4", mediaType, body)
	if got.Status != http.StatusInternalServerError || got.codes() != "UNAVAILABLE" || !strings.Contains(string(got.Body), "the DiffID index holds another fact") {
		t.Errorf("got %d %s, want 500 UNAVAILABLE and the reason", got.Status, got.Body)
	}
	if n := p.metric(t, "diffid_index_conflicts_total"); n != 1 {
		t.Errorf("got %v conflicts counted, want 1", n)
	}
	if n := p.metric(t, "diffid_manifests_checked_total", "verdict", "error"); n != 1 {
		t.Errorf("got %v manifests counted as error, want 1", n)
	}
	if storedManifest(t, reg.URL, "app", "1.4") != nil {
		t.Error("the upstream holds the manifest")
	}
}

// A fact of the DiffID index is believed; so an old one that is wrong makes the
// truth a lie, until the index is deleted.
func TestTheIndexIsBelieved(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	img := verifytest.Honest(1)
	poisoned := factAbout(t, img.Layers[0].Blob, verify.Pushed)
	poisoned.Unpacked = digest.FromString("something else")
	p := newProxy(t, reg.URL, nil)
	if err := p.Index.Put(t.Context(), poisoned); err != nil {
		t.Fatal(err)
	}
	if got := pushImage(t, p.URL, "app", "1.4", img); got.Status != http.StatusBadRequest {
		t.Errorf("got %d %s, want 400", got.Status, got.Body)
	}
	eventually(t, func() bool { return p.metric(t, "diffid_index_conflicts_total") == 1 }) // the tap saw the truth
}

// A panicStore is a DiffID index with a defect.
type panicStore struct{ *index.Memory }

func (panicStore) Revision(context.Context) (string, error) { panic("a defect") }

// A defect costs the request that met it: its connection is cut, it is logged
// and counted, and the others go on.
func TestDefect(t *testing.T) {
	t.Parallel()
	p := newQueried(t, func(c *proxy.Config) { c.Index = panicStore{index.NewMemory()} })
	if res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/_diffids", nil)); err == nil {
		res.Body.Close()
		t.Errorf("got %s, want the connection cut", res.Status)
	}
	if got := get(t, p.URL+"/v2/"); got.Status != http.StatusOK {
		t.Errorf("the next request: got %d %s, want 200", got.Status, got.Body)
	}
	eventually(t, func() bool {
		return p.metric(t, "diffid_http_requests_in_flight") == 0 && p.Logs.FilterMessage("request").Len() == 2
	})
}
