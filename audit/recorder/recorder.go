package recorder

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// batch is how many entries go to the disk in one write.
	batch = 2000
	// together is how long entries wait for others that share their write: what
	// opens and closes is durable in the journal before.
	together = 10 * time.Millisecond
	// housekeeping is how often health, counters and late rows are looked at.
	housekeeping = 50 * time.Millisecond
	// retry is the time between attempts to write on a disk that fails.
	retry = 250 * time.Millisecond
)

// Ledger is what the recorder needs of a *merkle.Log.
type Ledger interface {
	Append(ctx context.Context, drafts ...merkle.Draft) error
	Cursors() map[string]string
	// Err says why entries cannot be kept, nil when they can.
	Err() error
	Close() error
}

// Opener opens the log. recent are its newest entries, some seconds of them: what
// may come again by another way.
type Opener func() (l Ledger, recent []merkle.Entry, err error)

// Options of New.
type Options struct {
	Log *slog.Logger
	// Now stamps the entries.
	Now func() time.Time
	// DataDir is looked at for free space.
	DataDir string
	// OnChange is called when State may have changed. It must not block.
	OnChange func()

	// free replaces what the disk says in tests.
	free func() int64
}

// Recorder moves entries into the log until Close.
type Recorder struct {
	opts    Options
	log     *slog.Logger
	open    Opener
	source  *audit.Journal // nil: there is none
	sourced uint64         // how many entries the journal had at the start

	wake chan struct{}
	stop chan struct{}
	done chan struct{}
	// begun gets the result of the first attempt to open the log.
	begun chan error

	mu       sync.Mutex
	arrived  []event       // from other goroutines, for run
	problem  string        // why entries cannot be kept, "" when they can
	stats    Stats         //
	settled  uint64        // passes that found nothing left to do
	settling chan struct{} // closed at the next such pass
	closing  bool
	ready    bool // the log is open
	journal  JournalWas
	busy     time.Time // since when the log's disk is waited for
	opening  time.Time // since when the log is being opened for the first time, zero: it was tried
	full     string    // why that is not to be waited for: its disk is almost full

	intents struct {
		ledger atomic.Pointer[Ledger] // nil until the log is open
		kept   atomic.Uint64
	}

	// Below: of the goroutine of run only.
	ledger   Ledger // nil until the log could be opened
	control  *audit.Control
	began    time.Time
	gateways map[string]*gateway
	openings openings
	ending   bool           // nothing is waited for any more
	taken    uint64         // the log has the journal's entries up to here
	drafts   []merkle.Draft // on their way into the log
	after    []func()       // to be done once they are there
	failed   error          // of the last write
	broken   error          // the journal cannot be read on
	low      bool           // the disk is almost full
	again    time.Time      // when to try to write, or to open the log, again
	patience time.Duration  // until the next attempt to open the log
}

// Stats are for metrics.
type Stats struct {
	Entries    uint64 // written since the start
	Requests   uint64 // of these, requests that ended
	Intents    uint64 // of these, intents of requests that were not forwarded yet
	Rescued    uint64 // of these, known from the gRPC access log only
	Missing    uint64 // requests that Envoy counted and the log lacks
	Gaps       uint64 // gap entries written since the start
	Unread     int64  // bytes in spools that are not in the log yet
	Incomplete bool   // the counts of an Envoy and the log differ now
	// Refused are requests that one of our locks refused, by lock, since the start.
	Refused map[string]uint64
}

// event is something that another goroutine tells run.
type event func()

// tell has run do f.
func (r *Recorder) tell(f event) {
	r.mu.Lock()
	r.arrived = append(r.arrived, f)
	r.mu.Unlock()
	r.poke()
}

func (r *Recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// waits notes since when the disk is waited for; zero: it is not.
func (r *Recorder) waits(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = since
}

// Stats returns the present counts.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.stats
	out.Refused = maps.Clone(r.stats.Refused)
	out.Intents = r.intents.kept.Load()
	out.Entries += out.Intents
	return out
}

