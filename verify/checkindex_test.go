package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A library is a repository of images and image indexes.
type library struct {
	verifytest.Repo
	judgements map[digest.Digest]verify.Judgement
	read       map[digest.Digest]int // how often a manifest was read
	known      map[digest.Digest]verify.Fact
	fails      map[digest.Digest]error // what a manifest is answered with
}

func newLibrary() *library {
	return &library{verifytest.Repo{}, map[digest.Digest]verify.Judgement{}, map[digest.Digest]int{}, map[digest.Digest]verify.Fact{}, map[digest.Digest]error{}}
}

// Known implements verify.Manifests.
func (l *library) Known(_ context.Context, dgst digest.Digest) (verify.Fact, error) {
	f, ok := l.known[dgst]
	if !ok {
		return f, verify.ErrUnknown
	}
	return f, nil
}

// blob puts a layer into the repository as a blob that was hashed, and that the
// repository answers an error for when it is asked for as a manifest.
func (l *library) blob(mediaType string, blob []byte) ocispec.Descriptor {
	d := l.put(mediaType, blob)
	l.known[d.Digest] = hash(blob)
	l.fails[d.Digest] = fmt.Errorf("%w: the registry answered 500", verify.ErrNoManifest)
	return d
}

// add puts an image into the repository.
func (l *library) add(img verifytest.Image) ocispec.Descriptor {
	maps.Copy(l.Repo, img.Blobs())
	mediaType, body := img.Manifest()
	return l.put(mediaType, body)
}

// index puts an image index into the repository.
func (l *library) index(children ...ocispec.Descriptor) ocispec.Descriptor {
	body, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imageIndex, Manifests: children})
	if err != nil {
		panic(err)
	}
	return l.put(imageIndex, body)
}

func (l *library) put(mediaType string, body []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	l.Repo[d.Digest] = body
	return d
}

// Manifest implements verify.Manifests. Every manifest is served as what it
// says that it is.
func (l *library) Manifest(_ context.Context, desc ocispec.Descriptor) (string, []byte, error) {
	l.read[desc.Digest]++
	body, ok := l.Repo[desc.Digest]
	switch err := l.fails[desc.Digest]; {
	case err != nil:
		return "", nil, err
	case !ok:
		return "", nil, verify.ErrNotFound
	}
	var m struct{ MediaType string }
	if err := json.Unmarshal(body, &m); err != nil {
		return "text/plain", body, nil
	}
	return m.MediaType, body, nil
}

// Judgement implements verify.Manifests.
func (l *library) Judgement(_ context.Context, manifest digest.Digest) (verify.Judgement, error) {
	j, ok := l.judgements[manifest]
	if !ok {
		return j, verify.ErrUnknown
	}
	return j, nil
}

func onPlatform(d ocispec.Descriptor, os, architecture string) ocispec.Descriptor {
	d.Platform = &ocispec.Platform{OS: os, Architecture: architecture}
	return d
}

