package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// follower is one sink at work. Its goroutine owns all but state.
type follower struct {
	*Options
	sink  *Sink
	log   *slog.Logger
	path  string // of the cursor
	to    deliverer
	enc   encoder
	tail  *merkle.Tail
	state state

	at     cursor
	known  bool // at was read, or made, and is of the log that is there
	dirty  bool
	saved  time.Time
	noted  uint64 // the size of the checkpoint that went along last
	done   chan struct{}
	closed error // of the end

	// What was read and not delivered yet, and how many records of it go at once.
	pending []record
	most    int
	read    uint64 // the seq that follows what was read

	said    string    // of what was lost, last
	refused string    // the id of what was refused alone
	since   time.Time // when it was first
}

func newFollower(o *Options, s *Sink) *follower {
	f := &follower{Options: o, sink: s, log: o.Log.With("sink", s.Name), path: cursorFile(o.StateDir, s.Name), enc: newEncoder(s.Encoding), most: o.pace.entries + 1, done: make(chan struct{})}
	f.state.begin(f)
	f.to = newDeliverer(s, o.Now)
	// Where a sink begins that begins now is where the log is now, not when there
	// is time to look.
	if s.From == FromNow {
		if note, err := merkle.Checkpoint(o.Dir); err == nil && note != nil {
			if _, size, _, err := merkle.CheckpointHead(note); err == nil {
				f.at.Next = size
			}
		}
	}
	f.state.moved(f.at.Next)
	return f
}

// run delivers until ctx ends; after closing until there is nothing more, or the next
// failure. Each turn reads a piece, delivers a part of it, or waits.
func (f *follower) run(ctx context.Context, w *watch, closing <-chan struct{}) {
	defer close(f.done)
	defer func() { f.closed = errors.Join(f.save(), f.to.close()) }()
	pause := f.pace.first
	for ctx.Err() == nil {
		changed := w.next()
		began := f.Now()
		worked, err := f.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errNoLog) {
			worked, err = false, nil
		}
		if err != nil {
			f.state.failed(err, began)
			if isClosed(closing) {
				return
			}
			f.sleep(ctx, f.wait(err, pause), nil, closing)
			pause = min(2*pause, f.pace.most)
			continue
		}
		if worked {
			pause = f.pace.first
			continue
		}
		if !f.rest(ctx, changed, closing) {
			return
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wait is how long to wait after a failure: a little more or less than the pause, so
// that many do not come back at once, or as long as the receiver has said.
func (f *follower) wait(err error, pause time.Duration) time.Duration {
	var later *laterError
	if errors.As(err, &later) && later.after > pause {
		return min(later.after, latest)
	}
	return pause - rand.N(pause/4+1)
}

// turn does what is next. It is false when there is nothing to do.
func (f *follower) turn(ctx context.Context) (bool, error) {
	if !f.known {
		if err := f.find(); err != nil {
			return false, err
		}
	}
	if f.dirty && f.Now().Sub(f.saved) >= f.pace.save {
		if err := f.save(); err != nil {
			return false, err
		}
	}
	if len(f.pending) == 0 {
		more, err := f.take(ctx)
		if err != nil || !more {
			return false, err
		}
	}
	return true, f.deliver(ctx)
}

var errNoLog = errors.New("there is no log yet")

// find reads the cursor, and makes sure that the log that is there goes on from it.
func (f *follower) find() error {
	c, err := readCursor(f.path)
	if err != nil {
		return err
	}
	note, err := merkle.Checkpoint(f.Dir)
	if err != nil {
		return err
	}
	if note == nil {
		return errNoLog
	}
	log, size, _, err := merkle.CheckpointHead(note)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Dir, err)
	}
	switch {
	case c == nil:
		c = &cursor{V: 1, Log: log, Next: f.at.Next}
	case c.Log != log:
		f.lostOnce(fmt.Sprintf("the log %s, of which %d entries were taken, is no longer there: now it is %s, which is delivered from its beginning", c.Log, c.Next, log))
		c = &cursor{V: 1, Log: log}
	default:
		if err := c.check(f.Dir, size, f.path); err != nil {
			return err
		}
	}
	if m, ok := f.to.(marker); ok {
		if err := m.resume(c.Mark); err != nil {
			return err
		}
	}
	f.at, f.read, f.dirty, f.known = *c, c.Next, true, true
	f.tail = merkle.NewTail(f.Dir, c.Next)
	if err := f.save(); err != nil {
		f.known = false
		return err
	}
	f.saved = f.saved.Add(f.pace.soon - f.pace.save)
	return nil
}

// lostOnce says what find may find again.
func (f *follower) lostOnce(what string) {
	if f.said != what {
		f.said = what
		f.state.lost(what)
	}
}

