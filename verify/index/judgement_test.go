package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// sampleJudgement is a judgement in which no field is empty.
func sampleJudgement() verify.Judgement {
	return verify.Judgement{
		Manifest: digest.FromString("manifest"), MediaType: "application/vnd.oci.image.manifest.v1+json", Rules: 3,
		Config: digest.FromString("config"), Platform: "linux/amd64", Verdict: verify.Mismatch, JudgedAt: time.Unix(1_790_000_000, 0).UTC(),
		Findings: []verify.Finding{{
			Severity: verify.Portable, Reason: verify.ReasonNotPortable, Cause: verify.CauseReversed, Layer: 7,
			Digest: digest.FromString("blob"), Claimed: verify.DiffID(digest.FromString("claim")),
			Actual: verify.DiffID(digest.FromString("tar")), Runtimes: []verify.Runtime{verify.Crane, verify.Umoci},
			Manifest: digest.FromString("child"), Message: `layer 8 of 8 is <odd> & "quoted"`,
		}},
	}
}

// otherName is a SHA-512 digest.
func otherName() digest.Digest {
	return digest.Digest("sha512:" + strings.Repeat("0123456789abcdef", 8))
}

func TestJudgementKeepsEveryField(t *testing.T) {
	t.Parallel()
	want := sampleJudgement()
	for _, v := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(want.Findings[0])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is empty in the sample", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	got, _, _, err := canonicalJudgement(want)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("canonicalJudgement: %v (-want +got):\n%s", err, diff)
	}
}

// The layout is in files: a record that is written otherwise needs another
// version.
func TestJudgementLayout(t *testing.T) {
	t.Parallel()
	sum := func(s string) string { return digest.FromString(s).String() }
	want := "\x02" + `{"mediaType":"application/vnd.oci.image.manifest.v1+json","rules":3,"config":"` + sum("config") +
		`","platform":"linux/amd64","verdict":"mismatch","findings":[{"severity":2,"reason":"not_portable","cause":"reversed","layer":7,"digest":"` +
		sum("blob") + `","claimed":"` + sum("claim") + `","actual":"` + sum("tar") + `","runtimes":["crane","umoci"],"manifest":"` +
		sum("child") + `","message":"layer 8 of 8 is <odd> & \"quoted\""}],"judgedAt":1790000000}`
	key, record, err := encodeJudgement(sampleJudgement())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(record[:len(record)-checksumSize])); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if sum := sha256.Sum256([]byte("manifest")); !bytes.Equal(key, append([]byte{1}, sum[:]...)) {
		t.Errorf("key %x", key)
	}
}

func TestJudgementBitFlips(t *testing.T) {
	t.Parallel()
	key, record, err := encodeJudgement(sampleJudgement())
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := linkKeys(otherName(), digest.FromString("blob"))
	if err != nil {
		t.Fatal(err)
	}
	reference := encodeReference(from, to)
	wrong, wrongKey, err := canonicalWrong(verify.WrongBlob{Digest: otherName(), Actual: otherName().Algorithm().FromString("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key, record []byte
		decode      func(key, record []byte) error
	}{
		{key, record, func(k, r []byte) error { _, err := decodeJudgement(k, r); return err }},
		{from, reference, func(k, r []byte) error { _, err := decodeReference(k, r); return err }},
		{wrongKey, encodeWrong(wrongKey, wrong), func(k, r []byte) error { _, err := decodeWrong(k, r); return err }},
	} {
		if err := tt.decode(tt.key, tt.record); err != nil {
			t.Error(err)
		}
		whole := append(bytes.Clone(tt.key), tt.record...)
		for bit := range 8 * len(whole) {
			flipped := bytes.Clone(whole)
			flipped[bit/8] ^= 1 << (bit % 8)
			if err := tt.decode(flipped[:len(tt.key)], flipped[len(tt.key):]); !errors.Is(err, errRecord) {
				t.Fatalf("bit %d flipped: %v; want errRecord", bit, err)
			}
		}
	}
}

func TestJudgementRecordRefused(t *testing.T) {
	t.Parallel()
	key, record, err := encodeJudgement(sampleJudgement())
	if err != nil {
		t.Fatal(err)
	}
	other, _ := factKey(digest.FromString("other"))
	body := string(record[1 : len(record)-checksumSize])
	reseal := func(version byte, body string) []byte { return seal(key, append([]byte{version}, body...)) }
	edit := func(from, to string) []byte {
		if !strings.Contains(body, from) {
			t.Fatalf("no %s in %s", from, body)
		}
		return reseal(judgementVersion, strings.Replace(body, from, to, 1))
	}
	tests := []struct {
		claim       string
		key, record []byte
		want        error
	}{
		{"a record under the key of another", other, record, errRecord},
		{"a record under a part of its key", key[:20], record, errRecord},
		{"no record", key, nil, errRecord},
		{"a record cut short", key, record[:len(record)-1], errRecord},
		{"a record of absurd length", key, make([]byte, 1<<20), errRecord},
		{"a whole record of a later version", key, reseal(judgementVersion+1, body), errRecordVersion},
		{"a whole record of no version", key, seal(key, nil), errRecordVersion},
		{"a whole record under a key of another algorithm", []byte{2, 1}, seal([]byte{2, 1}, []byte("\x02"+body)), errRecordVersion},
		{"a record that is not JSON", key, reseal(judgementVersion, "rules"), errRecord},
		{"a record without JSON", key, reseal(judgementVersion, ""), errRecord},
		{"JSON that ends and goes on", key, reseal(judgementVersion, body+"{}"), errRecord},
		{"JSON with spaces", key, edit(`"rules":`, `"rules": `), errRecord},
		{"a key twice", key, edit(`"rules":3`, `"rules":3,"rules":3`), errRecord},
		{"a key that nobody knows", key, edit(`"rules":3`, `"rules":3,"rulers":3`), errRecord},
		{"a key in upper case", key, edit(`"rules"`, `"Rules"`), errRecord},
		{"a number that is text", key, edit(`"rules":3`, `"rules":"3"`), errRecord},
		{"no verdict", key, edit(`"verdict":"mismatch"`, `"verdict":""`), errRecord},
		{"a config that is no digest", key, edit(`"config":"sha256:`, `"config":"sha257:`), errRecord},
	}
	for _, tt := range tests {
		if got, err := decodeJudgement(tt.key, tt.record); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v; want %v", tt.claim, got, err, tt.want)
		}
	}
}

// FuzzDecodeJudgement is FuzzDecodeFact for judgements.
func FuzzDecodeJudgement(f *testing.F) {
	plain := verify.Judgement{Manifest: digest.FromString("manifest"), Verdict: verify.Match}
	for _, j := range []verify.Judgement{sampleJudgement(), plain} {
		key, record, err := encodeJudgement(j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key[1:], record[:len(record)-checksumSize])
		f.Add(key[1:], record)
	}
	f.Fuzz(func(t *testing.T, sum, body []byte) {
		key := append([]byte{keySHA256}, make([]byte, sha256.Size)...)
		copy(key[1:], sum)
		_, _ = decodeJudgement(sum, body)
		for _, record := range [][]byte{body, seal(key, bytes.Clone(body))} {
			j, err := decodeJudgement(key, record)
			if err != nil {
				continue
			}
			same, k, r, err := canonicalJudgement(j)
			if err != nil || !bytes.Equal(k, key) || !bytes.Equal(r, record) || !sameJudgement(same, j) {
				t.Errorf("%x became %x, %v", record, r, err)
			}
		}
	})
}
