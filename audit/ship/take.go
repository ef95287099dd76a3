package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// batch is what one POST brings.
type batch struct {
	head
	entries []merkle.Entry
	id      Identity
}

// take takes a batch, and answers when it is durable.
func (s *Server) take(w http.ResponseWriter, r *http.Request, id Identity) (answer, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return answer{}, r.Context().Err()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return answer{}, refuse(http.StatusBadRequest, "a batch of more than %d bytes", maxBody)
		}
		return answer{}, err
	}
	b, err := parseBatch(body, id)
	if err != nil {
		return answer{}, err
	}
	src, err := s.lock(r.Context(), b.Log+" "+b.Key)
	if err != nil {
		return answer{}, err
	}
	defer s.unlock(src)
	a := answer{Service: s.opts.Name, Next: src.next, Known: src.known}
	switch {
	case src.session != b.Session:
		return a, refuse(http.StatusConflict, "another connection brings this log, or this service has started anew: ask up to where it is here")
	case src.known && b.From != src.next && (!b.Hole || b.From < src.next):
		return a, refuse(http.StatusConflict, "entry %d comes, and entry %d is next", b.From, src.next)
	}
	s.mu.Lock()
	src.said = b.Size
	if b.Checkpoint != "" {
		src.keys, src.checkpoint = b.Keys, b.Checkpoint
	}
	s.mu.Unlock()
	if why := s.opts.Refuse(); why != "" {
		return a, refuse(http.StatusServiceUnavailable, "%s", why)
	}
	if err := s.record(r, src, b); err != nil {
		return a, err
	}
	return answer{Service: s.opts.Name, Next: src.next, Known: true}, nil
}

// parseBatch takes a body apart and checks all that does not depend on what is here.
func parseBatch(body []byte, id Identity) (*batch, error) {
	bad := func(err error) (*batch, error) { return nil, refuse(http.StatusBadRequest, "%s", err) }
	first, rest, _ := bytes.Cut(body, []byte("\n"))
	b := &batch{id: id}
	dec := json.NewDecoder(bytes.NewReader(first))
	if err := dec.Decode(&b.head); err != nil {
		return bad(fmt.Errorf("the first line: %w", err))
	}
	if err := checkName(id, b.Log, b.Key, b.Session); err != nil {
		return nil, err
	}
	if b.Checkpoint != "" {
		if err := checkCheckpoint(&b.head); err != nil {
			return bad(err)
		}
	}
	for len(rest) > 0 {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return bad(errors.New("the last line does not end"))
		}
		rest = more
		e, err := merkle.ParseLine(line)
		want := b.From + uint64(len(b.entries))
		switch {
		case err != nil:
			return bad(fmt.Errorf("entry %d: %w", want, err))
		case e.Seq != want:
			return bad(fmt.Errorf("entry %d is where entry %d should be", e.Seq, want))
		case len(b.entries) >= maxEntries:
			return bad(fmt.Errorf("more than %d entries", maxEntries))
		}
		if err := id.mayHave(&e); err != nil {
			return nil, refuse(http.StatusForbidden, "%s", err)
		}
		b.entries = append(b.entries, e)
	}
	if next := b.From + uint64(len(b.entries)); b.Size < next || b.End && b.Size != next {
		return bad(fmt.Errorf("the log has %d entries, and this goes up to %d", b.Size, next))
	}
	return b, nil
}

// checkCheckpoint says whether the keys are of the log that is named, and the
// checkpoint is signed by one of them.
func checkCheckpoint(h *head) error {
	if len(h.Checkpoint) > maxCheckpoint || len(h.Keys) > maxKeys {
		return errors.New("a checkpoint, or a list of keys, that is too long")
	}
	name, err := Name(h.Log, h.Keys)
	if err != nil {
		return err
	}
	if name != h.Log+" "+h.Key {
		return fmt.Errorf("the first key of log %s is not %s", h.Log, h.Key)
	}
	var verifiers []note.Verifier
	for _, k := range h.Keys {
		v, err := note.NewVerifier(k)
		if err != nil || v.Name() != h.Log || len(k) > 1024 {
			return fmt.Errorf("%.200q is not a verifier key of log %s", k, h.Log)
		}
		verifiers = append(verifiers, v)
	}
	n, err := note.Open([]byte(h.Checkpoint), note.VerifierList(verifiers...))
	if err != nil {
		return fmt.Errorf("the checkpoint of log %s: %w", h.Log, err)
	}
	if !strings.HasPrefix(n.Text, h.Log+"\n") {
		return fmt.Errorf("a checkpoint of another log than %s", h.Log)
	}
	return nil
}

