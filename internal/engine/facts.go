package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// policyRecord is the data of a "policy" entry: an EmergencyPolicy as it was
// from then on, with the keys it resolved to and the classes that name it. Spec
// is nil when it was removed.
type policyRecord struct {
	Name    string                        `json:"name"`
	Digest  string                        `json:"digest"`
	File    string                        `json:"file,omitempty"`
	OwnerID uint32                        `json:"ownerUID"`
	Classes []string                      `json:"classes,omitempty"`
	Keys    map[string]string             `json:"keys,omitempty"` // digest of the keys of each issuer
	Spec    *v1alpha1.EmergencyPolicySpec `json:"spec,omitempty"`
}

// digest of all that says who may come in.
func (r policyRecord) digest() string {
	r.Digest, r.File, r.OwnerID = "", "", 0
	return activation.Digest(r)
}

// startRecord is the data of a "start" entry.
type startRecord struct {
	Version string `json:"version"`
	Config  string `json:"config"`
	// First: the data directory was empty.
	First bool `json:"first,omitempty"`
}

// replay reads what is on record.
func (l *Engine) replay() error {
	l.records = map[types.NamespacedName]activation.Record{}
	l.revocations = map[types.NamespacedName]activation.Revocation{}
	l.policies = map[string]policyRecord{}
	err := l.journal.Replay(func(e audit.Entry) error {
		l.seq = e.Seq
		// Time has passed at least up to here, even if the clock's file is lost.
		l.clock.AtLeast(e.Time)
		switch e.Kind {
		case audit.KindActivation:
			var f activation.Fact
			if err := json.Unmarshal(e.Data, &f); err != nil {
				return fmt.Errorf("entry %d: %w", e.Seq, err)
			}
			l.records[f.Record.Key()] = f.Record
		case audit.KindPolicy:
			var p policyRecord
			if err := json.Unmarshal(e.Data, &p); err != nil {
				return fmt.Errorf("entry %d: %w", e.Seq, err)
			}
			l.policies[p.Name] = p
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.checkSeq()
}

// write is a batch on its way to the disk.
type write struct {
	batch []audit.Entry
	// opening facts count once the batch is durable, if the records that they
	// were made from still stand. base holds the digests of those.
	opening []activation.Fact
	base    map[types.NamespacedName]string
	// closing entries, and whatever else is true whether it is written or not,
	// are written later if this fails.
	closing []audit.Entry
	// reserved: this takes the reserve first. What opens needs it behind it, for its
	// own closing; and without it nothing is mended.
	reserved bool
	// first: of a new journal, so that it is written whole or not at all. With a part
	// of it the next start would not be a first one, and nothing was ever open.
	first bool
	err   error
}

// record takes the facts of the last translation. Facts that close are true at
// once. Facts that open, and what follows them in the same activation, count
// only when they are durable. The disk is waited for beside the loop: however
// slow it is, it delays no closing.
func (l *Engine) record(ctx context.Context) {
	if l.journal.First() && !l.started && len(l.result.Gateways) == 0 {
		// Nothing is judged before there is a Gateway: manifests that come a moment
		// after the first start are still those of a first start.
		return
	}
	w := &write{base: map[types.NamespacedName]string{}}
	before := len(l.unwritten)
	waits := map[types.NamespacedName]bool{}
	for _, f := range l.result.Facts {
		key := f.Record.Key()
		if waits[key] = waits[key] || f.Opens(); waits[key] {
			if _, seen := w.base[key]; !seen {
				w.base[key] = l.digestOf(key)
			}
			w.opening = append(w.opening, f)
			continue
		}
		l.settle(f)
		l.unwritten = append(l.unwritten, entry(audit.KindActivation, f))
	}
	if l.writing || l.resting && len(l.unwritten) == before {
		return // what waits is proposed again, once that write is done or it is time to try again
	}
	if l.fill(w); len(w.batch) == 0 {
		return
	}
	l.writing, l.unwritten = true, nil
	go func() {
		w.err = l.write(ctx, w)
		l.written <- w // there is room: one write at a time
	}()
}

// fill gives a write its batch: what is true already comes first.
func (l *Engine) fill(w *write) {
	w.closing = l.unwritten
	w.batch = slices.Clone(w.closing)
	if !l.started {
		w.batch = append(w.batch, entry(audit.KindStart, startRecord{Version: version.Version, Config: l.opts.ConfigDir, First: l.journal.First()}))
	}
	if l.journalErr != nil {
		// Something has to be written, or nobody learns that it works again; and the
		// log should tell of it.
		w.batch = append(w.batch, entry(audit.KindProblem, audit.Problem{V: 1, File: "journal",
			Reason: fmt.Sprintf("nothing could be recorded from %s on: %v", l.failedSince.Format(time.RFC3339), l.journalErr)}))
	}
	for _, f := range w.opening {
		w.batch = append(w.batch, entry(audit.KindActivation, f))
		if c := l.candidates[f.Record.Key()]; c != nil {
			c.writing = true
		}
	}
	w.first = !l.started && l.journal.First()
	w.reserved = len(w.opening) > 0 || !l.started || l.journalErr != nil
}

// digestOf the record that stands, "" for none.
func (l *Engine) digestOf(key types.NamespacedName) string {
	r, known := l.records[key]
	if !known {
		return ""
	}
	return activation.Digest(r)
}

// write appends a batch. On a full disk it gives up the reserve for what closes.
func (l *Engine) write(ctx context.Context, w *write) error {
	var err error
	if w.reserved {
		err = errors.Join(l.reserve.take(), l.journalThere())
	}
	if err == nil {
		if err = l.journal.Append(ctx, w.batch...); err == nil {
			return nil
		}
	}
	if w.first {
		return err
	}
	if len(w.closing) > 0 && (outOfSpace(err) && l.reserve.release() || len(w.batch) > len(w.closing)) {
		if l.journal.Append(ctx, w.closing...) == nil {
			w.closing = nil
		}
	}
	return err
}

// wrote takes the result of a write.
func (l *Engine) wrote(w *write) {
	l.writing, l.resting = false, w.err != nil
	if w.err != nil {
		if l.journalErr == nil {
			l.log.Error("cannot record; nothing opens until this is mended", "error", w.err)
			l.failedSince = l.now()
		}
		l.journalErr = w.err
		l.unwritten = append(w.closing, l.unwritten...)
		l.answer(w.opening, w.err)
		return
	}
	if l.journalErr != nil {
		l.log.Info("recording again")
	}
	l.journalErr, l.started = nil, true
	l.seq += uint64(len(w.batch))
	l.noteSeq()
	for _, f := range w.opening {
		// What was closed or shortened meanwhile stands: then this fact, made from
		// an older record, does not count, and the next plan proposes anew.
		key := f.Record.Key()
		if base, unsettled := w.base[key]; unsettled && base != l.digestOf(key) {
			continue
		}
		delete(w.base, key) // the facts that follow it were made from it
		l.settle(f)
	}
	l.answer(w.opening, nil)
}

// settle makes a fact the record that the next translation sees.
func (l *Engine) settle(f activation.Fact) {
	key := f.Record.Key()
	l.records[key] = f.Record
	if f.Record.Final() {
		delete(l.revocations, key)
	}
	if f.Record.Review != nil {
		delete(l.reviewing, key)
	}
	l.log.Info("activation", "activation", key.String(), "event", string(f.Event), "role", f.Record.Spec.Role,
		"incident", f.Record.Spec.Incident, "requestedBy", f.Record.RequestedBy, "deadline", f.Record.Deadline,
		"reason", f.Record.Reason, "message", f.Record.Message)
}

// notePolicies records every change of who may come in: of an EmergencyPolicy, of
// the keys of its issuers wherever they come from, of the classes that name it.
// Each is total control of the door.
func (l *Engine) notePolicies() {
	for name, p := range l.set.Policies {
		o := l.set.Origins[source.ObjectKey{Kind: "EmergencyPolicy", Name: name}]
		r := policyRecord{Name: name, Spec: &p.Spec, File: o.File, OwnerID: o.OwnerUID, Keys: map[string]string{}, Classes: l.classesOf(name)}
		for _, i := range l.result.Issuers[name] {
			r.Keys[i.Name] = i.Digest
		}
		if r.Digest = r.digest(); r.Digest != l.policies[name].Digest {
			l.notePolicy(r)
		}
	}
	for name, old := range l.policies {
		if l.set.Policies[name] == nil && old.Digest != "" {
			l.notePolicy(policyRecord{Name: name})
		}
	}
}

// classesOf are the GatewayClasses that a policy governs.
func (l *Engine) classesOf(policy string) []string {
	var out []string
	for name, c := range l.set.GatewayClasses {
		if ref := c.Spec.ParametersRef; ref != nil && ref.Kind == "EmergencyPolicy" && ref.Name == policy {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (l *Engine) notePolicy(r policyRecord) {
	l.policies[r.Name] = r
	l.unwritten = append(l.unwritten, entry(audit.KindPolicy, r))
	l.log.Warn("policy changed", "policy", r.Name, "removed", r.Spec == nil, "file", r.File)
}

// entry makes a journal entry of a value of this package or of activation, all
// of which can be marshalled.
func entry(kind string, data any) audit.Entry {
	b, err := json.Marshal(data)
	if err != nil {
		panic(errors.Join(errors.New("journal entry "+kind), err))
	}
	return audit.Entry{Kind: kind, Data: b}
}

// seen is when what is not on record yet was seen first: its time runs also while
// nothing can be recorded.
func (l *Engine) seen() map[types.NamespacedName]time.Time {
	if l.result == nil {
		return nil
	}
	out := map[types.NamespacedName]time.Time{}
	for key, r := range l.result.Records {
		if _, known := l.records[key]; !known && r.Origin == activation.Manifest {
			out[key] = r.Start
		}
	}
	return out
}

// requesters says whom an Activation comes from. The object's own
// word for it is not taken. Nobody asks twice for one that is on record.
func (l *Engine) requesters() map[types.NamespacedName]string {
	out := map[types.NamespacedName]string{}
	for key := range l.set.Activations {
		if _, known := l.records[key]; known {
			continue
		}
		out[key] = l.world.Requester(l.set, key)
	}
	return out
}
