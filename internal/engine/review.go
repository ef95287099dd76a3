package engine

import (
	"context"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Review records a verdict. It returns when that is durable.
func (b backend) Review(ctx context.Context, req control.ReviewRequest, peer control.Peer) (*v1alpha1.Activation, error) {
	if b.opts.ReadOnly != "" {
		return nil, control.Errorf(control.Refused, "this is a controller of a cluster: make an ActivationReview with kubectl, or breakglass review --kubeconfig")
	}
	var refused error
	if err := b.ask(ctx, func() { refused = b.review(req, peer) }); err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	var found *v1alpha1.Activation
	waitCtx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	err := b.await(waitCtx, func(v *view) bool {
		found = v.activations[req.Name]
		return found != nil && found.Status.Review != nil && found.Status.Review.State.Reviewed()
	})
	switch {
	case err != nil && ctx.Err() == nil:
		return nil, control.Errorf(control.Unavailable, "the review is not on record yet, because nothing can be recorded: it will be once that is mended, if serve is not restarted before; `breakglass status` says what is wrong")
	case err != nil:
		return nil, err
	case found.Status.Review.By != peer.String():
		return nil, control.Errorf(control.Refused, "the Activation %s was reviewed by %s in this moment, and a verdict stays", req.Name, found.Status.Review.By)
	}
	return found, nil
}

// review takes a verdict, on the loop; the reconcile that follows proposes the fact.
func (l *Engine) review(req control.ReviewRequest, peer control.Peer) error {
	q := activation.ReviewRequest{Activation: req.Name, Review: activation.Review{
		Verdict: strings.ToLower(string(req.Verdict)), By: peer.String(), Note: req.Note, FollowUps: req.FollowUps, Source: activation.SourceControl,
	}}
	if l.set == nil {
		return control.Errorf(control.Unavailable, "the manifests are not loaded yet: try again")
	}
	if other, waits := l.reviewing[req.Name]; waits && other.Review.By != q.Review.By {
		return control.Errorf(control.Refused, "the Activation %s was reviewed by %s in this moment, and a verdict stays", req.Name, other.Review.By)
	}
	if b := q.Unacceptable(l.records[req.Name]); b != nil {
		code := control.Refused
		if b.Reason == activation.ReviewNotFound {
			code = control.NotFound
		}
		return control.Errorf(code, "%s: %s", b.Reason, b.Message)
	}
	l.reviewing[req.Name] = q
	return nil
}
