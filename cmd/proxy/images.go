package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"diffgate/proxy/api"
	"diffgate/proxy/remote"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/layout"
)

// registryFlags say how to reach registries; several commands have them.
type registryFlags struct {
	username      string
	passwordStdin bool
	insecure      bool

	password string // read from stdin
}

func (f *registryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.username, "username", "u", "", "user of the registry, instead of docker's credentials")
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "allow plain HTTP and certificates that nobody vouches for")
}

// credentialsHelp says where credentials come from.
const credentialsHelp = `Credentials are docker's: ~/.docker/config.json (or DOCKER_CONFIG) and its
credential helpers; or --username and --password-stdin. localhost may speak plain
HTTP, as for docker.`

// maxPassword bounds what is read of a password.
const maxPassword = 64 << 10

func (f *registryFlags) read(stdin io.Reader) error {
	switch {
	case !f.passwordStdin && f.username == "":
		return nil
	case !f.passwordStdin:
		return errors.New("--username needs --password-stdin")
	case f.username == "":
		return errors.New("--password-stdin needs --username")
	}
	line, err := bufio.NewReader(io.LimitReader(stdin, maxPassword)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read password from standard input: %w", err)
	}
	f.password = strings.TrimRight(line, "\r\n")
	return nil
}

// An image is a manifest, and where its blobs are.
type image struct {
	name    string // for people
	repo    verify.Repository
	remote  *remote.Repository // nil for images on disk
	subject api.Subject
	body    []byte
}

// registries opens images by reference. It is for one goroutine.
type registries struct {
	flags   registryFlags
	cfg     remote.Config // but for what depends on the registry
	clients map[string]*remote.Client
}

// begin gets ready for a command that keeps no facts when it ends. The caller ends
// the meter.
func (r *registries) begin(cmd *cobra.Command) (*meter, error) {
	if err := r.flags.read(cmd.InOrStdin()); err != nil {
		return nil, err
	}
	m := startMeter(cmd.ErrOrStderr())
	r.cfg.Facts, r.cfg.OnRead = index.NewMemory(), m.add
	return m, nil
}

func (r *registries) client(ctx context.Context, host string) (*remote.Client, error) {
	if c := r.clients[host]; c != nil {
		return c, nil
	}
	cfg := r.cfg
	cfg.Host, cfg.Insecure = host, r.flags.insecure
	cfg.Username, cfg.Password = r.flags.username, r.flags.password
	c, err := remote.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if r.clients == nil {
		r.clients = map[string]*remote.Client{}
	}
	r.clients[host] = c
	return c, nil
}

// repository returns the repository and the tag or digest that a reference
// names. References are as for docker: "debian" is docker.io/library/debian:latest.
func (r *registries) repository(ctx context.Context, ref string) (*remote.Repository, api.Subject, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, api.Subject{}, fmt.Errorf("%q is not an image reference (HOST/NAME:TAG or HOST/NAME@DIGEST): %w", ref, err)
	}
	s := api.Subject{Name: reference.Path(named)}
	switch n := reference.TagNameOnly(named).(type) {
	case reference.Digested:
		s.Reference = n.Digest().String()
	case reference.Tagged:
		s.Reference = n.Tag()
	}
	c, err := r.client(ctx, reference.Domain(named))
	if err != nil {
		return nil, s, err
	}
	return c.Repository(s.Name), s, nil
}

func (r *registries) image(ctx context.Context, ref string) (image, error) {
	repo, s, err := r.repository(ctx, ref)
	if err != nil {
		return image{}, err
	}
	m, err := repo.Resolve(ctx, s.Reference)
	if err != nil {
		return image{}, fmt.Errorf("%s: %w", ref, err)
	}
	s.Digest, s.MediaType = m.Digest, m.MediaType
	return image{name: ref, repo: repo, remote: repo, subject: s, body: m.Body}, nil
}

// thisPlatform is what is looked at of an image index when nothing else is asked
// for. Images are for linux wherever the command runs, as with docker.
func thisPlatform() string { return "linux/" + runtime.GOARCH }

// children returns the images of an image index; nil for an image.
func (i image) children() []ocispec.Descriptor {
	m, err := verify.ParseManifest(i.subject.MediaType, i.body)
	if err != nil || m.Kind != verify.IndexKind {
		return nil // what is wrong with it, the judgement says
	}
	return m.Manifests
}

// forPlatform returns the image for a platform: itself unless it is an image
// index.
func (i image) forPlatform(ctx context.Context, platform string) (image, error) {
	children := i.children()
	if children == nil {
		return i, nil
	}
	var have []string
	for _, d := range children {
		p := api.Platform(d.Platform)
		if p == platform || strings.HasPrefix(p, platform+"/") {
			return i.child(ctx, d)
		}
		if p != "" && p != "unknown/unknown" {
			have = append(have, p)
		}
	}
	return image{}, fmt.Errorf("%s has no image for %s, but for %s; take one with --platform, or --all-platforms",
		i.name, platform, strings.Join(have[:min(len(have), 10)], ", "))
}

// child reads an image of an image index.
func (i image) child(ctx context.Context, d ocispec.Descriptor) (image, error) {
	mediaType, body, err := i.repo.Manifest(ctx, d)
	if err != nil {
		return image{}, fmt.Errorf("%s: manifest %s: %w", i.name, d.Digest, err)
	}
	i.subject.Digest, i.subject.MediaType, i.body = d.Digest, mediaType, body
	i.subject.Reference = d.Digest.String()
	return i, nil
}

// judged is the answer about one image, in JSON too.
type judged struct {
	Image string `json:"image"` // as it was asked for
	api.Report
	Error string `json:"error,omitempty"` // why there is no answer

	code int
}

// judge reads an image and judges it as the proxy does by default.
func (i image) judge(ctx context.Context) (judged, verify.Report) {
	out := judged{Image: i.name, Report: api.Report{Name: i.subject.Name, Reference: i.subject.Reference,
		Digest: i.subject.Digest, MediaType: i.subject.MediaType, Verdict: verify.Unverified}}
	r, err := verify.Check(ctx, i.repo, i.subject.MediaType, i.body)
	if err != nil {
		out.fail(fmt.Errorf("%s: %w", i.name, err))
		return out, r
	}
	out.Report = api.NewReport(i.subject, r, verify.Policy{})
	out.code = exitCode(out.Verdict)
	return out, r
}

// fail makes the answer that there is none, or that what was read is wrong.
func (j *judged) fail(err error) {
	if want, message, ok := wrongBytes(err); ok {
		j.Verdict, j.Message, j.code = verify.Mismatch, message, exitMismatch
		j.Findings = []api.Found{{Finding: api.Finding{Reason: api.ReasonWrongBytes, Digest: want}, Message: message}}
		return
	}
	j.Verdict, j.Error, j.code = verify.Unverified, err.Error(), exitUndecided
}

// wrongBytes tells a registry that holds wrong bytes, or a file that does, from
// other errors.
func wrongBytes(err error) (want digest.Digest, message string, ok bool) {
	var held *remote.WrongBlobError
	var file *layout.WrongBlobError
	switch {
	case errors.As(err, &held):
		return held.Want, held.Error(), true
	case errors.As(err, &file):
		return file.Digest, file.Error(), true
	}
	return "", "", false
}

// exitCode returns the exit code for a verdict.
func exitCode(v verify.Verdict) int {
	switch v {
	case verify.Match, verify.NotAnImage:
		return 0
	case verify.Mismatch:
		return exitMismatch
	}
	return exitUndecided
}
