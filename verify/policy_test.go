package verify_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/verify"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	findings := []verify.Finding{
		{Severity: verify.False, Reason: verify.ReasonDiffIDMismatch},
		{Severity: verify.Undecided, Reason: verify.ReasonUnverifiable},
		{Severity: verify.Portable, Reason: verify.ReasonNotPortable},
		{Severity: verify.Undecided, Reason: verify.ReasonSchema1},
	}
	const (
		lie          = verify.ReasonDiffIDMismatch
		unverifiable = verify.ReasonUnverifiable
		notPortable  = verify.ReasonNotPortable
		schema1      = verify.ReasonSchema1
	)
	for _, test := range []struct {
		is       string
		policy   verify.Policy
		rejected []verify.Reason
		warned   []verify.Reason
	}{
		{"the default", verify.Policy{}, []verify.Reason{lie, schema1}, []verify.Reason{unverifiable, notPortable}},
		{"reject what cannot be decided", verify.Policy{RejectUnverifiable: true}, []verify.Reason{lie, unverifiable, schema1}, []verify.Reason{notPortable}},
		{"reject what is not portable", verify.Policy{RejectNotPortable: true}, []verify.Reason{lie, notPortable, schema1}, []verify.Reason{unverifiable}},
		{"do not speak of portability", verify.Policy{IgnoreNotPortable: true}, []verify.Reason{lie, schema1}, []verify.Reason{unverifiable}},
		{"allow schema 1", verify.Policy{AllowSchema1: true}, []verify.Reason{lie}, []verify.Reason{unverifiable, notPortable, schema1}},
		{"allow schema 1, reject what cannot be decided", verify.Policy{AllowSchema1: true, RejectUnverifiable: true}, []verify.Reason{lie, unverifiable}, []verify.Reason{notPortable, schema1}},
	} {
		if diff := cmp.Diff(test.rejected, reasons(test.policy.Rejections(findings))); diff != "" {
			t.Errorf("%s: rejections (-want +got):\n%s", test.is, diff)
		}
		if diff := cmp.Diff(test.warned, reasons(test.policy.Warnings(findings))); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", test.is, diff)
		}
	}
}

func reasons(findings []verify.Finding) []verify.Reason {
	var out []verify.Reason
	for _, f := range findings {
		out = append(out, f.Reason)
	}
	return out
}
