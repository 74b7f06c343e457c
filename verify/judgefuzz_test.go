package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// FuzzJudge makes an image of random bytes of the kit, under random types, with
// random claims, and holds the default policy against what each runtime would do
// with it. No runtime may run other content than the config of an accepted image
// claims, and no two runtimes may run different content.
//
// The image of a seed is always the same. DIFFGATE_JUDGED is how many images
// TestJudgeModel makes, in place of a few seconds' worth; DIFFGATE_JUDGE is the
// first seed.
func FuzzJudge(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { judgeRandom(t, seed) })
}

func TestJudgeModel(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"unpigz", "igzip", "xz"} {
		need(t, program)
	}
	count := 10_000
	if raceEnabled {
		count = 2000
	}
	first, count := environ(t, "DIFFGATE_JUDGE", 0), environ(t, "DIFFGATE_JUDGED", count)
	tally := map[string]int{}
	for seed := first; seed < first+count; seed++ {
		tally[judgeRandom(t, uint64(seed))]++
	}
	t.Logf("%v", tally)
	for _, said := range []string{"accepted and run", "accepted and run by nobody", "refused and run", "refused and run by nobody"} {
		if tally[said] == 0 {
			t.Errorf("no image was %s: the model proves nothing", said)
		}
	}
}

// judgeRandom judges the image of a seed and returns what became of it.
func judgeRandom(t *testing.T, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	img := randomImage(r)
	mediaType, body := img.Manifest()
	report, err := verify.Check(t.Context(), poolRepo{verifytest.Repo(img.Blobs())}, mediaType, body)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	accepted := len(verify.Policy{}.Rejections(report.Findings)) == 0
	said := "refused"
	if accepted {
		said = "accepted"
	}
	runs := map[string][]digest.Digest{}
	for _, m := range models() {
		if content, ok := m.run(m, img); ok && len(content) > 0 {
			runs[m.name] = content
		}
	}
	if len(runs) == 0 {
		return said + " and run by nobody"
	}
	for name, content := range runs {
		if accepted && !isClaimed(img, content, name == "old podman") {
			t.Errorf("seed %d: accepted (%s, %v) and %s runs %v:\n%s\n%s", seed, report.Verdict, report.Findings, name, content, body, img.Config())
		}
		for other, differs := range runs {
			if accepted && (name == "old podman") == (other == "old podman") && !slices.Equal(content, differs) {
				t.Errorf("seed %d: accepted (%s), %s runs %v and %s runs %v:\n%s\n%s", seed, report.Verdict, name, content, other, differs, body, img.Config())
			}
		}
	}
	return said + " and run"
}

// isClaimed reports whether a config claims the content of each layer that a
// runtime runs, in that order, without the layers of no bytes if they do not count.
func isClaimed(img verifytest.Image, content []digest.Digest, withoutEmpty bool) bool {
	var claimed []digest.Digest
	c, err := verify.ParseConfig(img.Config())
	if err != nil {
		return false
	}
	for _, id := range c.DiffIDs {
		if d := digest.Digest(id); !withoutEmpty || d != digest.FromBytes(nil) {
			claimed = append(claimed, d)
		}
	}
	return slices.Equal(claimed, content)
}

// A model is how a runtime reads an image. run returns the digests of the layers'
// contents that it would run, or false if it refuses the image.
type model struct {
	name    string
	gunzip  string // the column that decodes gzip
	formats []verify.Encoding
	run     func(model, verifytest.Image) ([]digest.Digest, bool)
}

// models are docker and containerd with each decoder that they may have, podman
// before and after it compared diff_ids, and a containerd that has all layers with
// these diff_ids already, from another image.
func models() []model {
	docker := []verify.Encoding{verify.Gzip, verify.Zstd, verify.Bzip2, verify.XZ}
	containerd := []verify.Encoding{verify.Gzip, verify.Zstd}
	var all []model
	for _, gunzip := range []string{"compress/gzip", "klauspost", "unpigz", "igzip"} {
		all = append(all,
			model{"docker with " + gunzip, gunzip, docker, runDocker},
			model{"containerd with " + gunzip, gunzip, containerd, runContainerd})
	}
	return append(all,
		model{"old podman", "pgzip", docker, runOldPodman},
		model{"containerd that has the layers", "compress/gzip", containerd, runMasked})
}