// take reads the next piece of the log.
func (f *follower) take(ctx context.Context) (bool, error) {
	from := f.read
	p, err := f.tail.Read(ctx, f.pace.entries, f.pace.bytes)
	if errors.Is(err, merkle.ErrCutBack) {
		f.tail.Close()
		f.known = false // find says what it is now
	}
	if err != nil || len(p.Entries) == 0 {
		return false, err
	}
	if first := p.Entries[0].Seq; first > from && f.at.Last != "" {
		f.state.lost(fmt.Sprintf("%d entries, from %d on, were removed because of their age before it had taken them", first-from, from))
	}
	f.read = p.Next
	n := len(f.pending)
	for _, e := range p.Entries {
		if !f.sink.takes(e.Kind) || f.Skip != nil && f.Skip(e) {
			continue
		}
		r, err := entryRecord(p.Log, e, f.enc)
		if err != nil {
			return false, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		f.pending = append(f.pending, r)
	}
	last := &p.Entries[len(p.Entries)-1]
	switch {
	case len(f.pending) == 0:
		f.pass(last)
		return true, nil
	case n == 0:
		f.state.reads(p.Entries[0].Time)
	}
	if p.Size > f.noted {
		r, err := checkpointRecord(&p, f.Now(), f.enc)
		if err != nil {
			return false, err
		}
		f.pending = append(f.pending, r)
	}
	// Those after the last that is delivered are passed with it.
	f.pending[len(f.pending)-1].last = last
	return true, nil
}

// deliver brings what is pending, or a part of it.
func (f *follower) deliver(ctx context.Context) error {
	if len(f.pending) == 0 {
		return nil
	}
	batch := f.pending[:min(len(f.pending), f.most)]
	attempt, cancel := context.WithTimeout(ctx, f.pace.attempt)
	n, err := f.to.deliver(attempt, batch)
	cancel()
	at := f.Now()
	for i := range batch[:n] {
		f.took(&batch[i], at)
	}
	f.pending = f.pending[n:]
	if len(f.pending) == 0 {
		f.pending = nil
	}
	if n > 0 {
		f.state.delivered(n, at)
	}
	var refused *refusedError
	switch {
	case err == nil:
		f.most = min(2*f.most, f.pace.entries+1)
		f.state.works()
	case errors.As(err, &refused) && len(batch)-n > 1:
		f.most = (len(batch) - n) / 2 // which of them is it?
		return nil
	case errors.As(err, &refused):
		return f.refuse(ctx, err)
	}
	return err
}

// refuse judges what was refused alone. It is tried again, for the receiver may be
// mended. But when it was refused for long, and what follows is taken, then it is
// this one that will never be taken: it is passed, and that is said. It must not keep
// an alarm after it from ever being told.
func (f *follower) refuse(ctx context.Context, err error) error {
	r := &f.pending[0]
	err = fmt.Errorf("%s is refused: %w", r.what(), err)
	if id := r.id(); f.refused != id {
		f.refused, f.since = id, f.Now()
	}
	if f.Now().Sub(f.since) < f.pace.stuck {
		return err
	}
	if len(f.pending) == 1 {
		if _, err := f.take(ctx); err != nil {
			return err
		}
	}
	if len(f.pending) == 1 {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, f.pace.attempt)
	defer cancel()
	if _, other := f.to.deliver(attempt, f.pending[1:2]); other != nil {
		return err
	}
	f.state.lost(fmt.Sprintf("%v; what follows is taken, so this is passed over", err))
	at := f.Now()
	f.passed(&f.pending[0])
	f.took(&f.pending[1], at)
	f.pending = f.pending[2:]
	f.state.delivered(1, at)
	f.state.works()
	return nil
}

// took moves the cursor behind what the receiver has.
func (f *follower) took(r *record, at time.Time) {
	if r.note == nil && f.OnDelivered != nil {
		f.OnDelivered(f.sink.Name, r.entry, at)
	}
	f.passed(r)
}

// passed moves the cursor behind a record, and what is passed with it.
func (f *follower) passed(r *record) {
	if r.note != nil {
		f.noted = max(f.noted, r.size)
	} else {
		f.pass(&r.entry)
	}
	if r.last != nil {
		f.pass(r.last)
	}
}

func (f *follower) pass(e *merkle.Entry) {
	if e.Seq < f.at.Next {
		return
	}
	f.at.passed(e)
	f.dirty = true
	f.state.moved(f.at.Next)
}

// save writes the cursor, if it has moved.
func (f *follower) save() error {
	if !f.dirty || !f.known {
		return nil
	}
	if m, ok := f.to.(marker); ok {
		f.at.Mark = m.mark()
	}
	f.saved = f.Now()
	if err := f.at.write(f.path); err != nil {
		return err
	}
	f.dirty = false
	f.state.moved(f.at.Next)
	return nil
}

// rest waits until there may be more, or it is time to save the cursor. It is false
// when nothing came after closing.
func (f *follower) rest(ctx context.Context, changed, closing <-chan struct{}) bool {
	if isClosed(closing) {
		return f.sleep(ctx, f.pace.quiet, changed, nil)
	}
	d := time.Hour
	if f.dirty {
		d = max(0, f.pace.save-f.Now().Sub(f.saved))
	}
	f.sleep(ctx, d, changed, closing)
	return true
}

// sleep is true when one of the channels ended it.
func (f *follower) sleep(ctx context.Context, d time.Duration, changed, closing <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return false
	case <-changed:
		return true
	case <-closing:
		return true
	}
}

// what names a record in errors.
func (r *record) what() string {
	if r.note != nil {
		return fmt.Sprintf("the checkpoint of size %d", r.size)
	}
	return fmt.Sprintf("entry %d", r.entry.Seq)
}
