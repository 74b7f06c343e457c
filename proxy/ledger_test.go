package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/verifytest"
)

// What the gate says does not depend on what it knows: with an empty DiffID
// index, and with layers that were pushed past it, it says the same.
func TestTheGateFetchesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	type row struct {
		is    string
		image verifytest.Image
	}
	rows := []row{{"the truth", verifytest.Honest(3)}}
	for _, lie := range verifytest.Lies() {
		rows = append(rows, row{lie.Is, lie.Image})
	}
	for _, tt := range rows {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			requests := recordRequests(newRegistryHandler(t, nil))
			reg := newUpstream(t, requests)
			knows, knowsNot := newProxy(t, reg.URL, nil), newProxy(t, reg.URL, nil)
			want := pushImage(t, knows.URL, "app", "1.4", tt.image)
			requests.take()
			mediaType, body := tt.image.Manifest()
			got := putManifest(t, knowsNot.URL, "app", "1.4", mediaType, body)
			if got.Status != want.Status || string(got.Body) != string(want.Body) {
				t.Errorf("got %d %s, want %d %s", got.Status, got.Body, want.Status, want.Body)
			}
			if seen := requests.take(); !slices.Contains(seen, fmt.Sprintf("GET /v2/app/blobs/%s len=0", tt.image.ConfigDigest())) {
				t.Errorf("the upstream was not asked for the config: %q", seen)
			}
		})
	}
}

// What was fetched once is known: the same manifest again, and others with the
// same layers, cost nothing.
func TestFetchedOnce(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(2)
	pushBlobs(t, reg.URL, "app", img)
	requests.take()
	mediaType, body := img.Manifest()
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.Status, got.Body)
	}
	put := fmt.Sprintf("PUT /v2/app/manifests/1.4 len=%d", len(body))
	get := func(d digest.Digest) string { return fmt.Sprintf("GET /v2/app/blobs/%s len=0", d) }
	want := []string{get(img.ConfigDigest()), get(img.Layers[0].Digest()), get(img.Layers[1].Digest()), put}
	seen := requests.take()
	slices.Sort(want)
	slices.Sort(seen)
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("requests at the upstream (-want +got):\n%s", diff)
	}
	for _, l := range img.Layers {
		if diff := cmp.Diff(factAbout(t, l.Blob, verify.Fetched), p.fact(t, l.Digest())); diff != "" {
			t.Errorf("fact (-want +got):\n%s", diff)
		}
	}
	if got := putManifest(t, p.URL, "app", "1.4", mediaType, body); got.Status != http.StatusCreated {
		t.Fatalf("again: got %d %s, want 201", got.Status, got.Body)
	}
	if diff := cmp.Diff([]string{put}, requests.take()); diff != "" {
		t.Errorf("requests at the upstream the second time (-want +got):\n%s", diff)
	}
}

// A holdUp keeps reads of layers waiting.
type holdUp struct {
	letGo chan struct{} // closed to let them go

	mu       sync.Mutex // guards the rest
	now, max int
	reads    []digest.Digest
}

// holdLayers makes the reads of all blobs wait, but for those of the configs.
func holdLayers(d *detour, configs ...digest.Digest) *holdUp {
	h := &holdUp{letGo: make(chan struct{})}
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		_, s, ok := strings.Cut(r.URL.Path, "/blobs/")
		dgst := digest.Digest(s)
		if !ok || r.Method != http.MethodGet || slices.Contains(configs, dgst) {
			return false
		}
		h.mu.Lock()
		h.reads = append(h.reads, dgst)
		h.now++
		h.max = max(h.max, h.now)
		h.mu.Unlock()
		select {
		case <-h.letGo:
		case <-r.Context().Done():
		}
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
		return false
	})
	return h
}