// record makes a batch durable, with what is to be said of its source, and moves the
// source on.
func (s *Server) record(r *http.Request, src *source, b *batch) error {
	if b.End && len(b.entries) == 0 && src.state == stateEnded {
		return nil // its answer was lost
	}
	p := &plan{src: src, id: b.id, now: s.opts.Now(), next: b.From}
	var drop []*source
	if src.state != stateBegun {
		var ok bool
		if drop, ok = s.makeRoom(src, b.id.Name); !ok {
			s.dropped(drop, false)
			return refuse(http.StatusServiceUnavailable, "there are too many sources that have not ended")
		}
		p.begin(drop)
	}
	p.batch(b, s.opts.Checkpoint)
	err := p.err
	if err == nil && len(p.drafts) > 0 {
		err = s.opts.Ledger.Append(r.Context(), p.drafts...)
	}
	s.dropped(drop, err == nil)
	if err != nil {
		return fmt.Errorf("not recorded: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Entries += uint64(len(b.entries))
	s.stats.Gaps += p.gaps
	p.done()
	return nil
}

// plan is the drafts of one append about one source.
type plan struct {
	src      *source
	id       Identity
	now      time.Time
	next     uint64
	last     string // the newest entry, as its cursor says
	drafts   []merkle.Draft
	state    string // "": as it was
	key      bool   // the source's signing key has changed
	recorded bool
	gaps     uint64
	err      error
}

func (p *plan) add(kind string, v any, cursors map[string]string) {
	data, err := json.Marshal(v)
	if err != nil {
		p.err = err
		return
	}
	p.drafts = append(p.drafts, merkle.Draft{Kind: kind, Data: data, Cursors: cursors})
}

// source adds an entry on how the source is. Events that are states move its cursor.
func (p *plan) source(event string, cursors map[string]string) {
	src := p.src
	if event != audit.SourceCheckpoint {
		if cursors == nil {
			cursors = map[string]string{}
		}
		p.state = event
		cursors[sourceCursor+src.name] = stateValue(event, p.now, p.id.Name)
	}
	p.add(audit.KindSource, audit.Source{
		V: 1, Event: event, Log: src.origin(), Identity: p.id.Name, Keys: slices.Clone(src.keys), Checkpoint: src.checkpoint, Taken: p.next,
	}, cursors)
	p.recorded = true
}

func (p *plan) begin(drop []*source) {
	cursors := map[string]string{}
	for _, src := range drop {
		cursors[logCursor+src.name], cursors[sourceCursor+src.name] = "", ""
	}
	p.source(stateBegun, cursors)
}

func (p *plan) gap(g audit.Gap) {
	p.add(audit.KindGap, g, nil)
	p.gaps++
}

// batch adds what it brings. The checkpoint of its source is recorded so often.
func (p *plan) batch(b *batch, checkpoint time.Duration) {
	src := p.src
	if b.From > src.next { // also of a log that is not known here: then next is 0
		p.gap(audit.Gap{
			V: 1, Lost: b.From - src.next, Until: p.now.UTC().Truncate(time.Microsecond), Gateway: src.gateway(),
			Reason: fmt.Sprintf("entries %d to %d of the log %s were removed where they were before they came here", src.next, b.From-1, src.name),
		})
	}
	for i := range b.entries {
		p.entry(&b.entries[i])
	}
	switch {
	case b.End:
		p.source(stateEnded, nil)
	case p.key || !p.recorded && p.now.Sub(src.recorded) >= checkpoint && p.next > src.recordedAt:
		p.source(audit.SourceCheckpoint, nil)
	}
}

func (p *plan) entry(e *merkle.Entry) {
	p.next = e.Seq + 1
	if ownKind(e.Kind) {
		p.key = p.key || e.Kind == merkle.KindKey
		return
	}
	p.last = place(e.Seq, e.Time)
	p.drafts = append(p.drafts, merkle.Draft{Kind: e.Kind, Data: e.Data, Cursors: map[string]string{logCursor + p.src.name: p.last}})
}

// done makes it count; the server's mu is held.
func (p *plan) done() {
	src := p.src
	src.known, src.next = true, p.next
	if p.last != "" {
		src.last = p.last
	}
	if p.state != "" {
		src.state, src.since, src.identity = p.state, p.now, p.id.Name
	}
	if p.recorded {
		src.recorded, src.recordedAt = p.now, p.next
	}
}
