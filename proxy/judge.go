package proxy

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"diffgate/verify"
)

// withTwin returns the report on a manifest with what there is to say when it
// is false and its config is also that of an image that is right: machines
// that have that one may take the false one. Only an image is told of that the
// caller can read here.
func (x *exchange) withTwin(ctx context.Context, m manifest, report verify.Report) verify.Report {
	if report.Verdict != verify.Mismatch || report.Config == "" {
		return report
	}
	twin, err := x.p.cfg.Index.Twin(ctx, report.Config)
	if err != nil || twin.Manifest == m.digest || twin.Rules != verify.Rules || x.repository().holds(ctx, twin.Manifest) != nil {
		return report // which is as false without a twin
	}
	report.Findings = append(slices.Clip(report.Findings), verify.Masked(report.Config, twin.Manifest))
	return report
}

// known returns what was found about a manifest before.
func (x *exchange) known(m manifest) (verify.Report, bool) {
	j, err := x.p.cfg.Index.Judgement(x.r.Context(), m.digest)
	return verify.Report{Verdict: j.Verdict, Config: j.Config, Findings: j.Findings}, err == nil && j.Valid(m.contentType)
}

// remember keeps what was found about a manifest that the registry holds, and
// about the manifests that it names.
func (x *exchange) remember(m manifest, r verify.Report) {
	now := time.Now().UTC().Truncate(time.Second)
	if j, ok := r.Judgement(m.digest, m.contentType); ok {
		j.JudgedAt = now
		x.p.ledger.remember(j)
	}
	for _, c := range r.Children {
		if c.Judgement != nil {
			c.Judgement.JudgedAt = now
			x.p.ledger.remember(*c.Judgement)
		}
	}
}

// A judging is a verdict on its way to a client.
type judging struct {
	x         *exchange
	m         manifest
	mode      Mode
	direction string // push or pull
	refuse    func(manifest, verify.Report) error
}

// decide logs and counts a report, or err, that there is none. It returns the
// warnings for an image that passes, or the error that refuses it.
func (j judging) decide(report verify.Report, err error) (warnings []string, refusal error) {
	x := j.x
	if err != nil {
		j.decided("error", nil, nil)
		if j.mode == Audit { // could not find out; an auditor is told, a client is not held up
			x.p.cfg.Log.Warn("manifest could not be judged", zap.String("vars.name", x.rt.name),
				zap.String("vars.reference", oneLine(x.rt.reference, maxField)), zap.Error(err))
			return nil, nil
		}
		return nil, err
	}
	report = x.withTwin(x.r.Context(), j.m, report)
	bad := x.p.cfg.Policy.Rejections(report.Findings)
	warn := x.p.cfg.Policy.Warnings(report.Findings)
	j.decided(report.Verdict, bad, warn)
	if len(bad) > 0 && j.mode == Enforce {
		return nil, j.refuse(j.m, report)
	}
	for _, f := range bad {
		warnings = append(warnings, f.Message+" (audit mode)")
	}
	for _, f := range warn {
		warnings = append(warnings, f.Message)
	}
	return warnings, nil
}
