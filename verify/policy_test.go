package verify_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	findings := []verify.Finding{
		{Severity: verify.False, Reason: verify.ReasonDiffIDMismatch},
		{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable, Cause: verify.CauseEncrypted},
		{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable, Cause: verify.CauseForeign},
		{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable},
		{Severity: verify.Undecided, Reason: verify.ReasonOverLimit},
		{Severity: verify.Portable, Reason: verify.ReasonNotPortable},
		{Severity: verify.Portable, Reason: verify.ReasonPlatformMismatch},
		{Severity: verify.Notice, Reason: verify.ReasonNotAnImage},
		{Severity: verify.Undecided, Reason: verify.ReasonSchema1},
	}
	const (
		encrypted = "unverifiable encrypted"
		foreign   = "unverifiable foreign"
		platform  = "platform_mismatch"
		notice    = "not_an_image"
		limit     = "over_limit"
	)
	const (
		mismatch     = "diff_id_mismatch"
		unverifiable = "unverifiable"
		notPortable  = "not_portable"
		schema1      = "schema1"
	)
	all := func(names ...string) []string { return names }
	for _, test := range []struct {
		is       string
		policy   verify.Policy
		rejected []string
		warned   []string
	}{
		{"by default what is not proven is refused", verify.Policy{},
			all(mismatch, encrypted, foreign, unverifiable, limit, schema1), all(notPortable, platform, notice)},
		{"encrypted layers are allowed, and nothing else that cannot be proven", verify.Policy{AllowUnverifiable: []verify.Cause{verify.CauseEncrypted}},
			all(mismatch, foreign, unverifiable, limit, schema1), all(encrypted, notPortable, platform, notice)},
		{"both kinds are allowed, and limits of ours never are", verify.Policy{AllowUnverifiable: []verify.Cause{verify.CauseForeign, verify.CauseEncrypted}},
			all(mismatch, unverifiable, limit, schema1), all(encrypted, foreign, notPortable, platform, notice)},
		{"what is not portable is refused, and a notice is not", verify.Policy{RejectNotPortable: true},
			all(mismatch, encrypted, foreign, unverifiable, limit, notPortable, platform, schema1), all(notice)},
		{"what is not portable is not mentioned", verify.Policy{IgnoreNotPortable: true},
			all(mismatch, encrypted, foreign, unverifiable, limit, schema1), all(notice)},
		{"schema 1 is allowed", verify.Policy{AllowSchema1: true},
			all(mismatch, encrypted, foreign, unverifiable, limit), all(notPortable, platform, notice, schema1)},
	} {
		if diff := cmp.Diff(test.rejected, reasons(test.policy.Rejections(findings))); diff != "" {
			t.Errorf("%s: rejections (-want +got):\n%s", test.is, diff)
		}
		if diff := cmp.Diff(test.warned, reasons(test.policy.Warnings(findings))); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", test.is, diff)
		}
	}
}

func reasons(findings []verify.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, strings.TrimSpace(string(f.Reason)+" "+string(f.Cause)))
	}
	return out
}

// A refusal of what a setting can allow says which.
func TestRejectionsNameTheSetting(t *testing.T) {
	t.Parallel()
	long := verify.Finding{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable, Cause: verify.CauseForeign, Message: strings.Repeat("x", 300)}
	for _, f := range (verify.Policy{}).Rejections([]verify.Finding{long, {Severity: verify.Undecided, Reason: verify.ReasonUnverifiable, Cause: verify.CauseForeign}}) {
		if !strings.HasSuffix(f.Message, "; the setting verify.unverifiable accepts it if it lists foreign") || len(f.Message) > 300 {
			t.Errorf("got %q of %d bytes", f.Message, len(f.Message))
		}
	}
	if strings.Contains(long.Message, "verify") {
		t.Error("the finding itself was changed")
	}
}