// runDocker unpacks every entry of layers and compares all diff_ids.
func runDocker(m model, img verifytest.Image) ([]digest.Digest, bool) {
	t := img.ConfigType
	known := slices.Contains([]string{"", "application/octet-stream", "application/json", "text/html"}, t) ||
		strings.HasPrefix(t, "application/vnd.docker.") || strings.HasPrefix(t, "application/vnd.oci.image.")
	ids, ok := goDiffIDs(img)
	if !known || !ok || len(ids) != len(img.Layers) {
		return nil, false
	}
	return m.unpack(img.Layers, ids)
}

// runContainerd unpacks what has the type of a layer, and compares the diff_ids.
func runContainerd(m model, img verifytest.Image) ([]digest.Digest, bool) {
	ids, ok := goDiffIDs(img)
	layers := slices.DeleteFunc(slices.Clone(img.Layers), func(l verifytest.Layer) bool { return !isContainerdLayer(l.MediaType) })
	if !ok || len(ids) != len(layers) {
		return nil, false
	}
	return m.unpack(layers, ids)
}

// runMasked does not read a layer whose chain of diff_ids it has unpacked before: it
// runs what it has. The victim's layers are those that hold tars of the kit.
func runMasked(m model, img verifytest.Image) ([]digest.Digest, bool) {
	ids, ok := goDiffIDs(img)
	layers := slices.DeleteFunc(slices.Clone(img.Layers), func(l verifytest.Layer) bool { return !isContainerdLayer(l.MediaType) })
	if !ok || len(ids) == 0 || len(ids) != len(layers) {
		return nil, false
	}
	for i, id := range ids {
		if id == digest.FromBytes(victim) && !slices.ContainsFunc(img.Layers, func(l verifytest.Layer) bool { return readsAs(l.Blob, id) }) {
			ids[i] = digest.FromString("the victim's layer, which this image does not have")
			return ids, true
		}
	}
	return nil, false
}

// runOldPodman compares no diff_ids, and runs a Docker manifest that says none.
func runOldPodman(m model, img verifytest.Image) ([]digest.Digest, bool) {
	ids, ok := goDiffIDs(img)
	isImage := img.ConfigType == ocispec.MediaTypeImageConfig || img.MediaType == verifytest.DockerManifest
	if !ok || !isImage || len(ids) != len(img.Layers) && (len(ids) > 0 || img.MediaType != verifytest.DockerManifest) {
		return nil, false
	}
	return m.unpack(img.Layers, nil)
}

// unpack returns the contents of layers, each of which must be a tar archive, and if
// ids are given must be as they say.
func (m model) unpack(layers []verifytest.Layer, ids []digest.Digest) (contents []digest.Digest, ok bool) {
	for i, l := range layers {
		c, ok := m.read(l.Blob)
		if !ok || l.Absent || ids != nil && ids[i] != c {
			return nil, false
		}
		if c == digest.FromBytes(nil) && ids == nil {
			continue // it changes nothing, and no diff_id need be about it
		}
		contents = append(contents, c)
	}
	return contents, true
}

// read returns the digest of what the runtime unpacks a blob to.
func (m model) read(blob []byte) (digest.Digest, bool) {
	p := pool()[digest.FromBytes(blob)]
	for _, e := range m.formats {
		if p.encoding != e {
			continue
		}
		column := map[verify.Encoding]string{verify.Gzip: m.gunzip, verify.Zstd: "klauspost", verify.Bzip2: "compress/bzip2", verify.XZ: "xz"}[e]
		c, ok := p.readings[column]
		return c.digest, ok && c.tar
	}
	return p.raw.digest, p.raw.tar
}

// readsAs reports whether any decoder reads a blob, or the blob is, the content.
func readsAs(blob []byte, content digest.Digest) bool {
	p := pool()[digest.FromBytes(blob)]
	for _, c := range p.readings {
		if c.digest == content {
			return true
		}
	}
	return p.raw.digest == content
}

