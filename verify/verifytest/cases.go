package verifytest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"diffgate/verify"
)

// An Answer is what becomes of a push.
type Answer string

// The answers.
const (
	Accept Answer = "accept" // and nothing is said
	Warn   Answer = "warn"   // it passes with a warning
	Reject Answer = "reject"
)

// A Case is an image and the answer to it.
type Case struct {
	ID       string         // M01 to M64 were pushed to real runtimes; E1a and so on are edge cases; the rest has words
	Is       string         // one sentence: what it is, and why the answer
	Image    Image          // with all that its repository holds
	Answer   Answer         // under the default policy
	Verdict  verify.Verdict // on the manifest
	Findings []string       // in order, each as Found writes it
}

// Found returns a finding as Case.Findings has it: "position: reason (cause)",
// where the position counts from 0 or is "image", and no cause has no brackets.
func Found(f verify.Finding) string {
	s := "image"
	if f.Layer >= 0 {
		s = fmt.Sprint(f.Layer)
	}
	s += ": " + string(f.Reason)
	if f.Cause != "" {
		s += fmt.Sprintf(" (%s)", f.Cause)
	}
	return s
}

// Cases returns an image of every kind that this package knows, true or false.
func Cases() []Case {
	return slices.Concat(
		matrixOfForms(), matrixOfBytes(),
		artifactCases(), foreignCases(), countCases(), encodingCases(), otherFormCases(), algorithmCases(), configCases(), inlineCases(),
		gzipCases(), zstdCases(), polyglotCases(), tarCases(), incidentCases(),
		configTypeCases(), layerTypeCases(), erofsCases(), unprovenCases(), claimlessCases(), keptCases(),
	)
}

// The contents of the layers. Two of them are halves of the first.
var (
	motd   = Tar("etc/motd", strings.Repeat("All happy families are alike.\n", 40))
	issue  = Tar("etc/issue", "Debian\n")
	hosts  = Tar("etc/hosts", "127.0.0.1 localhost\n")
	opened = TarWithoutEnd("hello.txt", "hello\n")
	evil   = Tar("evil.txt", "evil\n")
	head   = motd[:len(motd)/2]
	tail   = motd[len(motd)/2:]
	junk   = []byte("GARBAGE GARBAGE GARBAGE GARBAGE ")

	layer1 = GzipLayer(motd)
	layer2 = GzipLayer(issue)
	layer3 = GzipLayer(hosts)
)

func found(findings ...string) []string { return findings }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func zeros(n int) []byte { return make([]byte, n) }

// noise returns n bytes that no encoding and no archive begins with.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 1))
	out := []byte("noise")
	for len(out) < n {
		out = append(out, byte(random.Uint32()))
	}
	return out[:n]
}

func typed(mediaType string, blob, content []byte) Layer {
	return Layer{MediaType: mediaType, Blob: blob, Content: content}
}

// raw is a layer, or what stands in its place, that is its own content.
func raw(mediaType string, blob []byte) Layer { return typed(mediaType, blob, blob) }

// gzipTyped, zstdTyped and tarTyped return images of one layer, of that type
// and with those bytes.
func gzipTyped(blob, content []byte) Image {
	return NewImage(typed(ocispec.MediaTypeImageLayerGzip, blob, content))
}

func zstdTyped(blob, content []byte) Image {
	return NewImage(typed(ocispec.MediaTypeImageLayerZstd, blob, content))
}

func tarTyped(blob, content []byte) Image {
	return NewImage(typed(ocispec.MediaTypeImageLayer, blob, content))
}

// attestation returns a blob that nobody unpacks.
func attestation() Layer {
	return raw(InToto, []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
}

// claiming returns the image with other diff_ids.
func claiming(img Image, diffIDs ...string) Image {
	img.DiffIDs = diffIDs
	return img
}

// configured returns the image with another type of config.
func configured(img Image, mediaType string) Image {
	img.ConfigType = mediaType
	return img
}

// withConfig returns the image with another config.
func withConfig(img Image, config string) Image {
	img.RawConfig = []byte(config)
	return img
}

// edited returns the image with a part of its config replaced.
func edited(img Image, old, with string) Image {
	config := img.Config()
	if !bytes.Contains(config, []byte(old)) {
		panic("verifytest: the config does not contain " + old)
	}
	img.RawConfig = bytes.Replace(config, []byte(old), []byte(with), 1)
	return img
}

// artifact returns a manifest with a config that is no image's.
func artifact(configType, config string, layers ...Layer) Image {
	return withConfig(configured(NewImage(layers...), configType), config)
}

// by512 returns the layer under its SHA-512 digest.
func by512(l Layer) Layer {
	l.Algorithm = digest.SHA512
	return l
}

func annotated(l Layer, keys ...string) Layer {
	l.Annotations = map[string]string{}
	for _, key := range keys {
		l.Annotations[key] = digest.FromString("toc").String()
	}
	return l
}

// encrypted returns a layer as ocicrypt makes it.
func encrypted(blob, content []byte) Layer {
	return annotated(typed(ocispec.MediaTypeImageLayerGzip+"+encrypted", blob, content), "org.opencontainers.image.enc.keys.jwe", "org.opencontainers.image.enc.pubopts")
}

// absent returns the layer without its blob.
func absent(l Layer) Layer {
	l.Absent = true
	return l
}

// elsewhere returns the layer with a URL to fetch it from.
func elsewhere(l Layer) Layer {
	l.URLs = []string{"https://layers.example/blob"}
	return l
}
