package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

const (
	judgementVersion = 2 // 1 had no platform

	// maxJudgement is the length that no record of a judgement exceeds. As many
	// findings as there may be fit in, each with the longest message.
	maxJudgement = 16 << 10

	maxMediaType = 256
	maxPlatform  = 256
)

// A judgementRecord is a judgement as it is stored, as JSON: there are few, and
// a fact's layout would save little of what is text for the most part.
type judgementRecord struct {
	MediaType string          `json:"mediaType"`
	Rules     int             `json:"rules"`
	Config    digest.Digest   `json:"config,omitempty"`
	Platform  string          `json:"platform,omitempty"`
	Verdict   verify.Verdict  `json:"verdict"`
	Findings  []findingRecord `json:"findings,omitempty"`
	JudgedAt  int64           `json:"judgedAt"` // Unix seconds
}

// A findingRecord has the fields of a verify.Finding, so that one can be
// converted to the other.
type findingRecord struct {
	Severity verify.Severity  `json:"severity"`
	Reason   verify.Reason    `json:"reason"`
	Cause    verify.Cause     `json:"cause,omitempty"`
	Layer    int              `json:"layer"`
	Digest   digest.Digest    `json:"digest,omitempty"`
	Claimed  verify.DiffID    `json:"claimed,omitempty"`
	Actual   verify.DiffID    `json:"actual,omitempty"`
	Runtimes []verify.Runtime `json:"runtimes,omitempty"`
	Manifest digest.Digest    `json:"manifest,omitempty"`
	Message  string           `json:"message"`
}

// canonicalJudgement returns j as stores keep it, which shares no memory with
// j, with its key and record, or says why j is not a judgement.
func canonicalJudgement(j verify.Judgement) (same verify.Judgement, key, record []byte, err error) {
	if err = wellFormedJudgement(j); err == nil {
		key, record, err = encodeJudgement(j)
	}
	if err == nil {
		if same, err = decodeJudgement(key, record); err != nil {
			err = errors.New("not UTF-8") // for which encoding/json writes something else
		}
	}
	if err != nil {
		err = fmt.Errorf("judgement of %q: %w", j.Manifest, err)
	}
	return same, key, record, err
}

func wellFormedJudgement(j verify.Judgement) error {
	_, ofManifest := parseSHA256(string(j.Manifest))
	_, sha256Config := parseSHA256(string(j.Config))
	_, otherConfig := nameKey(j.Config)
	switch {
	case !ofManifest:
		return errors.New("not a SHA-256 digest")
	case j.Config != "" && !sha256Config && !otherConfig:
		return fmt.Errorf("config %q is not a digest", j.Config)
	case j.Verdict == "":
		return errors.New("no verdict")
	case len(j.Findings) > verify.MaxFindings:
		return fmt.Errorf("%d findings", len(j.Findings))
	case len(j.MediaType) > maxMediaType:
		return fmt.Errorf("media type of %d bytes", len(j.MediaType))
	case len(j.Platform) > maxPlatform:
		return fmt.Errorf("platform of %d bytes", len(j.Platform))
	}
	return nil
}

// encodeJudgement returns key and record of a well-formed judgement, or an
// error when it is too long.
func encodeJudgement(j verify.Judgement) (key, record []byte, err error) {
	key, _ = factKey(j.Manifest)
	body, err := judgementBody(j)
	if err != nil {
		return nil, nil, err
	}
	if n := len(body) + checksumSize; n > maxJudgement {
		return nil, nil, fmt.Errorf("record of %d bytes", n)
	}
	return key, seal(key, body), nil
}

func judgementBody(j verify.Judgement) ([]byte, error) {
	r := judgementRecord{
		MediaType: j.MediaType, Rules: j.Rules, Config: j.Config, Platform: j.Platform, Verdict: j.Verdict, JudgedAt: j.JudgedAt.Unix(),
	}
	for _, f := range j.Findings {
		r.Findings = append(r.Findings, findingRecord(f))
	}
	body := bytes.NewBuffer([]byte{judgementVersion})
	enc := json.NewEncoder(body)
	enc.SetEscapeHTML(false) // of one byte it would make six
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), nil
}

// decodeJudgement is the inverse of encodeJudgement. It returns errRecord for
// anything that encodeJudgement did not write, and errRecordVersion for a whole
// record in a layout that this version does not know.
func decodeJudgement(key, record []byte) (verify.Judgement, error) {
	body, err := unseal(nil, key, record, maxJudgement)
	if err != nil {
		return verify.Judgement{}, err
	}
	if len(body) == 0 || body[0] != judgementVersion || len(key) != keySize || key[0] != keySHA256 {
		return verify.Judgement{}, errRecordVersion
	}
	var r judgementRecord
	if err := json.Unmarshal(body[1:], &r); err != nil {
		return verify.Judgement{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	j := verify.Judgement{
		Manifest: formatSHA256(key[1:]), MediaType: r.MediaType, Rules: r.Rules, Config: r.Config, Platform: r.Platform, Verdict: r.Verdict,
		JudgedAt: time.Unix(r.JudgedAt, 0).UTC(),
	}
	for _, f := range r.Findings {
		j.Findings = append(j.Findings, verify.Finding(f))
	}
	// There are other ways to write the same JSON, and more that it can say.
	again, err := judgementBody(j)
	if err != nil || !bytes.Equal(again, body) || wellFormedJudgement(j) != nil {
		return verify.Judgement{}, fmt.Errorf("%w: malformed", errRecord)
	}
	return j, nil
}

// sameJudgement reports whether two judgements as stores keep them differ at
// most in when they were made.
func sameJudgement(a, b verify.Judgement) bool {
	a.JudgedAt = b.JudgedAt
	return reflect.DeepEqual(a, b)
}

// isTwin reports whether j is what Twin looks for. Only configs with a SHA-256
// digest have twins.
func isTwin(j verify.Judgement, config digest.Digest) bool {
	_, ok := parseSHA256(string(config))
	return ok && j.Verdict == verify.Match && j.Config == config
}
