package verify_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"diffgate/verify/verifytest"
)

type member = verifytest.Member

func gz(content []byte) []byte { return verifytest.Gzip(content) }

// cutHeader returns the header of a member without its last n bytes.
func cutHeader(m member, n int) []byte {
	h := m.Header()
	return h[:len(h)-n]
}

// short returns blob without its last n bytes.
func short(blob []byte, n int) []byte { return blob[:len(blob)-n] }

// The rows of gzip blobs: what is in the blob, what we say, and what
// gzipColumns read.
var gzipFraming = []golden{
	{"G01", "one member", gz(p1), "gzip P1", "P1"},
	{"G02", "two members, one tar cut in half", verifytest.GzipMembers(p1a, p1b), "gzip P1 parts=2", "P1"},
	{"G03", "two members, each a whole tar", verifytest.GzipMembers(p1, p2), "gzip P1+P2 parts=2", "P1+P2"},
	{"G04", "empty member last", verifytest.GzipMembers(p1, nil), "gzip P1 parts=2", "P1"},
	{"G05", "empty member first", verifytest.GzipMembers(nil, p1), "gzip P1 parts=2", "P1"},
	{"G06", "empty member between", verifytest.GzipMembers(p1a, nil, p1b), "gzip P1 parts=3", "P1"},
	{"G07", "50 000 empty members, then one: unpigz takes four seconds", cat(bytes.Repeat(member{}.Bytes(), 50_000), gz(p1)), "gzip P1 parts=50001", "P1"},
	{"G08", "eStargz: an empty last member with an extra field", cat(gz(p1), member{Extra: []byte("SG\x16\x000000000000000000STARGZ")}.Bytes()), "gzip P1 parts=2", "P1"},
	{"G09", "stored blocks only", member{Content: p1, Deflate: stored(p1)}.Bytes(), "gzip P1", "P1"},
	{"G10", "flushed after each byte", member{Content: p1, Deflate: flushed(p1)}.Bytes(), "gzip P1", "P1"},
	{"G11", "200 KB that do not compress", gz(big), "gzip big NotTar", "big"},
}

var gzipHeaders = []golden{
	{"G20", "name, comment, extra field and text flag", member{Content: p1, Name: "n", Comment: "c", Extra: []byte("x"), Flags: verifytest.FlagText}.Bytes(), "gzip P1", "P1"},
	{"G21", "right header checksum", member{Content: p1, HeaderCRC: true}.Bytes(), "gzip P1 HeaderCRC", "P1"},
	{"G22", "wrong header checksum", member{Content: p1, WrongHeaderCRC: true}.Bytes(), "gzip corrupt", "E"},
	{"G23", "name of 511 bytes", member{Content: p1, Name: strings.Repeat("n", 511)}.Bytes(), "gzip P1", "P1"},
	{"G24", "name of 512 bytes", member{Content: p1, Name: strings.Repeat("n", 512)}.Bytes(), "gzip P1 LongName", "E E E P1 P1 P1"},
	{"G25", "name of 70 000 bytes", member{Content: p1, Name: strings.Repeat("n", 70_000)}.Bytes(), "gzip P1 LongName", "E E E P1 P1 P1"},
	{"G26", "extra field of 65 535 bytes", member{Content: p1, Extra: make([]byte, 65_535)}.Bytes(), "gzip P1", "P1"},
	{"G27", "extra field with broken subfields", member{Content: p1, Extra: []byte("AB\xff\xff1")}.Bytes(), "gzip P1", "P1"},
	{"G28", "reserved flag 0x20", member{Content: p1, Flags: verifytest.FlagReserved5}.Bytes(), "gzip P1 ReservedFlag", "P1 E P1 E P1 E"},
	{"G29", "reserved flag 0x40", member{Content: p1, Flags: verifytest.FlagReserved6}.Bytes(), "gzip P1 ReservedFlag", "P1 E P1 E P1 E"},
	{"G30", "reserved flag 0x80", member{Content: p1, Flags: verifytest.FlagReserved7}.Bytes(), "gzip P1 ReservedFlag", "P1 E P1 E P1 E"},
	{"G31", "compression method 7", member{Content: p1, Method: 7}.Bytes(), "gzip corrupt", "E"},
	{"G32", "name with Latin-1, newline and escape", member{Content: p1, Name: "\xe9\n\x1b"}.Bytes(), "gzip P1", "P1"},
	{"G33", "reserved flag 0x20 in the second member: unpigz ends before it", cat(gz(p1a), member{Content: p1b, Flags: verifytest.FlagReserved5}.Bytes()), "gzip ambiguous", "P1 E:P1a P1 P1a P1 E"},
	{"G34", "wrong header checksum in the second member", cat(gz(p1a), member{Content: p1b, WrongHeaderCRC: true}.Bytes()), "gzip ambiguous", "E:P1a E:P1a E:P1a P1a E E"},
	{"G35", "name of 600 bytes in the second member", cat(gz(p1a), member{Content: p1b, Name: strings.Repeat("n", 600)}.Bytes()), "gzip P1 parts=2 LongName", "E:P1a E:P1a E:P1a P1 P1 P1"},
	{"G36", "compression method 7 in the second member", cat(gz(p1), member{Content: p2, Method: 7}.Bytes()), "gzip ambiguous", "E:P1 E:P1 E:P1 P1 E E"},
	{"G68", "right header checksum and a name: pgzip refuses it", member{Content: p1, HeaderCRC: true, Name: "n"}.Bytes(), "gzip P1 HeaderCRC", "P1 P1 E P1 P1 P1"},
	{"G69", "right header checksum and an extra field", member{Content: p1, HeaderCRC: true, Extra: []byte("x")}.Bytes(), "gzip P1 HeaderCRC", "P1 P1 E P1 P1 P1"},
}

