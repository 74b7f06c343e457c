package proxy

import (
	"context"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"diffgate/verify"
)

// lateLayers judges an image again that was accepted although the registry did not
// hold one of its foreign layers: a client can push such a layer while the gate is
// busy with another one. A mismatched image is deleted from the registry and refused.
func (x *exchange) lateLayers(m manifest, report verify.Report) error {
	if x.p.cfg.Mode != Enforce || !slices.ContainsFunc(report.Findings, isForeign) {
		return nil
	}
	ctx := x.r.Context()
	again, err := verify.Check(ctx, pushed{x.repository()}, m.contentType, m.body)
	if err != nil {
		x.p.cfg.Log.Warn("image with a foreign layer could not be judged again", zap.String("vars.name", x.rt.name),
			zap.Stringer("vars.digest", m.digest), zap.Error(err))
		return nil
	}
	if len(x.p.cfg.Policy.Rejections(again.Findings)) == 0 {
		return nil
	}
	x.deleteImage(ctx, m)
	return x.refusePush(m, again)
}

func isForeign(f verify.Finding) bool {
	return f.Reason == verify.ReasonUnverifiable && f.Cause == verify.CauseForeign
}

// deleteTimeout bounds the deletion of an image, which outlives the client.
const deleteTimeout = 30 * time.Second

// deleteImage deletes a mismatched image that the registry has accepted. A registry
// that does not delete keeps it, which the log says.
func (x *exchange) deleteImage(ctx context.Context, m manifest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	res, err := x.p.upstream.do(ctx, x.caller(), http.MethodDelete, x.repository().manifestPath(m.digest.String()), "")
	if err == nil {
		defer drain(res)
		if res.StatusCode != http.StatusAccepted && res.StatusCode != http.StatusNotFound {
			err = &answeredError{res.StatusCode}
		}
	}
	deleted := "yes"
	if err != nil {
		deleted = "no"
	}
	x.p.cfg.Metrics.lateForeign.WithLabelValues(deleted).Inc()
	x.p.cfg.Log.Error("a foreign layer arrived after its manifest and does not match: the image is refused and deleted from the registry",
		zap.String("vars.name", x.rt.name), zap.Stringer("vars.digest", m.digest), zap.String("deleted", deleted), zap.Error(err))
}