// goDiffIDs reads a config as encoding/json does.
func goDiffIDs(img verifytest.Image) ([]digest.Digest, bool) {
	var c struct {
		RootFS *struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(img.Config(), &c); err != nil {
		return nil, false
	}
	if c.RootFS == nil {
		return nil, true
	}
	return c.RootFS.DiffIDs, true
}

func isContainerdLayer(t string) bool {
	base, _, _ := strings.Cut(t, "+")
	return strings.HasPrefix(t, "application/vnd.oci.image.layer.") || base == "application/vnd.erofs.layer.v1" ||
		slices.Contains([]string{verifytest.DockerTar, verifytest.DockerTarGzip, verifytest.DockerTarZstd, verifytest.DockerForeign}, base)
}

// victim is the content of a layer that is another's.
var victim = p2

// A pooled is a blob with what the decoders of the field make of it.
type pooled struct {
	blob     []byte
	encoding verify.Encoding
	raw      content
	readings map[string]content // by column; only those that read it to its end
	fact     verify.Fact
}

type content struct {
	digest digest.Digest
	tar    bool
}

func contentOf(b []byte) content {
	_, err := tar.NewReader(bytes.NewReader(b)).Next()
	return content{digest.FromBytes(b), len(b) == 0 || !errors.Is(err, tar.ErrHeader) && (err == nil || len(b) >= 512)}
}

// pool returns the blobs of the golden tables and of the kit.
var pool = sync.OnceValue(func() map[digest.Digest]*pooled {
	all := map[digest.Digest]*pooled{}
	add := func(blob []byte) {
		const most = 64 << 10 // to keep each image quick
		if d := digest.FromBytes(blob); all[d] == nil && len(blob) <= most {
			all[d] = newPooled(blob)
		}
	}
	for _, row := range allGolden() {
		add(row.blob)
	}
	for _, c := range verifytest.Cases() {
		for _, l := range c.Image.Layers {
			add(l.Blob)
			add(l.Content)
		}
	}
	for _, blob := range [][]byte{victim, gz(victim), zs(victim), gz(gz(p1)), zs(gz(p1)), noise(100)} {
		add(blob)
	}
	return all
})

func newPooled(blob []byte) *pooled {
	p := &pooled{blob: blob, raw: contentOf(blob), readings: map[string]content{}, fact: hash(blob)}
	p.encoding = p.fact.Encoding
	for _, table := range tables() {
		if table.encoding != p.encoding {
			continue
		}
		for _, c := range table.columns {
			var out bytes.Buffer
			if err := c.write(context.Background(), &out, blob); err == nil {
				p.readings[c.name] = contentOf(out.Bytes())
			}
		}
	}
	return p
}

// poolRepo answers with the facts of the pool, so that nothing is decoded again.
type poolRepo struct{ verifytest.Repo }

// Fact implements verify.Blobs.
func (r poolRepo) Fact(_ context.Context, d ocispec.Descriptor) (verify.Fact, error) {
	if _, held := r.Repo[d.Digest]; !held {
		return verify.Fact{}, verify.ErrNotFound
	}
	return pool()[digest.FromBytes(r.Repo[d.Digest])].fact, nil
}

// Look implements verify.Blobs.
func (r poolRepo) Look(context.Context, ocispec.Descriptor) (verify.Look, error) {
	return verify.Look{}, verify.ErrUnknown
}

var blobList = sync.OnceValue(func() []*pooled {
	var list []*pooled
	for _, p := range pool() {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pooled) int { return strings.Compare(a.raw.digest.String(), b.raw.digest.String()) })
	return list
})

var randomLayerTypes = []string{
	ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
	verifytest.DockerTar, verifytest.DockerTarGzip, verifytest.DockerForeign, verifytest.InToto, "", "application/octet-stream",
	ocispec.MediaTypeImageLayerGzip + "+encrypted", "application/vnd.erofs.layer.v1", "application/vnd.erofs.layer.v1+zstd",
	"application/vnd.oci.image.layer.nydus.blob.v1", "application/vnd.oci.image.layer.v2.squashfs", "text/plain", strings.ToUpper(ocispec.MediaTypeImageLayerGzip),
	ocispec.MediaTypeImageLayerGzip + "; a=b", "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
}