// check judges an image index.
func (l *library) check(t *testing.T, index ocispec.Descriptor) verify.Report {
	t.Helper()
	report, err := verify.Check(t.Context(), l, index.MediaType, l.Repo[index.Digest])
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// An image index is as good as the worst of the manifests under it.
func TestCheckIndex(t *testing.T) {
	t.Parallel()
	honest, other := image(l1), image(l2)
	lying := verifytest.WrongDigit(image(l1, l2))
	for _, tt := range []struct {
		is       string
		index    func(*library) ocispec.Descriptor
		verdict  verify.Verdict
		children []verify.Verdict
		findings []string
	}{
		{"no manifests", func(l *library) ocispec.Descriptor { return l.index() }, verify.NotAnImage, nil, nil},
		{"two honest images", func(l *library) ocispec.Descriptor { return l.index(l.add(honest), l.add(other)) },
			verify.Match, []verify.Verdict{verify.Match, verify.Match}, nil},
		{"an image and its attestation under an image config", func(l *library) ocispec.Descriptor {
			return l.index(l.add(honest), l.add(image(attestation())))
		}, verify.Match, []verify.Verdict{verify.Match, verify.NotAnImage}, nil},
		{"an image and its attestation under an empty config", func(l *library) ocispec.Descriptor {
			return l.index(l.add(honest), l.add(configType(image(attestation()), ocispec.MediaTypeEmptyJSON)))
		}, verify.Match, []verify.Verdict{verify.Match, verify.NotAnImage}, nil},
		{"an image that came round the proxy and is false", func(l *library) ocispec.Descriptor { return l.index(l.add(honest), l.add(lying)) },
			verify.Mismatch, []verify.Verdict{verify.Match, verify.Mismatch}, found("1: diff_id_mismatch")},
		{"a manifest that the repository does not hold", func(l *library) ocispec.Descriptor {
			d := l.add(other)
			delete(l.Repo, d.Digest)
			return l.index(l.add(honest), d)
		}, verify.Unverified, []verify.Verdict{verify.Match, verify.Unverified}, nil},
		{"an image whose layer is gone", func(l *library) ocispec.Descriptor {
			d := l.add(honest)
			delete(l.Repo, l1.Digest())
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("0: blob_unknown")},
		{"an image index in an image index, with a false image", func(l *library) ocispec.Descriptor { return l.index(l.index(l.add(lying))) },
			verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"an image that the image index calls an image index", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			d.MediaType = imageIndex
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("image: manifest_ambiguous")},
		{"an image that the image index calls something else", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			d.MediaType = "application/vnd.example"
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"an image that the image index calls a layer, as podman pulls it", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			d.MediaType = ocispec.MediaTypeImageLayerGzip
			return l.index(l.add(honest), d)
		}, verify.Mismatch, []verify.Verdict{verify.Match, verify.Mismatch}, found("1: diff_id_mismatch")},
		{"an image that was pushed as a blob too, so that it is known as one", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			l.known[d.Digest] = hash(l.Repo[d.Digest])
			d.MediaType = ocispec.MediaTypeImageLayerGzip
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"an image that is a tar archive, too, and was pushed as a blob", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			f := hash(l.Repo[d.Digest])
			f.Quirks &^= verify.NotTar
			l.known[d.Digest] = f
			d.MediaType = ocispec.MediaTypeImageLayerGzip
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"an image that the image index calls an image, and then an image index", func(l *library) ocispec.Descriptor {
			d := l.add(honest)
			index := d
			index.MediaType = imageIndex
			return l.index(d, index)
		}, verify.Mismatch, []verify.Verdict{verify.Match, verify.Mismatch}, found("image: manifest_ambiguous")},
		{"a valid image that the image index calls a layer", func(l *library) ocispec.Descriptor {
			d := l.add(honest)
			d.MediaType = "application/vnd.example"
			return l.index(d)
		}, verify.Match, []verify.Verdict{verify.Match}, nil},
		{"a cache of BuildKit: layers that are known, and its config, for which the repository has no manifest", func(l *library) ocispec.Descriptor {
			config := l.put("application/vnd.buildkit.cacheconfig.v0", []byte(`{"layers":[],"records":[]}`))
			l.fails[config.Digest] = fmt.Errorf("%w: the registry answered 500", verify.ErrNoManifest)
			unknown := l.put(ocispec.MediaTypeImageLayerGzip, gz(p1a))
			l.fails[unknown.Digest] = fmt.Errorf("%w: the registry answered 500", verify.ErrNoManifest)
			return l.index(l.blob(ocispec.MediaTypeImageLayerGzip, gz(p1)), l.blob(ocispec.MediaTypeImageLayer, p2), unknown, config)
		}, verify.NotAnImage, []verify.Verdict{verify.NotAnImage, verify.NotAnImage, verify.NotAnImage, verify.NotAnImage}, nil},
		{"something of no manifest's type that is not there", func(l *library) ocispec.Descriptor {
			d := l.put("application/vnd.example", []byte("x"))
			delete(l.Repo, d.Digest)
			return l.index(d)
		}, verify.NotAnImage, []verify.Verdict{verify.NotAnImage}, nil},
		{"a false image in a descriptor's data, which the repository does not hold", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			d.Data = l.Repo[d.Digest]
			delete(l.Repo, d.Digest)
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"the same under a type that is no manifest's", func(l *library) ocispec.Descriptor {
			d := l.add(lying)
			d.Data, d.MediaType = l.Repo[d.Digest], "application/vnd.example"
			delete(l.Repo, d.Digest)
			return l.index(d)
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("1: diff_id_mismatch")},
		{"a valid image in a descriptor's data", func(l *library) ocispec.Descriptor {
			d := l.add(honest)
			d.Data = l.Repo[d.Digest]
			return l.index(d)
		}, verify.Match, []verify.Verdict{verify.Match}, nil},
		{"an image for another platform than its config says", func(l *library) ocispec.Descriptor {
			return l.index(onPlatform(l.add(honest), "linux", "arm64"), onPlatform(l.add(other), "linux", "amd64"))
		}, verify.Match, []verify.Verdict{verify.Match, verify.Match}, found("image: platform_mismatch")},
		{"an attestation, whose platform is unknown", func(l *library) ocispec.Descriptor {
			return l.index(onPlatform(l.add(image(attestation())), "unknown", "unknown"))
		}, verify.NotAnImage, []verify.Verdict{verify.NotAnImage}, nil},
		{"an artifact manifest", func(l *library) ocispec.Descriptor {
			const artifact = "application/vnd.oci.artifact.manifest.v1+json"
			return l.index(l.put(artifact, []byte(`{"mediaType":"`+artifact+`","blobs":[]}`)))
		}, verify.NotAnImage, []verify.Verdict{verify.NotAnImage}, nil},
		{"an artifact manifest with layers, which runtimes would read", func(l *library) ocispec.Descriptor {
			const artifact = "application/vnd.oci.artifact.manifest.v1+json"
			return l.index(l.put(artifact, []byte(`{"mediaType":"`+artifact+`","layers":[]}`)))
		}, verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("image: manifest_ambiguous")},
		{"something else", func(l *library) ocispec.Descriptor { return l.index(l.put("text/plain", []byte("hello"))) },
			verify.NotAnImage, []verify.Verdict{verify.NotAnImage}, nil},
		{"an image of schema 1", func(l *library) ocispec.Descriptor {
			const schema1 = "application/vnd.docker.distribution.manifest.v1+json"
			return l.index(l.put(schema1, []byte(`{"mediaType":"`+schema1+`"}`)))
		}, verify.Unverifiable, []verify.Verdict{verify.Unverifiable}, found("image: schema1")},
		{"an image that the repository serves as something else", func(l *library) ocispec.Descriptor { return l.index(l.put(imageManifest, []byte("hello"))) },
			verify.Mismatch, []verify.Verdict{verify.Mismatch}, found("image: manifest_invalid")},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			l := newLibrary()
			report := l.check(t, tt.index(l))
			if report.Verdict != tt.verdict {
				t.Errorf("got verdict %s, want %s", report.Verdict, tt.verdict)
			}
			var children []verify.Verdict
			for _, c := range report.Children {
				children = append(children, c.Verdict)
			}
			if diff := cmp.Diff(tt.children, children); diff != "" {
				t.Errorf("verdicts of the manifests (-want +got):\n%s", diff)
			}
			var findings []string
			for _, f := range report.Findings {
				findings = append(findings, finding(f))
				if !oneLine(f.Message) || !strings.HasPrefix(f.Message, "manifest ") || f.Manifest == "" {
					t.Errorf("finding about %q that does not name its manifest on one line: %q", f.Manifest, f.Message)
				}
			}
			if diff := cmp.Diff(tt.findings, findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// However many types an image index gives a digest, the repository is asked for it
// once; and what is no manifest does not use up the number that is judged.
func TestCheckIndexAsksOnce(t *testing.T) {
	t.Parallel()
	l := newLibrary()
	d := l.put("application/vnd.example", []byte("x"))
	var children []ocispec.Descriptor
	for i := range 2000 {
		d.MediaType = fmt.Sprintf("application/vnd.example.%d", i)
		children = append(children, d, l.blob(ocispec.MediaTypeImageLayerGzip, gz([]byte(fmt.Sprint(i)))))
	}
	report := l.check(t, l.index(children...))
	if report.Verdict != verify.NotAnImage || len(report.Findings) > 0 || l.read[d.Digest] != 1 {
		t.Errorf("got %s, %v after %d reads; want %s after one", report.Verdict, report.Findings, l.read[d.Digest], verify.NotAnImage)
	}
}

// What can be decided without an answer that the repository does not give is
// decided. Otherwise the error of the repository is what is said.
func TestCheckIndexUnread(t *testing.T) {
	t.Parallel()
	broken := errors.New("the registry answered 502")
	for _, tt := range []struct {
		is     string
		others []verifytest.Image
		fails  error
		want   error // nil: a mismatch
	}{
		{"a valid image beside it", []verifytest.Image{image(l1)}, broken, broken},
		{"a mismatched image behind it", []verifytest.Image{image(l1), verifytest.WrongDigit(image(l1))}, broken, nil},
		{"a mismatched image, and the caller may not read the other", []verifytest.Image{verifytest.WrongDigit(image(l1))}, fmt.Errorf("401: %w", verify.ErrForbidden), nil},
	} {
		l := newLibrary()
		unread := l.add(image(l2))
		l.fails[unread.Digest] = tt.fails
		children := []ocispec.Descriptor{unread}
		for _, img := range tt.others {
			children = append(children, l.add(img))
		}
		index := l.index(children...)
		report, err := verify.Check(t.Context(), l, index.MediaType, l.Repo[index.Digest])
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || report.Verdict != verify.Mismatch) {
			t.Errorf("%s: got %s, %v; want %v", tt.is, report.Verdict, err, tt.want)
		}
	}
}

// A manifest that was judged before is not read again, unless it was by other
// rules or as something else.
func TestCheckIndexRemembers(t *testing.T) {
	t.Parallel()
	lying := verifytest.WrongDigit(image(l1))
	for _, tt := range []struct {
		is        string
		judgement verify.Judgement
		read      int
	}{
		{"judged before", verify.Judgement{MediaType: imageManifest, Rules: verify.Rules}, 0},
		{"judged by other rules", verify.Judgement{MediaType: imageManifest, Rules: verify.Rules + 1}, 1},
		{"judged as another type", verify.Judgement{MediaType: verifytest.DockerManifest, Rules: verify.Rules}, 1},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			l := newLibrary()
			d := l.add(lying)
			tt.judgement.Verdict = verify.Mismatch
			tt.judgement.Findings = []verify.Finding{{Reason: verify.ReasonDiffIDMismatch, Message: "as remembered"}}
			l.judgements[d.Digest] = tt.judgement
			report := l.check(t, l.index(d))
			if report.Verdict != verify.Mismatch || len(report.Findings) != 1 {
				t.Errorf("got %s, %v; want the mismatch", report.Verdict, report.Findings)
			}
			if remembered := strings.HasSuffix(report.Findings[0].Message, "as remembered"); remembered != (tt.read == 0) || l.read[d.Digest] != tt.read {
				t.Errorf("read %d times, want %d; got %q", l.read[d.Digest], tt.read, report.Findings[0].Message)
			}
		})
	}
}

// There is an end to what one image index can have read.
func TestCheckIndexLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is    string
		index func(*library) ocispec.Descriptor
	}{
		{"nested deep", func(l *library) ocispec.Descriptor {
			d := l.add(image(l1))
			for range 10 {
				d = l.index(d)
			}
			return d
		}},
		{"501 manifests", func(l *library) ocispec.Descriptor { return l.index(l.many(501)...) }},
		{"50 image indexes of 11 manifests", func(l *library) ocispec.Descriptor {
			var indexes []ocispec.Descriptor
			for part := range slices.Chunk(l.many(550), 11) {
				indexes = append(indexes, l.index(part...))
			}
			return l.index(indexes...)
		}},
		{"60 000 layers", func(l *library) ocispec.Descriptor {
			var images []ocispec.Descriptor
			for n := range 60 {
				images = append(images, l.add(image(slices.Repeat([]verifytest.Layer{l1}, 1000-n)...)))
			}
			return l.index(images...)
		}},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			l := newLibrary()
			report := l.check(t, tt.index(l))
			got := report.Findings
			if len(got) == 0 || finding(got[len(got)-1]) != "image: over_limit" || got[len(got)-1].Severity != verify.Undecided {
				t.Errorf("got %s, %v; want it over a limit", report.Verdict, got)
			}
			total := 0
			for _, n := range l.read {
				total += n
			}
			if total > 501 {
				t.Errorf("read %d manifests", total)
			}
		})
	}
}

