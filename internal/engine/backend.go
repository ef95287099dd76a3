package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// backend answers the control socket.
type backend struct{ *Engine }

var _ control.Backend = backend{}

func (l *Engine) serveControl() error {
	s, err := control.Listen(l.opts.DataDir, backend{l}, l.log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.controlClose = func() error { cancel(); return s.Close() }
	go func() {
		if err := s.Serve(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("the control socket failed", "error", err)
			l.Fail(fmt.Errorf("the control socket failed: %w", err))
		}
	}()
	return nil
}

// Activate breaks the glass: the request is durable before it can take effect.
func (b backend) Activate(ctx context.Context, req control.ActivateRequest, peer control.Peer) (*v1alpha1.Activation, error) {
	if b.opts.ReadOnly != "" {
		return nil, control.Errorf(control.Refused, "%s", b.opts.ReadOnly)
	}
	obj := req.Activation.DeepCopy()
	obj.APIVersion, obj.Kind = v1alpha1.GroupVersion.String(), "Activation"
	obj.Status = v1alpha1.ActivationStatus{}
	obj.Spec.RequestedBy, obj.Spec.Revoked, obj.Spec.RevokedBy = "", false, ""
	if problems := source.ValidateObject(obj, nil); len(problems) > 0 {
		var details []string
		for _, p := range problems {
			details = append(details, strings.TrimPrefix(fmt.Sprintf("%s: %s: %s", p.Field, p.Message, p.Remedy), ": "))
		}
		return nil, control.InvalidError("the Activation is not valid", details...)
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}
	// A serve that has just started is asked before it has read the manifests. If
	// that takes long, request says so.
	loaded, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	_ = b.await(loaded, func(*view) bool { return true })
	var c *candidate
	var refused error
	if err := b.ask(ctx, func() { c, refused = b.request(key, obj, peer) }); err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	select {
	case err := <-c.recorded:
		if err != nil {
			return nil, control.Errorf(control.Unavailable, "the request cannot be recorded, so nothing opens: %v", err)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var first *v1alpha1.Activation
	err := b.await(ctx, func(v *view) bool {
		first = v.activations[key]
		return first != nil && v.result.Records[key].Start.Equal(c.record.Start)
	})
	return first, err
}

// candidate is a request of the control socket on its way to the record.
type candidate struct {
	record   activation.Record
	recorded chan error // capacity 1
	writing  bool       // on its way to the disk, which will say what becomes of it
}

// request takes a name, on the loop; the reconcile that follows proposes the
// facts.
func (l *Engine) request(key types.NamespacedName, obj *v1alpha1.Activation, peer control.Peer) (*candidate, error) {
	if l.set == nil {
		return nil, control.Errorf(control.Unavailable, "the manifests are not loaded yet: try again")
	}
	if d := l.doubt(); d.pending {
		return nil, control.Errorf(control.Unavailable, "nothing opens yet: %s: try again in a moment", d.why)
	} else if d.why != "" {
		return nil, control.Errorf(control.Unavailable, "nothing opens while the audit log cannot be kept: %s", d.why)
	}
	if !l.started && len(l.set.Gateways) == 0 {
		return nil, control.Errorf(control.Unavailable, "there is no Gateway in the manifests yet: nothing can be opened")
	}
	_, inManifest := l.set.Activations[key]
	if _, spent := l.records[key]; spent || inManifest || l.candidates[key] != nil {
		return nil, control.Errorf(control.Refused, "the name %s is spent: an Activation of that name exists or existed; choose another with --name", key)
	}
	c := &candidate{record: activation.New(obj, activation.Control, peer.String(), l.now()), recorded: make(chan error, 1)}
	l.candidates[key] = c
	return c, nil
}

// turnAway answers the candidates that came just before the log failed, as request
// does those that come later. Who asked is there to ask again: nothing opens long
// after they have left.
func (l *Engine) turnAway(failing string) {
	if failing == "" {
		return
	}
	for key, c := range l.candidates {
		if !c.writing {
			c.recorded <- errors.New(failing)
			delete(l.candidates, key)
		}
	}
}

// requests are the candidates as the translator takes them.
func (l *Engine) requests() map[types.NamespacedName]activation.Record {
	out := make(map[types.NamespacedName]activation.Record, len(l.candidates))
	for key, c := range l.candidates {
		out[key] = c.record
	}
	return out
}

// answer tells whoever waits for a candidate that it is on record, or why not. A
// request that could not be recorded is over: its caller was told so.
func (l *Engine) answer(facts []activation.Fact, err error) {
	for _, f := range facts {
		if c := l.candidates[f.Record.Key()]; c != nil {
			c.recorded <- err
			delete(l.candidates, f.Record.Key())
		}
	}
}

// Activation as it is now.
func (b backend) Activation(ctx context.Context, key types.NamespacedName) (*v1alpha1.Activation, error) {
	v := b.view.Load()
	if v == nil || v.activations[key] == nil {
		return nil, control.Errorf(control.NotFound, "there is no Activation %s", key)
	}
	return v.activations[key], nil
}

// Wait for a change of one activation.
func (b backend) Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error) {
	if _, err := b.Activation(ctx, key); err != nil {
		return nil, err
	}
	var found *v1alpha1.Activation
	err := b.await(ctx, func(v *view) bool {
		found = v.activations[key]
		return found != nil && done(found)
	})
	return found, err
}

// recordTimeout is how long Revoke waits for the record of what it closed.
const recordTimeout = 5 * time.Second

// Revoke closes. Nothing is served any more under the names before anything is
// written; it returns when that is on record as well, so that a restart cannot
// take it back.
func (b backend) Revoke(ctx context.Context, req control.RevokeRequest, peer control.Peer) ([]v1alpha1.Activation, error) {
	if b.opts.ReadOnly != "" {
		return nil, control.Errorf(control.Refused, "%s", b.opts.ReadOnly)
	}
	out, err := b.revokeKnown(ctx, req, peer)
	if err != nil || !req.All {
		return out, err
	}
	// What was on its way to the record meanwhile has arrived, and must not open.
	more, err := b.revokeKnown(ctx, req, peer)
	return append(out, more...), err
}

func (b backend) revokeKnown(ctx context.Context, req control.RevokeRequest, peer control.Peer) ([]v1alpha1.Activation, error) {
	wish := activation.Revocation{By: peer.String(), Reason: req.Reason}
	var keys []types.NamespacedName
	var failed error
	if err := b.ask(ctx, func() { keys, failed = b.revoke(req, wish) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	var out []v1alpha1.Activation
	err := b.await(ctx, func(v *view) bool {
		out = out[:0]
		for _, key := range keys {
			a := v.activations[key]
			if a == nil || !a.Status.Phase.Final() {
				return false
			}
			out = append(out, *a)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	waitCtx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := b.await(waitCtx, func(v *view) bool { return !v.unrecorded }); err != nil {
		return nil, control.Errorf(control.Unavailable, "closed, but not on record yet: if serve restarts before the journal can be written, "+
			"it may open again until its deadline; keep serve running and mend the disk, or set suspended: true in the EmergencyPolicy")
	}
	return out, nil
}

// revoke marks what is to end; the reconcile that follows on the loop ends it.
func (l *Engine) revoke(req control.RevokeRequest, wish activation.Revocation) ([]types.NamespacedName, error) {
	var keys []types.NamespacedName
	for _, key := range req.Names {
		if _, known := l.records[key]; !known {
			return nil, control.Errorf(control.NotFound, "there is no Activation %s", key)
		}
		keys = append(keys, key)
	}
	if req.All {
		for key, r := range l.records {
			if !r.Final() && (req.Namespace == "" || req.Namespace == key.Namespace) {
				keys = append(keys, key)
			}
		}
	}
	slices.SortFunc(keys, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		if !l.records[key].Final() {
			l.revocations[key] = wish
		}
	}
	return keys, nil
}

// Timeline tells what happened since then.
func (b backend) Timeline(ctx context.Context, since time.Time, fn func(control.TimelineEntry) error) error {
	drained, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := b.recorder.Drain(drained); err != nil && ctx.Err() != nil {
		return err
	}
	// What could not be drained is not lost, only not in the log yet.
	return merkle.Read(ctx, b.logDir(), merkle.Filter{Since: since}, func(e merkle.Entry) error {
		if e.Kind == merkle.KindSegment {
			return nil
		}
		return fn(told(e))
	})
}