// Drain waits until what had happened before it was called is in the log.
func (r *Recorder) Drain(ctx context.Context) error {
	r.mu.Lock()
	from := r.settled
	r.mu.Unlock()
	for {
		r.mu.Lock()
		at, next := r.settled, r.settling
		r.mu.Unlock()
		if at >= from+2 { // the first may have begun before the call
			return nil
		}
		r.poke()
		select {
		case <-next:
		case <-r.done:
			return errors.New("the recorder was closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close records what is there, closes the log and ends. What the disk does not
// take stays in its source, for the next start.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if !r.closing {
		r.closing = true
		close(r.stop)
	}
	r.mu.Unlock()
	<-r.done
	var errs []error
	for _, g := range r.gateways {
		errs = append(errs, g.close())
	}
	if r.ledger != nil && r.control != nil {
		errs = append(errs, r.control.Close())
	}
	if r.ledger != nil {
		errs = append(errs, r.ledger.Close())
	}
	return errors.Join(errs...)
}

func (r *Recorder) sourceChanged() <-chan struct{} {
	if r.source == nil {
		return nil // for ever
	}
	return r.source.Changed()
}

// run is the recorder.
func (r *Recorder) run() {
	defer close(r.done)
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	r.begun <- r.begin()
	for {
		changed, began := r.sourceChanged(), time.Now()
		more := r.pass()
		if more {
			continue
		}
		select {
		case <-time.After(time.Until(began.Add(together))):
		case <-r.stop:
			r.last()
			return
		}
		select {
		case <-r.wake:
		case <-changed:
		case <-tick.C:
		case <-r.stop:
			r.last()
			return
		}
	}
}

// last takes what is there, as long as the disk does.
func (r *Recorder) last() {
	r.ending = true
	for range 10_000 {
		if !r.pass() {
			break
		}
	}
	if len(r.drafts) > 0 {
		r.log.Error("entries could not be written to the audit log; they are taken at the next start", "count", len(r.drafts), "error", r.failed)
	}
}

// pass takes the next part of what there is and writes it. It reports whether
// there is more to do at once.
func (r *Recorder) pass() (more bool) {
	if r.ledger == nil && (r.ending || time.Now().Before(r.again) || r.begin() != nil) {
		r.assess()
		return false
	}
	r.mu.Lock()
	arrived := r.arrived
	r.arrived = nil
	r.mu.Unlock()
	for _, f := range arrived {
		f()
	}
	if len(r.drafts) == 0 {
		more = r.collect()
	}
	if r.write() {
		r.assess()
	}
	if !more && len(r.drafts) == 0 && !r.holds() {
		r.settle()
	}
	return more && len(r.drafts) == 0
}

// holds reports whether lines wait for what the journal says.
func (r *Recorder) holds() bool {
	for _, g := range r.gateways {
		if len(g.held) > 0 {
			return true
		}
	}
	return false
}

func (r *Recorder) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled++
	close(r.settling)
	r.settling = make(chan struct{})
}

// collect makes drafts of what there is, the journal first: what opened a door
// comes before what went through it.
func (r *Recorder) collect() (more bool) {
	more = r.collectControl()
	for _, g := range r.gateways {
		more = r.collectGateway(g) || more
	}
	return more
}

func (r *Recorder) collectControl() (more bool) {
	if r.source == nil || r.broken != nil {
		return false
	}
	for len(r.drafts) < batch {
		entries, err := r.control.Next()
		if err != nil {
			r.broken = err
			r.log.Error("the journal cannot be read on for the audit log", "error", err)
			return false
		}
		if entries == nil {
			return false
		}
		for _, e := range entries {
			r.openings.note(&e, r.opts.Now())
			if e.Seq <= r.taken {
				r.learn(&e)
				continue
			}
			at := r.source.ID() + ":" + strconv.FormatUint(e.Seq, 10)
			r.add(merkle.Draft{Time: e.Time, Kind: e.Kind, Data: e.Data, Cursors: map[string]string{journalCursor: at}})
		}
	}
	return true
}

func (r *Recorder) add(d merkle.Draft) {
	if d.Time.IsZero() {
		d.Time = r.opts.Now()
	}
	r.drafts = append(r.drafts, d)
}

// addValue makes the draft of a value of package audit.
func (r *Recorder) addValue(kind string, v any, cursors map[string]string) {
	data, err := merkle.EncodeData(v)
	if err != nil {
		// Structs of strings, numbers and times in range.
		r.log.Error("audit entry lost", "kind", kind, "error", err)
		return
	}
	r.add(merkle.Draft{Kind: kind, Data: data, Cursors: cursors})
}

// write brings the drafts into the log. It reports whether nothing is left.
func (r *Recorder) write() bool {
	if len(r.drafts) == 0 {
		return true
	}
	if r.failed != nil && time.Now().Before(r.again) {
		return false
	}
	r.waits(time.Now())
	err := r.ledger.Append(context.Background(), r.drafts...)
	r.waits(time.Time{})
	if err != nil {
		if r.failed == nil {
			r.log.Error("the audit log cannot be written; nothing opens until this is mended", "error", err)
		}
		r.failed, r.again = err, time.Now().Add(retry)
		r.assess()
		return false
	}
	if r.failed != nil {
		r.log.Info("the audit log is written again")
	}
	r.failed = nil
	r.mu.Lock()
	r.stats.Entries += uint64(len(r.drafts))
	r.mu.Unlock()
	r.drafts = nil
	for _, f := range r.after {
		f()
	}
	r.after = nil
	return true
}