var gzipDamage = []golden{
	{"G40", "wrong CRC-32", member{Content: p1, WrongCRC: true}.Bytes(), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G41", "wrong length", member{Content: p1, WrongSize: true}.Bytes(), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G42", "wrong CRC-32 in the first of two members", cat(member{Content: p1a, WrongCRC: true}.Bytes(), gz(p1b)), "gzip corrupt", "E:P1a E:P1a E:P1a E E E"},
	{"G43", "wrong length in the first of two members", cat(member{Content: p1a, WrongSize: true}.Bytes(), gz(p1b)), "gzip corrupt", "E:P1a E:P1a E:P1a E E E"},
	{"G50", "no bytes at all", nil, "identity", "E"},
	{"G51", "the first two bytes", gz(p1)[:2], "gzip corrupt", "E"},
	{"G52", "the first three bytes", gz(p1)[:3], "gzip corrupt", "E"},
	{"G53", "the header without its last byte", gz(p1)[:9], "gzip corrupt", "E"},
	{"G54", "the header alone", gz(p1)[:10], "gzip corrupt", "E"},
	{"G55", "cut in the data", short(gz(big), 100_000), "gzip corrupt", "E:b3d19c E:b3d19c E:b3d19c E E E"},
	{"G56", "no trailer", short(gz(p1), 8), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G57", "no length in the trailer", short(gz(p1), 4), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G58", "the last byte is missing", short(gz(p1), 1), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G59", "second member cut in the data", cat(gz(p1), short(gz(big), 100_000)), "gzip corrupt", "E:ef7f57 E:ef7f57 E:ef7f57 E E E"},
	{"G60", "second member without trailer", cat(gz(p1), short(gz(p2), 8)), "gzip corrupt", "E:P1+P2 E:P1+P2 E:P1+P2 E E E"},
	{"G61", "second member is a header alone", cat(gz(p1), gz(p2)[:10]), "gzip corrupt", "E:P1 E:P1 E:P1 E E E"},
	{"G62", "no final block, then a trailer", member{Content: p1, Deflate: short(flushed(p1), 5)}.Bytes(), "gzip corrupt", "E:P1 E:P1 E E E E"},
	{"G63", "second member cut in its name, which klauspost takes for the end", cat(gz(p1), cutHeader(member{Name: "name"}, 2)), "gzip corrupt", "E:P1 P1 P1 P1 E E"},
	{"G64", "second member cut in its comment", cat(gz(p1), cutHeader(member{Comment: "comment"}, 2)), "gzip corrupt", "E:P1 P1 P1 P1 E E"},
	{"G65", "second member cut in its extra field", cat(gz(p1), cutHeader(member{Extra: []byte("extra")}, 2)), "gzip corrupt", "E:P1 E:P1 E:P1 P1 E E"},
	{"G66", "second member cut in the length of its extra field", cat(gz(p1), cutHeader(member{Extra: []byte{}}, 1)), "gzip corrupt", "E:P1 E:P1 E:P1 P1 E E"},
	{"G67", "first member cut in its name", cutHeader(member{Name: "name"}, 2), "gzip corrupt", "E"},
}

// gzipColumns are the decoders that runtimes use for gzip, and gzip(1).
var gzipColumns = []column{
	{name: "compress/gzip", decode: stdGunzip},                // moby, crane; containerd until 2.3
	{name: "klauspost", decode: gunzip},                       // containerd
	{name: "pgzip", decode: pgunzip},                          // podman, skopeo, buildah
	{name: "unpigz", program: []string{"unpigz", "-d", "-c"}}, // moby and containerd where it is installed
	{name: "igzip", program: []string{"igzip", "-d", "-c"}},   // containerd where it is installed
	{name: "gzip", program: []string{"gzip", "-d", "-c"}},     // people
}

func stdGunzip(w io.Writer, r io.Reader) error {
	z, err := stdgzip.NewReader(r)
	if err != nil {
		return err
	}
	return copyReads(w, z)
}

func gunzip(w io.Writer, r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	return copyReads(w, z)
}

func pgunzip(w io.Writer, r io.Reader) error {
	z, err := pgzip.NewReader(r)
	if err != nil {
		return err
	}
	defer z.Close()
	return copyReads(w, z)
}

// copyReads copies by Read alone, as a reader of tar archives asks for it.
func copyReads(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, struct{ io.Reader }{r})
	return err
}
