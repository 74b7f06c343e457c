package index_test

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// pageSize is that of files made on this machine.
var pageSize = os.Getpagesize()

// end is behind the last page of any file.
const end = math.MaxInt32

// An expectation is what a test wants of a damaged file when it is opened.
type expectation int

const (
	either  expectation = iota // each fact is right or unknown
	whole                      // each fact is right, and there is no damage
	afresh                     // the file is moved aside at once
	refused                    // the file is not provably a DiffID index any more, and left as it is
)

// A damage is something that happens to a file, by accident or otherwise.
type damage struct {
	claim string
	do    func([]byte) []byte
	want  expectation
}

func damageTable() []damage {
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	return []damage{
		{"a file that nothing happened to is whole", func(b []byte) []byte { return b }, whole},
		{"a file truncated to 1 byte proves nothing and is left alone", cut(1), refused},
		{"a file truncated to 100 bytes proves nothing and is left alone", cut(100), refused},
		{"a file truncated to 2 pages proves nothing and is left alone", cut(2 * pageSize), refused},
		{"a file truncated to half is moved aside", func(b []byte) []byte { return b[:len(b)/2] }, afresh},
		{"a file without its last page is moved aside, unless nothing was in it", func(b []byte) []byte { return b[:len(b)-pageSize] }, either},
		{"a file without its first meta page opens on the other", pages(0, 1, 1, zero), either},
		{"a file without its second meta page opens on the other", pages(1, 2, 1, zero), either},
		{"a file without both meta pages is moved aside", pages(0, 2, 1, zero), afresh},
		{"a file with random meta pages is moved aside", pages(0, 2, 1, random), afresh},
		{"a file with every 50th page zeroed answers what it can", pages(50, end, 50, zero), either},
		{"a file with every 50th page random answers what it can", pages(49, end, 50, random), either},
		{"a file with nothing but its meta pages proves nothing and is left alone", pages(2, end, 1, zero), refused},
		{"a file of zeros is left alone", pages(0, end, 1, zero), refused},
		{"a file of random bytes is left alone", pages(0, end, 1, random), refused},
		{"a file of text is left alone", func([]byte) []byte { return bytes.Repeat([]byte("DiffID\n"), 9999) }, refused},
		{"a freelist with a wild length is not allocated", pagesWith(0x10, func(p []byte) {
			binary.NativeEndian.PutUint16(p[10:], 0xFFFF)
			binary.NativeEndian.PutUint64(p[16:], 1<<40)
		}), afresh},
		{"a branch page that leads to a page twice is not believed", pagesWith(0x01, func(p []byte) {
			copy(p[40:48], p[24:32])
		}), afresh},
		{"a branch page that leads beyond the end is not followed", pagesWith(0x01, func(p []byte) {
			binary.NativeEndian.PutUint64(p[24:], 1<<40)
		}), afresh},
		{"a branch page without elements is not followed", pagesWith(0x01, func(p []byte) {
			binary.NativeEndian.PutUint16(p[10:], 0)
		}), afresh},
		{"a branch page with keys in disorder is not searched", pagesWith(0x01, func(p []byte) {
			copy(p[16:24], p[32:40])
		}), afresh},
	}
}

// loopTable is what nobody survives when it happens to a file that is open:
// bbolt descends until the stack overflows. It must be seen before.
func loopTable() []damage {
	return []damage{
		{"a branch page that leads to itself does not overflow the stack", pagesWith(0x01, func(p []byte) {
			copy(p[24:32], p[:8])
		}), afresh},
	}
}

func zero(b []byte) { clear(b) }

