package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
	"diffgate/verify/layout"
	"diffgate/verify/verifytest"
)

// What is wrong with an archive is said in one line that begins with its path.
func TestArchiveErrors(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(2)
	whole := tarOf(savedOld(named{"a:1", img})...)
	one := func(l listed, files ...file) []byte {
		l.RepoTags = []string{"a:1"}
		return tarOf(append(files, file{name: "c.json", body: `{}`}, manifestJSON(l))...)
	}
	layers := func(names ...string) listed { return listed{Config: "c.json", Layers: names} }
	for _, test := range []struct {
		is      string
		archive []byte
		want    string
	}{
		{"nothing", nil, "no manifest.json: not an image archive"},
		{"a tar archive of other things", tarOf(file{name: "etc/motd", body: "hello\n"}), "no manifest.json: not an image archive"},
		{"no tar archive", bytes.Repeat([]byte("hello\n"), 1000), "not a tar archive, or a damaged one"},
		{"a cut archive", whole[:len(whole)/2+100], "the archive is cut"},
		{"a cut gzip", verifytest.Gzip(whole)[:500], "the archive is cut"},
		{"a gzip without its end", cut(verifytest.Gzip(whole), 4), "the archive is cut"},
		{"a gzip with a wrong checksum", verifytest.Member{Content: whole, WrongCRC: true}.Bytes(), "the archive is damaged: it does not unpack: gzip: invalid checksum"},
		{"a cut zstd", cut(verifytest.Zstd(whole), 30), "the archive is cut"},
		{"xz", verifytest.XZ(whole), "the archive is compressed with xz, which is not read: unpack it with xz -d"},
		{"a manifest.json that is no JSON", tarOf(file{name: "manifest.json", body: "hello"}), "manifest.json: not JSON, or larger than 4194304 bytes"},
		{"a manifest.json that is too large", tarOf(file{name: "manifest.json", body: "[" + strings.Repeat(" ", 4<<20) + "]"}), "manifest.json: not JSON, or larger than 4194304 bytes"},
		{"a manifest.json that is an object", tarOf(file{name: "manifest.json", body: "{}"}), "manifest.json: not a list of images"},
		{"a manifest.json that is cut", tarOf(file{name: "manifest.json", body: `[{}`}), "manifest.json: image 2: "},
		{"a manifest.json with two lists", tarOf(file{name: "manifest.json", body: `[{}][]`}), "manifest.json: there are bytes after the list of images"},
		{"a manifest.json of numbers", tarOf(file{name: "manifest.json", body: `[7]`}), "manifest.json: image 1: json: cannot unmarshal"},
		{"a manifest.json of an empty list", tarOf(file{name: "manifest.json", body: `[]`}), "manifest.json: it names no image"},
		{"too many images", tarOf(manifestJSON(make([]listed, 1001)...)), "manifest.json: it names more than 1000 images or 50000 layers"},
		{"too many layers", one(layers(make([]string, 50_001)...)), "manifest.json: it names more than 1000 images or 50000 layers"},
		{"too many entries", bytes.Repeat(tarOf(file{name: "l", link: "x"})[:512], 50_001), "the archive has more than 50000 entries"},
		{"a config that is not there", one(listed{Config: "d.json"}), "image a:1: its config (d.json) is not in the archive"},
		{"no config", one(listed{}), `image a:1: its config ("") is not in the archive`},
		{"a layer that is not there", one(layers("c.json", "x/layer.tar")), "image a:1: layer 2 of 2 (x/layer.tar) is not in the archive"},
		{"a layer that leads out", one(layers("../c.json")), "image a:1: layer 1 of 1 (../c.json) is not in the archive"},
		{"an absolute layer", one(layers("/c.json"), file{name: "/c.json", body: "{}"}), "image a:1: layer 1 of 1 (/c.json) is not in the archive"},
		{"an entry that leads out", one(layers("../x"), file{name: "../x", body: "{}"}), "image a:1: layer 1 of 1 (../x) is not in the archive"},
		{"a link that leads out", one(layers("x/l"), file{name: "x/l", link: "../../etc/passwd"}), "image a:1: layer 1 of 1 (x/l) is not in the archive"},
		{"an absolute link", one(layers("l"), file{name: "l", link: "/etc/passwd"}), "image a:1: layer 1 of 1 (l) is not in the archive"},
		{"a link to itself", one(layers("l"), file{name: "l", link: "l"}), "image a:1: layer 1 of 1 (l): more than 16 links lead on from one to another"},
		{"a layer that is there twice, with different bytes", one(layers("l"), file{name: "l", body: "1"}, file{name: "./l", body: "2"}),
			"image a:1: layer 1 of 1 (l): the archive has two different entries l: readers differ in which they take"},
		{"a name with a control character", one(layers("\x1b[2J")), `image a:1: layer 1 of 1 ("\x1b[2J") is not in the archive`},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			path := write(t, test.archive)
			a, err := layout.OpenArchive(t.Context(), path, verify.Limits{})
			if err == nil {
				_, err = a.Images("")
			}
			mustSay(t, err, path+": ", test.want)
		})
	}
	_, err := layout.OpenArchive(t.Context(), "no/such.tar", verify.Limits{})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func cut(b []byte, n int) []byte { return b[:len(b)-n] }