func (h *holdUp) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// put pushes a manifest in the background; the status comes on the channel.
func put(t testing.TB, ctx context.Context, base, repo string, img verifytest.Image, header ...string) <-chan answer {
	t.Helper()
	mediaType, body := img.Manifest()
	req := newRequest(t, http.MethodPut, base+"/v2/"+repo+"/manifests/1.4", strings.NewReader(string(body)), append(header, "Content-Type", mediaType)...)
	done := make(chan answer, 1)
	go func() {
		defer close(done)
		res, err := client.Do(req.WithContext(ctx))
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		defer res.Body.Close()
		done <- answer{res.StatusCode, res.Header, readBody(t, res.Body)}
	}()
	return done
}

// Twenty manifests that need one unknown layer cost one read of it.
func TestOneFetchForMany(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, nil)
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	var images []verifytest.Image
	var configs []digest.Digest
	for i := range 20 {
		img := verifytest.NewImage(layer)
		img.RawConfig = fmt.Appendf(nil, `{"author":"%d","rootfs":{"type":"layers","diff_ids":[%q]}}`, i, layer.DiffID())
		images, configs = append(images, img), append(configs, img.ConfigDigest())
		pushBlobs(t, reg.URL, "app", img)
	}
	hold := holdLayers(d, configs...)
	var answers []<-chan answer
	for _, img := range images {
		answers = append(answers, put(t, t.Context(), p.URL, "app", img))
	}
	eventually(t, func() bool {
		return p.metric(t, "diffid_http_requests_in_flight") == 20 && hold.waiting() == 1
	})
	close(hold.letGo)
	for _, a := range answers {
		if got := <-a; got.Status != http.StatusCreated {
			t.Errorf("got %d %s, want 201", got.Status, got.Body)
		}
	}
	if diff := cmp.Diff([]digest.Digest{layer.Digest()}, hold.reads); diff != "" {
		t.Errorf("reads of layers (-want +got):\n%s", diff)
	}
}

// No more layers are fetched at once than limits.fetches; the others wait, and
// are counted.
func TestFetchesAtOnce(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Fetches = 2 })
	img := verifytest.Honest(6)
	pushBlobs(t, reg.URL, "app", img)
	hold := holdLayers(d, img.ConfigDigest())
	done := put(t, t.Context(), p.URL, "app", img)
	eventually(t, func() bool { return hold.waiting() == 2 && p.metric(t, "diffid_hashers_waiting") == 4 })
	close(hold.letGo)
	if got := <-done; got.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", got.Status, got.Body)
	}
	if hold.max != 2 || len(hold.reads) != 6 {
		t.Errorf("got %d reads, %d at once; want 6, 2", len(hold.reads), hold.max)
	}
	if n := p.metric(t, "diffid_hashers_waiting"); n != 0 {
		t.Errorf("got %v waiting at the end, want 0", n)
	}
}

// A lateStore is a DiffID index whose first answer is late.
type lateStore struct {
	*index.Memory
	asked, answer chan struct{}
	answered      atomic.Bool
}

func (s *lateStore) Get(ctx context.Context, dgst digest.Digest) (verify.Fact, error) {
	f, err := s.Memory.Get(ctx, dgst)
	if !s.answered.Swap(true) {
		close(s.asked)
		<-s.answer
	}
	return f, err
}

// Nor does a layer cost a second read that became known after the DiffID index
// was asked for it, but before the answer came.
func TestOneFetchForTheLate(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	store := &lateStore{Memory: index.NewMemory(), asked: make(chan struct{}), answer: make(chan struct{})}
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Index = store })
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	late := put(t, t.Context(), p.URL, "app", img)
	<-store.asked
	requests.take()
	if got := pushManifest(t, p.URL, img); got.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", got.Status, got.Body)
	}
	read := fmt.Sprintf("GET /v2/app/blobs/%s len=0", img.Layers[0].Digest())
	if seen := requests.take(); !slices.Contains(seen, read) {
		t.Errorf("the upstream was asked %q, not for the layer", seen)
	}
	close(store.answer)
	if got := <-late; got.Status != http.StatusCreated {
		t.Errorf("got %d %s, want 201", got.Status, got.Body)
	}
	if seen := requests.take(); slices.Contains(seen, read) {
		t.Errorf("the upstream was asked %q, again for the layer", seen)
	}
}

