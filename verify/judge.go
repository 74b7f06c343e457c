package verify

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Evidence is what is known about the bytes of a layer.
type Evidence struct {
	Fact *Fact // nil when nobody hashed the blob
	Look *Look // nil when nobody took a second look
}

// Judge compares the claims of an image with the evidence about its layers and
// returns the report. It does no I/O.
//
// m must be of ImageKind, and evidence has one entry for each of its layers. A
// claim of another algorithm than SHA-256 needs a Look to be compared; other
// claims are judged without, and explained by a cause more often with. Judge does
// not modify its arguments.
//
// The bytes of a layer decide, not its media type. A tar archive must have its
// DiffID. Anything else may have its digest or its DiffID. What decoders read
// differently is refused.
func Judge(m Manifest, c Config, evidence []Evidence) Report {
	j := newJudge(m, c, evidence)
	j.rootFS()
	claimed, ok := j.align()
	isClaimed := make([]bool, len(m.Layers))
	for i, at := range claimed {
		j.layer(at, c.DiffIDs[i])
		isClaimed[at] = true
	}
	for i := range j.r.Layers {
		switch {
		case isClaimed[i]:
		case ok:
			j.unclaimed(i)
		default:
			j.uncompared(i)
		}
	}
	j.causes(claimed)
	j.chain()
	j.r.Verdict = j.verdict()
	return j.r
}

func newJudge(m Manifest, c Config, evidence []Evidence) *judge {
	j := &judge{m: m, c: c, evidence: evidence, r: Report{Config: m.Config.Digest, Platform: c.Platform}}
	j.r.Layers = make([]LayerReport, len(m.Layers))
	for i, d := range m.Layers {
		l := LayerReport{Descriptor: d, Fact: evidence[i].Fact, TOC: toc(d), Status: StatusUnverified}
		if l.Fact != nil && l.Fact.Problem == None {
			l.DiffID = DiffID(l.Fact.Unpacked)
		}
		if !isLayer(d) {
			l.Status = StatusNotALayer
		}
		j.r.Layers[i] = l
	}
	return j
}

type judge struct {
	m        Manifest
	c        Config
	evidence []Evidence
	r        Report
}

func (j *judge) add(f Finding) { j.r.Findings = append(j.r.Findings, f) }

// warn says for which runtimes the image is not portable, and why.
func (j *judge) warn(layer int, who []Runtime, format string, args ...any) {
	f := Finding{Severity: Portable, Reason: ReasonNotPortable, Layer: layer, Runtimes: who, Message: fmt.Sprintf(format, args...)}
	if layer >= 0 {
		f.Digest = j.m.Layers[layer].Digest
	}
	j.add(f)
}

// at names a layer in messages, counted from 1 as people do.
func (j *judge) at(layer int) string {
	return fmt.Sprintf("layer %d of %d", layer+1, len(j.m.Layers))
}

func (j *judge) rootFS() {
	if len(j.c.Variants) > 0 {
		j.warn(-1, []Runtime{}, "the config spells a key %+q: runtimes that are not written in Go do not read it", clip(j.c.Variants[0]))
	}
	if len(j.m.Layers) > 0 && !slices.ContainsFunc(j.r.Layers, LayerReport.isLayer) {
		return // no runtime runs it
	}
	j.configType()
	switch {
	case !j.c.HasRootFS && len(j.m.Layers) == 0:
		j.warn(-1, []Runtime{Docker, Crane, Umoci}, "the config has no rootfs: docker does not pull it")
	case j.c.HasRootFS && j.c.RootFSType == "":
		j.warn(-1, []Runtime{Crane, Umoci}, "rootfs.type is missing: crane and umoci refuse the image")
	case j.c.HasRootFS && j.c.RootFSType != "layers":
		j.warn(-1, []Runtime{Crane, Umoci, Containerd}, "rootfs.type is %+q, not \"layers\": crane and umoci refuse the image, and containerd 2 does not unpack it", clip(j.c.RootFSType))
	}
}

// configType warns about an image whose config has a media type that docker accepts
// and others do not.
func (j *judge) configType() {
	switch t := clip(j.m.Config.MediaType); {
	case len(j.m.Layers) == 0 || !j.m.dockerRunsConfig():
	case j.m.MediaType == mediaTypeDockerManifest:
		j.warn(-1, []Runtime{Containerd}, "the config has the media type %+q: containerd 2 does not unpack the image", t)
	default:
		j.warn(-1, []Runtime{Podman, Containerd}, "the config has the media type %+q: podman refuses the image, and containerd 2 does not unpack it", t)
	}
}

// align decides which layer each DiffID of the config is about. It returns the
// position of a layer for each DiffID. ok is false, after a finding, when the
// counts fit no reading.
func (j *judge) align() (claimed []int, ok bool) {
	var all, layers []int
	for i, d := range j.m.Layers {
		all = append(all, i)
		if isLayer(d) {
			layers = append(layers, i)
		}
	}
	n := len(j.c.DiffIDs)
	if len(layers) > 0 && len(layers) < len(all) && (n == len(layers) || n == len(all)) {
		j.warn(-1, []Runtime{Docker, Containerd, Podman, Crane}, "layers that unpack and other blobs are mixed: docker, podman and older containerd do not pull it")
	}
	switch n {
	case len(all):
		return all, true
	case len(layers):
		return layers, true
	}
	j.add(Finding{Reason: ReasonDiffIDCount, Layer: -1, Digest: j.m.Config.Digest,
		Message: fmt.Sprintf("diff_id count: config lists %s for %s%s", count(n, "diff_id"), count(len(all), "layer"), j.surplus(all))})
	return nil, false
}

func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// chain computes the ChainIDs from the computed DiffIDs, as far as they go
// (image-spec, config.md, "Layer ChainID").
func (j *judge) chain() {
	var chain digest.Digest
	for i := range j.r.Layers {
		l := &j.r.Layers[i]
		if !isLayer(l.Descriptor) && !l.unpacks() {
			continue
		}
		if l.DiffID == "" {
			return
		}
		if chain == "" {
			chain = digest.Digest(l.DiffID)
		} else {
			chain = identity.ChainID([]digest.Digest{chain, digest.Digest(l.DiffID)})
		}
		l.ChainID = chain
	}
}

func (j *judge) verdict() Verdict {
	v := Match
	if len(j.m.Layers) > 0 && !slices.ContainsFunc(j.r.Layers, LayerReport.isLayer) {
		v = NotAnImage
	}
	for _, f := range j.r.Findings {
		switch f.Severity {
		case False:
			return Mismatch
		case Undecided:
			v = Unverifiable
		}
	}
	for _, l := range j.r.Layers {
		if l.Status == StatusUnverified {
			return Unverified
		}
	}
	return v
}