// many puts n different images into the repository.
func (l *library) many(n int) (images []ocispec.Descriptor) {
	for i := range n {
		images = append(images, l.add(image(verifytest.GzipLayer(verifytest.Tar("a", fmt.Sprint(i))))))
	}
	return images
}

// A manifest that is named many times is judged once, and may be of many
// platforms.
func TestCheckIndexOnce(t *testing.T) {
	t.Parallel()
	l := newLibrary()
	d := l.add(verifytest.WrongDigit(image(l1)))
	var children []ocispec.Descriptor
	for _, os := range []string{"linux", "plan9"} {
		d.Platform = &ocispec.Platform{OS: os, Architecture: "amd64"}
		children = append(children, slices.Repeat([]ocispec.Descriptor{d}, 1000)...)
	}
	report := l.check(t, l.index(children...))
	if l.read[d.Digest] != 1 || len(report.Children) != 2000 || report.Verdict != verify.Mismatch {
		t.Errorf("read %d times, got %s of %d manifests", l.read[d.Digest], report.Verdict, len(report.Children))
	}
	if n := len(report.Findings); n == 0 || n > 500 {
		t.Errorf("got %d findings", n)
	}
	if p := report.Children[1999].Descriptor.Platform; p == nil || p.OS != "plan9" {
		t.Errorf("got the platform %v", p)
	}
}