// A client that gives up does not stop the fetch: its next try finds the fact.
func TestFetchOutlivesTheClient(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	hold := holdLayers(d, img.ConfigDigest())
	ctx, giveUp := context.WithCancel(t.Context())
	done := put(t, ctx, p.URL, "app", img)
	eventually(t, func() bool { return hold.waiting() == 1 })
	giveUp()
	<-done
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 0 })
	close(hold.letGo)
	p.fact(t, img.Layers[0].Digest())
	if got := <-put(t, t.Context(), p.URL, "app", img); got.Status != http.StatusCreated {
		t.Errorf("the next try: got %d %s, want 201", got.Status, got.Body)
	}
	if len(hold.reads) != 1 {
		t.Errorf("got %d reads of the layer, want 1", len(hold.reads))
	}
}

// A fetch that fails for want of a right fails for the one without it; who
// waited for it tries with a right of his own.
func TestFetchFailsForOneOnly(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, nil)
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	arrived, refuse := make(chan struct{}), make(chan struct{})
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer weak" || !isBlobGet(r, img.Layers[0].Digest()) {
			return false
		}
		close(arrived)
		<-refuse
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	weak := put(t, t.Context(), p.URL, "app", img, "Authorization", "Bearer weak")
	<-arrived
	strong := put(t, t.Context(), p.URL, "app", img, "Authorization", "Bearer strong")
	eventually(t, func() bool { return p.metric(t, "diffid_index_lookups_total", "result", "miss") >= 2 })
	close(refuse)
	if got := <-weak; got.Status != http.StatusForbidden || got.codes() != "DENIED" {
		t.Errorf("without the right: got %d %s, want 403 DENIED", got.Status, got.Body)
	}
	if got := <-strong; got.Status != http.StatusCreated {
		t.Errorf("with the right: got %d %s, want 201", got.Status, got.Body)
	}
}

// While the proxy closes, fetches are dropped, also those that wait for their
// turn: their pushes can be tried again.
func TestCloseDuringAFetch(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Fetches = 1 })
	img, other := verifytest.Honest(1), verifytest.NewImage(verifytest.GzipLayer(verifytest.Tar("other", "other")))
	pushBlobs(t, reg.URL, "app", img)
	pushBlobs(t, reg.URL, "other", other)
	hold := holdLayers(d, img.ConfigDigest(), other.ConfigDigest())
	fetches := put(t, t.Context(), p.URL, "app", img)
	eventually(t, func() bool { return hold.waiting() == 1 })
	waits := put(t, t.Context(), p.URL, "other", other)
	eventually(t, func() bool { return p.metric(t, "diffid_hashers_waiting") == 1 })
	joins := put(t, t.Context(), p.URL, "app", img)
	eventually(t, func() bool { return p.metric(t, "diffid_http_requests_in_flight") == 3 })
	closed := make(chan struct{})
	go func() { p.Proxy.Close(); close(closed) }()
	eventually(t, func() bool {
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})
	late := put(t, t.Context(), p.URL, "app", img)
	const want = `{"errors":[{"code":"UNAVAILABLE","message":"the proxy is shutting down; try again"}]}` + "\n"
	for is, done := range map[string]<-chan answer{"fetches": fetches, "waits for its turn": waits, "waits for a fetch": joins, "comes late": late} {
		if got := <-done; got.Status != http.StatusServiceUnavailable || string(got.Body) != want || got.Header.Get("Retry-After") == "" {
			t.Errorf("a push that %s: got %d %s, want 503 %s", is, got.Status, got.Body, want)
		}
	}
	if storedManifest(t, reg.URL, "app", "1.4") != nil {
		t.Error("the upstream holds the manifest")
	}
}