// A layer that is there twice with the same bytes, and a hard link, are read as
// tar programs do.
func TestArchiveOddities(t *testing.T) {
	t.Parallel()
	img := verifytest.Honest(1)
	blob := string(img.Layers[0].Blob)
	a := openArchive(t, tarOf(file{name: "c.json", body: string(img.Config())}, file{name: "x/l", body: blob}, file{name: "x/l", body: blob},
		file{name: "y/h", link: "x/l", hard: true}, manifestJSON(listed{Config: "c.json", Layers: []string{"y/h"}})))
	if got := checkOne(t, a, ""); got.Verdict != verify.Match {
		t.Errorf("a hard link to a file that is there twice: %v", got)
	}

	img.RawConfig = []byte(`{"x":"` + strings.Repeat("x", 4<<20) + `"}`)
	if diff := cmp.Diff(answer{verify.Unverifiable, []string{"image: over_limit"}}, checkOne(t, openArchive(t, tarOf(saved25(named{"", img})...)), "")); diff != "" {
		t.Errorf("a config of more than 4 MiB (-want +got):\n%s", diff)
	}
	img.RawConfig = []byte(`null`)
	if diff := cmp.Diff(answer{verify.Mismatch, []string{"image: config_invalid"}}, checkOne(t, openArchive(t, tarOf(saved25(named{"", img})...)), "")); diff != "" {
		t.Errorf("a config that is no object (-want +got):\n%s", diff)
	}
}

// A compressed archive may unpack to limits.unpacked and no further, and what
// is to be held in memory is bounded.
func TestArchiveLimits(t *testing.T) {
	t.Parallel()
	bomb := verifytest.Gzip(tarOf(file{name: "x", body: strings.Repeat("\x00", 1<<20)}))
	_, err := layout.OpenArchive(t.Context(), write(t, bomb), verify.Limits{Unpacked: 1 << 19})
	mustSay(t, err, "the archive unpacks to more than limits.unpacked")

	var files []file
	for i := range 17 {
		files = append(files, file{name: fmt.Sprint(i), body: "{" + strings.Repeat(" ", 4<<20-1)})
	}
	_, err = layout.ReadArchive(t.Context(), "stream", bytes.NewReader(tarOf(files...)), verify.Limits{})
	mustSay(t, err, "the archive has more than 64 MiB of names and JSON")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layout.OpenArchive(ctx, write(t, bomb), verify.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// FuzzArchive holds that no bytes make OpenArchive or Images panic, and that
// errors are one line.
func FuzzArchive(f *testing.F) {
	img := verifytest.WrongDigit(verifytest.Honest(2))
	f.Add(tarOf(saved25(named{"a:1", img})...))
	f.Add(tarOf(savedOld(named{"a:1", img})...))
	f.Add(verifytest.Gzip(tarOf(savedOld(named{"a:1", img})...)))
	f.Add(verifytest.Zstd(tarOf(manifestJSON(listed{Config: "l"}), file{name: "l", link: "l"})))
	f.Fuzz(func(t *testing.T, archive []byte) {
		limits := verify.Limits{Unpacked: 1 << 22, Window: 1 << 20}
		a, err := layout.ReadArchive(t.Context(), "stream", bytes.NewReader(archive), limits)
		if err != nil {
			mustSay(t, err, "stream: ")
			return
		}
		images, err := a.Images("")
		if err != nil {
			mustSay(t, err, "stream: ")
			return
		}
		for _, img := range images {
			if _, err := verify.Check(t.Context(), a, img.MediaType, img.Body); err != nil {
				mustSay(t, err)
			}
		}
	})
}