var randomConfigTypes = []string{
	ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageConfig, verifytest.DockerConfig, "application/octet-stream", "", ocispec.MediaTypeEmptyJSON,
	"application/vnd.docker.plugin.v1+json", "application/vnd.cncf.helm.config.v1+json", ocispec.MediaTypeImageConfig + "; charset=utf-8", "application/vnd.oci.image.x",
}

// randomImage returns an image of blobs of the pool. Each claim is mostly true.
func randomImage(r *rand.Rand) verifytest.Image {
	img := verifytest.Image{MediaType: pick(r, ocispec.MediaTypeImageManifest, verifytest.DockerManifest), ConfigType: pick(r, randomConfigTypes...)}
	blobs := blobList()
	for range r.IntN(4) {
		p := pick(r, blobs...)
		if oneIn(r, 3) {
			p = pool()[digest.FromBytes(pick(r, gz(p1), zs(p1), p1, gz(victim)))]
		}
		l := verifytest.Layer{MediaType: pick(r, randomLayerTypes...), Blob: p.blob}
		if oneIn(r, 8) {
			l.Annotations = map[string]string{"org.opencontainers.image.enc.keys.jwe": "e30="}
		}
		if oneIn(r, 8) {
			l.URLs = []string{"https://layers.example/blob"}
		}
		l.Absent = oneIn(r, 12)
		img.Layers = append(img.Layers, l)
		img.DiffIDs = append(img.DiffIDs, randomClaim(r, p))
	}
	switch r.IntN(10) {
	case 0:
		img.DiffIDs = img.DiffIDs[:r.IntN(len(img.DiffIDs)+1)]
	case 1: // those of what containerd counts
		img.DiffIDs = nil
		for _, l := range img.Layers {
			if isContainerdLayer(l.MediaType) {
				img.DiffIDs = append(img.DiffIDs, randomClaim(r, pool()[digest.FromBytes(l.Blob)]))
			}
		}
	case 2:
		img.DiffIDs = append(img.DiffIDs, digest.FromBytes(victim).String())
	}
	if oneIn(r, 8) {
		img.RawConfig = randomConfig(r, img)
	}
	return img
}

func randomClaim(r *rand.Rand, p *pooled) string {
	id := p.raw.digest
	if p.fact.Problem == verify.None && !oneIn(r, 4) {
		return p.fact.Unpacked.String()
	}
	var read []digest.Digest
	for _, column := range []string{"compress/gzip", "unpigz", "igzip", "klauspost", "pgzip", "zstd", "xz"} {
		if c, ok := p.readings[column]; ok {
			read = append(read, c.digest)
		}
	}
	return pick(r, append(read, id, id, digest.FromBytes(victim), digest.FromBytes(p1), digest.FromBytes(nil))...).String()
}

// randomConfig returns a config that parsers may read differently.
func randomConfig(r *rand.Rand, img verifytest.Image) []byte {
	config := string(img.Config())
	switch r.IntN(6) {
	case 0:
		return []byte(strings.Replace(config, "rootfs", pick(r, "rootfS", "RootFS", "rootf\u017f"), 1))
	case 1:
		return []byte(strings.Replace(config, "diff_ids", "Diff_IDs", 1))
	case 2:
		return []byte(strings.Replace(config, `"rootfs"`, `"rootfs":{"diff_ids":["`+digest.FromBytes(p1).String()+`"]},"RootFS"`, 1))
	case 3:
		return []byte("{}")
	case 4:
		return []byte(strings.Replace(config, `"os"`, fmt.Sprintf(`"x":%q,"os"`, "y"), 1) + pick(r, "", " {}"))
	}
	return []byte(strings.Replace(config, `"diff_ids"`, `"diff_ids":[],"diff_ids"`, 1))
}
