package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// sampleFacts are the kinds of facts that look different on disk.
func sampleFacts() []verify.Fact {
	plain := verify.Fact{
		Digest: digest.FromString("gz"), Size: 121, Encoding: verify.Gzip,
		Unpacked: digest.FromString("tar"), UnpackedSize: 2048, Parts: 1,
		Source: verify.Pushed, LearnedAt: time.Unix(1_790_000_000, 0).UTC(),
	}
	large := plain
	large.Size, large.UnpackedSize, large.Parts, large.Trailing, large.Quirks = 1<<63-1, 1<<63-1, 1<<40, 1<<20, 1<<16-1
	corrupt := plain
	corrupt.Problem, corrupt.Unpacked, corrupt.Reason = verify.Corrupt, "", "invalid header at byte 17"
	mute := corrupt
	mute.Reason, mute.LearnedAt = "", time.Time{}
	verbose := corrupt
	verbose.Reason = strings.Repeat("x", verify.MaxReason)
	return []verify.Fact{plain, large, corrupt, mute, verbose}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range sampleFacts() {
		key, record := encodeFact(f)
		if len(record) > maxRecord {
			t.Errorf("record of %d bytes, maximum is %d", len(record), maxRecord)
		}
		got, err := decodeFact(key, record)
		if diff := cmp.Diff(f, got); err != nil || diff != "" {
			t.Errorf("decodeFact: %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestRecordSize(t *testing.T) {
	t.Parallel()
	f := sampleFacts()[0]
	f.Size, f.UnpackedSize = 30<<20, 90<<20
	key, record := encodeFact(f)
	hint := diffIDKey(key[1:], key[1:])
	// Each element of a leaf page has a header of 16 bytes.
	if n := 16 + len(key) + len(record) + 16 + len(hint); n > 145 {
		t.Errorf("a layer takes %d bytes, so 10 million no longer fit into 1.5 GB", n)
	}
}

func TestRecordBitFlips(t *testing.T) {
	t.Parallel()
	for _, f := range sampleFacts() {
		key, record := encodeFact(f)
		whole := append(bytes.Clone(key), record...)
		for bit := range 8 * len(whole) {
			flipped := bytes.Clone(whole)
			flipped[bit/8] ^= 1 << (bit % 8)
			if got, err := decodeFact(flipped[:keySize], flipped[keySize:]); !errors.Is(err, errRecord) {
				t.Fatalf("bit %d flipped: %+v, %v; want errRecord", bit, got, err)
			}
		}
	}
}

func TestRecordRefused(t *testing.T) {
	t.Parallel()
	key, record := encodeFact(sampleFacts()[0])
	other, _ := factKey(digest.FromString("other"))
	body := record[:len(record)-checksumSize]
	reseal := func(body ...byte) []byte { return seal(key, bytes.Clone(body)) }
	tests := []struct {
		claim       string
		key, record []byte
		want        error
	}{
		{"a record under the key of another", other, record, errRecord},
		{"a record under a part of its key", key[:20], record, errRecord},
		{"a record under a key that is too long", append(bytes.Clone(key), 0), record, errRecord},
		{"no record", key, nil, errRecord},
		{"a record cut short", key, record[:len(record)-1], errRecord},
		{"a record of absurd length", key, make([]byte, 1<<20), errRecord},
		{"a whole record of a later version", key, reseal(recordVersion+1, 'x'), errRecordVersion},
		{"a whole record of version 1", key, reseal(append([]byte{1}, body[1:]...)...), errRecordVersion},
		{"a whole record of no version", key, reseal(), errRecordVersion},
		{"a whole record under a key of another algorithm", []byte{2, 1}, seal([]byte{2, 1}, bytes.Clone(body)), errRecordVersion},
		{"a record without fields", key, reseal(recordVersion), errRecord},
		{"a number that takes more bytes than it needs", key, reseal(recordVersion, 0x81, 0), errRecord},
		{"a number out of range", key, reseal(append([]byte{recordVersion, 0xFF, 0x7F}, body[2:]...)...), errRecord},
		{"a DiffID that is too short", key, reseal(body[:len(body)-1]...), errRecord},
		{"a DiffID that is too long", key, reseal(append(bytes.Clone(body), 0)...), errRecord},
		{"a reason that is too long", key, reseal(append([]byte{recordVersion, 1, 1, 1, 0, 0, 0, 0, 0, 0}, make([]byte, verify.MaxReason+1)...)...), errRecord},
	}
	for _, tt := range tests {
		if got, err := decodeFact(tt.key, tt.record); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v; want %v", tt.claim, got, err, tt.want)
		}
	}
}

func TestReferenceRefused(t *testing.T) {
	t.Parallel()
	from, to, err := linkKeys(otherName(), digest.FromString("blob"))
	if err != nil {
		t.Fatal(err)
	}
	record := encodeReference(from, to)
	body := record[:len(record)-checksumSize]
	reseal := func(body ...byte) []byte { return seal(from, bytes.Clone(body)) }
	tests := []struct {
		claim        string
		from, record []byte
		want         error
	}{
		{"a record as it was written", from, record, nil},
		{"a record under another key", to, record, errRecord},
		{"a record under a key that is too long", append(bytes.Clone(from), 0), record, errRecord},
		{"no record", from, nil, errRecord},
		{"a record cut short", from, record[:len(record)-1], errRecord},
		{"a record of absurd length", from, make([]byte, 1<<20), errRecord},
		{"a whole record of a later version", from, reseal(append([]byte{2}, body[1:]...)...), errRecordVersion},
		{"a whole record that leads to another algorithm", from, reseal(append([]byte{1, 2}, body[2:]...)...), errRecordVersion},
		{"a whole record that is longer", from, reseal(append(bytes.Clone(body), 0)...), errRecordVersion},
		{"a whole record that is shorter", from, reseal(body[:len(body)-1]...), errRecordVersion},
		{"a whole record of no version", from, reseal(), errRecordVersion},
	}
	for _, tt := range tests {
		got, err := decodeReference(tt.from, tt.record)
		if !errors.Is(err, tt.want) || err == nil && !bytes.Equal(got, to) {
			t.Errorf("%s: %x, %v; want %v", tt.claim, got, err, tt.want)
		}
	}
}

func TestWrongBlobRefused(t *testing.T) {
	t.Parallel()
	want, key, err := canonicalWrong(verify.WrongBlob{Digest: digest.FromString("a"), Actual: digest.FromString("b")})
	if err != nil {
		t.Fatal(err)
	}
	record := encodeWrong(key, want)
	body := record[:len(record)-checksumSize]
	reseal := func(body ...byte) []byte { return seal(key, bytes.Clone(body)) }
	for _, tt := range []struct {
		claim       string
		key, record []byte
		want        error
	}{
		{"a record as it was written", key, record, nil},
		{"a record under another key", append([]byte{keySHA256}, key[:len(key)-1]...), record, errRecord},
		{"a record cut short", key, record[:len(record)-1], errRecord},
		{"a whole record of a later version", key, reseal(append([]byte{2}, body[1:]...)...), errRecordVersion},
		{"a whole record of another algorithm", key, reseal(append([]byte{1, 2}, body[2:]...)...), errRecordVersion},
		{"a whole record that is longer", key, reseal(append(bytes.Clone(body), 0)...), errRecord},
		{"a whole record without a time", key, reseal(body[:1+keySize]...), errRecord},
		{"a whole record that ends in the digest", key, reseal(body[:keySize]...), errRecordVersion},
		{"a whole record of no version", key, reseal(), errRecordVersion},
	} {
		got, err := decodeWrong(tt.key, tt.record)
		if !errors.Is(err, tt.want) || err == nil && got != want {
			t.Errorf("%s: %+v, %v; want %v", tt.claim, got, err, tt.want)
		}
	}
}

// FuzzDecodeFact decodes any body under a right checksum, since a fuzzer would
// hardly find one, and under the checksum that the body happens to end in.
func FuzzDecodeFact(f *testing.F) {
	for _, fact := range sampleFacts() {
		key, record := encodeFact(fact)
		f.Add(key[1:], record[:len(record)-checksumSize])
		f.Add(key[1:], record)
	}
	f.Fuzz(func(t *testing.T, sum, body []byte) {
		key := append([]byte{keySHA256}, make([]byte, sha256.Size)...)
		copy(key[1:], sum)
		_, _ = decodeFact(sum, body)
		for _, record := range [][]byte{body, seal(key, bytes.Clone(body))} {
			fact, err := decodeFact(key, record)
			if err != nil {
				continue
			}
			if err := wellFormed(fact); err != nil {
				t.Errorf("decoded what is no fact: %v", err)
			}
			if k, r := encodeFact(fact); !bytes.Equal(k, key) || !bytes.Equal(r, record) {
				t.Errorf("%x became %x", record, r)
			}
		}
	})
}

// FuzzDecodeReference is FuzzDecodeFact for references.
func FuzzDecodeReference(f *testing.F) {
	from, to, err := linkKeys(otherName(), digest.FromString("blob"))
	if err != nil {
		f.Fatal(err)
	}
	record := encodeReference(from, to)
	f.Add(from, record[:len(record)-checksumSize])
	f.Add(from, record)
	f.Fuzz(func(t *testing.T, from, body []byte) {
		for _, record := range [][]byte{body, seal(from, bytes.Clone(body))} {
			to, err := decodeReference(from, record)
			if err == nil && !bytes.Equal(encodeReference(from, to), record) {
				t.Errorf("%x became %x", record, encodeReference(from, to))
			}
		}
	})
}

// FuzzCheckPages looks for a file that the check of pages itself does not
// survive.
func FuzzCheckPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "diffids.db")
	if err := createFile(path, os.Rename); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("not a bbolt file"))
	f.Fuzz(func(_ *testing.T, file []byte) {
		_ = checkPages(bytes.NewReader(file), int64(len(file)))
		c := &pageCheck{r: bytes.NewReader(file), meta: meta{pageSize: 1 << 10, pages: uint64(len(file)) >> 10}}
		c.seen = make([]bool, c.meta.pages)
		_ = c.freelist()
		_ = c.tree(0, func(page []byte) error {
			_, err := appendBuckets(nil, page)
			return err
		})
	})
}