func random(b []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// pages spoils every step-th page in [from, to).
func pages(from, to, step int, spoil func(page []byte)) func([]byte) []byte {
	return func(b []byte) []byte {
		for p := from; p < min(to, len(b)/pageSize); p += step {
			spoil(b[p*pageSize : (p+1)*pageSize])
		}
		return b
	}
}

// pagesWith spoils every page that has these flags.
func pagesWith(flags uint16, spoil func(page []byte)) func([]byte) []byte {
	return pages(2, end, 1, func(page []byte) {
		if binary.NativeEndian.Uint16(page[8:]) == flags {
			spoil(page)
		}
	})
}

func TestOpenDamagedFile(t *testing.T) {
	t.Parallel()
	facts := indextest.Facts(2000)
	base := makeNamedFile(t, facts, 500)
	for _, tt := range append(damageTable(), loopTable()...) {
		t.Run(tt.claim, func(t *testing.T) {
			t.Parallel()
			damaged := tt.do(bytes.Clone(base))
			path := writeFile(t, damaged)
			if tt.want == refused {
				checkRefused(t, path, damaged)
				return
			}
			s, seen := openBolt(t, path)
			atOpen := seen.take()
			switch {
			case tt.want == whole && len(atOpen) > 0:
				t.Errorf("damage reported: %v", atOpen)
			case tt.want == afresh && len(atOpen) == 0:
				t.Error("no damage reported")
			case tt.want == afresh:
				aside, err := os.ReadFile(atOpen[0].Moved)
				if err != nil || !bytes.Equal(aside, damaged) {
					t.Errorf("the damaged file is not where %+v says: %v", atOpen[0], err)
				}
			}
			if n := countKnown(t, s, facts); tt.want == whole && n != len(facts) || tt.want == afresh && n != 0 {
				t.Errorf("%d of %d facts are known", n, len(facts))
			}
			if n := countNames(t, s, 500); tt.want == whole && n != countAllNames(500) || tt.want == afresh && n != 0 {
				t.Errorf("%d of %d judgements, twins and links are known", n, countAllNames(500))
			}
			mustWork(t, s, facts)
		})
	}
}

// checkRefused fails unless a file is refused, and stays alone and as it is.
func checkRefused(t *testing.T, path string, content []byte) {
	t.Helper()
	s, err := index.OpenBolt(index.BoltConfig{Path: path, OnDamage: func(d index.Damage) { t.Errorf("damage: %+v", d) }})
	if err == nil {
		t.Errorf("%s is opened: %v", path, s.Close())
		return
	}
	if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got the error %q, want one line that names %s", err, path)
	}
	now, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file was changed: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("got %d files beside it: %v", len(entries)-1, err)
	}
}

// OPS-20: whatever file is named as the DiffID index, it is refused and not touched,
// unless it is provably one.
func TestFilesThatAreNotOurs(t *testing.T) {
	t.Parallel()
	base := makeNamedFile(t, indextest.Facts(100), 10)
	order := binary.NativeEndian
	sum := func(meta []byte) {
		h := fnv.New64a()
		h.Write(meta[16:72])
		order.PutUint64(meta[72:], h.Sum64())
	}
	later, abandoned := bytes.Clone(base), bytes.Clone(base)
	for _, at := range []int{0, pageSize} {
		order.PutUint32(later[at+20:], 3)
		sum(later[at:])
		order.PutUint64(abandoned[at+48:], ^uint64(0))
		sum(abandoned[at:])
	}
	for is, content := range map[string]string{
		"a host name":                      "registry\n",
		"one byte":                         "x",
		"a Dockerfile":                     "FROM debian:12\nRUN true\n",
		"a shell script":                   "#!/bin/sh\nexit 0\n",
		"JSON":                             `{"auths":{}}`,
		"YAML":                             "version: 0.1\n",
		"a PEM key":                        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
		"SQLite":                           "SQLite format 3\x00" + strings.Repeat("\x00", 4080),
		"gzip":                             "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"a program":                        "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 5000),
		"a PNG":                            "\x89PNG\r\n\x1a\n" + strings.Repeat("x", 3000),
		"zeros":                            strings.Repeat("\x00", 1<<20),
		"the names of our tables":          "meta facts diffids judgements format1",
		"a record of the format, cut":      "format1" + "\x00\x01\x02",
		"bbolt of a later version":         string(later),
		"bbolt with an abandoned freelist": string(abandoned),
		"the meta pages of bbolt alone":    string(base[:2*pageSize]),
		"a log":                            strings.Repeat("2026-11-28 msg=served\n", 10_000),
		"a tar archive":                    "etc/motd" + strings.Repeat("\x00", 10_000),
		"blanks":                           strings.Repeat(" ", 100),
	} {
		t.Run(is, func(t *testing.T) {
			t.Parallel()
			checkRefused(t, writeFile(t, []byte(content)), []byte(content))
		})
	}
}