// What may not be read in a client's name is not read, and said not to be; what
// a registry serves as mere JSON is what the image index says.
func TestCheckIndexOfOthers(t *testing.T) {
	t.Parallel()
	l := newLibrary()
	d := l.add(verifytest.WrongDigit(image(l1)))
	index := l.Repo[l.index(d).Digest]
	report, err := verify.Check(t.Context(), failingManifests{l, verify.ErrForbidden}, imageIndex, index)
	if err != nil || report.Verdict != verify.Unverified || len(report.Findings) != 1 || finding(report.Findings[0]) != "image: unverifiable" {
		t.Errorf("forbidden: got %s, %v, %v", report.Verdict, report.Findings, err)
	}
	report, err = verify.Check(t.Context(), plainManifests{l}, imageIndex, index)
	if err != nil || report.Verdict != verify.Mismatch || len(report.Findings) != 1 || finding(report.Findings[0]) != "0: diff_id_mismatch" {
		t.Errorf("served as JSON: got %s, %v, %v", report.Verdict, report.Findings, err)
	}
}

// plainManifests serves all manifests as JSON.
type plainManifests struct{ *library }

func (p plainManifests) Manifest(ctx context.Context, d ocispec.Descriptor) (string, []byte, error) {
	_, body, err := p.library.Manifest(ctx, d)
	return "application/json", body, err
}

// What could not be found out is an error that names the manifest.
func TestCheckIndexErrors(t *testing.T) {
	t.Parallel()
	l := newLibrary()
	d := l.add(image(l1))
	delete(l.Repo, d.Digest)
	index := l.index(d)
	_, err := verify.Check(t.Context(), failingManifests{l, context.DeadlineExceeded}, imageIndex, l.Repo[index.Digest])
	if want := fmt.Sprintf("read manifest 1 of 1 (%s): context deadline exceeded", d.Digest); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

// failingManifests is a repository that fails as upstreams fail.
type failingManifests struct {
	*library
	err error
}

func (f failingManifests) Manifest(context.Context, ocispec.Descriptor) (string, []byte, error) {
	return "", nil, f.err
}
