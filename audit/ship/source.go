package ship

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// States of a source, and the events of source entries.
const (
	stateBegun = audit.SourceBegun
	stateEnded = audit.SourceEnded
	stateLost  = audit.SourceLost
)

// source is a log that comes here. Who has its turn may change it, with the
// server's mu where others look.
type source struct {
	name  string        // "ORIGIN HASH"
	turn  chan struct{} // of size 1: full while somebody has it
	users int           // who have it or wait for it; of mu

	state    string // "": it has not begun
	since    time.Time
	identity string
	known    bool   // next is from the log
	next     uint64 // seq of the next entry that is taken
	last     string // the newest entry that is here, as its cursor says
	session  string // who may bring it

	said       uint64 // how many entries it said it has
	heard      time.Time
	keys       []string
	checkpoint string
	recorded   time.Time // when its checkpoint was, last
	recordedAt uint64    // next then
}

func (src *source) origin() string { origin, _, _ := strings.Cut(src.name, " "); return origin }

// gateway that its origin names, "" for none.
func (src *source) gateway() string {
	rest, ours := strings.CutPrefix(src.origin(), originPrefix)
	parts := strings.Split(rest, "/")
	if !ours || len(parts) != 3 {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

// stateValue is that of a cursor "source/...".
func stateValue(state string, at time.Time, identity string) string {
	return state + "@" + at.UTC().Format(timeLayout) + " " + identity
}

// load takes up what the log knows. Each source that has not ended has the whole
// time to be heard of.
func (s *Server) load(cursors map[string]string) {
	now := s.opts.Now()
	for name, value := range cursors {
		if rest, ok := strings.CutPrefix(name, logCursor); ok {
			if seq, _, ok := parsePlace(value); ok {
				src := s.get(rest)
				src.known, src.next, src.last = true, seq+1, value
			}
		}
		if rest, ok := strings.CutPrefix(name, sourceCursor); ok {
			src := s.get(rest)
			state, more, _ := strings.Cut(value, "@")
			stamp, identity, _ := strings.Cut(more, " ")
			src.state, src.identity = state, identity
			src.since, _ = time.Parse(timeLayout, stamp) // none: long ago
		}
	}
	for _, src := range s.sources {
		src.heard, src.recorded, src.recordedAt = s.mono(), now, src.next
	}
}

// get a source by name; mu is held, or nobody else is there yet.
func (s *Server) get(name string) *source {
	src := s.sources[name]
	if src == nil {
		src = &source{name: name, turn: make(chan struct{}, 1)}
		s.sources[name] = src
	}
	return src
}

// lock waits for the turn at a source, and notes that it was heard of.
func (s *Server) lock(ctx context.Context, name string) (*source, error) {
	s.mu.Lock()
	src := s.get(name)
	src.users++
	src.heard = s.mono()
	s.mu.Unlock()
	select {
	case src.turn <- struct{}{}:
		return src, nil
	case <-ctx.Done():
		s.leave(src)
		return nil, ctx.Err()
	}
}

func (s *Server) unlock(src *source) {
	<-src.turn
	s.leave(src)
}

func (s *Server) leave(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src.users--
}

// tryLock takes the turn if nobody has or waits for it; mu is held.
func (src *source) tryLock() bool {
	if src.users > 0 {
		return false
	}
	src.users++
	src.turn <- struct{}{}
	return true
}

// sweep forgets sources of which there is nothing here, and which nobody asks for.
func (s *Server) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, src := range s.sources {
		if src.state == "" && !src.known && src.users == 0 && s.mono().Sub(src.heard) > time.Minute {
			delete(s.sources, name)
		}
	}
}

// find looks for the last entry of a source whose cursor was dropped. It came at or
// after since, or never.
func (s *Server) find(ctx context.Context, src *source, since time.Time) error {
	cursor, next, last, found := logCursor+src.name, uint64(0), "", false
	err := merkle.Read(ctx, s.opts.Dir, merkle.Filter{
		Since: since.Add(-time.Hour), // of clocks that differ
		Match: func(e *merkle.Entry) bool { return e.Kind != merkle.KindSegment && e.Cursors[cursor] != "" },
	}, func(e merkle.Entry) error {
		if seq, _, ok := parsePlace(e.Cursors[cursor]); ok && (!found || seq >= next) {
			next, last, found = seq+1, e.Cursors[cursor], true
		}
		return nil
	})
	if err != nil || !found {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	src.known, src.next, src.last, src.recordedAt = true, next, last, next
	return nil
}

// makeRoom finds the sources whose cursors end for another to begin: those that
// ended, or were lost, longest ago. They are locked. It is false when there is no
// room.
func (s *Server) makeRoom(newcomer *source, identity string) (drop []*source, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []*source
	all, his := 0, 0
	for _, src := range s.sources {
		if src == newcomer || src.state == "" {
			continue
		}
		all++
		if src.state != stateBegun {
			gone = append(gone, src)
		} else if src.identity == identity {
			his++
		}
	}
	if his >= maxOfOne {
		return nil, false
	}
	slices.SortFunc(gone, func(a, b *source) int { return a.since.Compare(b.since) })
	for _, src := range gone {
		if all < maxSources {
			break
		}
		if src.tryLock() {
			drop, all = append(drop, src), all-1
		}
	}
	return drop, all < maxSources
}

// dropped forgets sources whose cursors have ended, or, if that failed, does not.
func (s *Server) dropped(drop []*source, gone bool) {
	for _, src := range drop {
		if gone {
			s.mu.Lock()
			src.state, src.known, src.next, src.last, src.said, src.session = "", false, 0, "", 0, ""
			s.mu.Unlock()
		}
		s.unlock(src)
	}
}
