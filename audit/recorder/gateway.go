package recorder

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
)

// Tail is what the recorder needs of a *spool.Tail.
type Tail interface {
	Read(max int) (records []spool.Record, more bool, err error)
	Changed() <-chan struct{}
	Committed(position string) error
	Bytes() int64
	Close() error
}

// Requests that an Envoy has counted: begun, and of these not yet ended.
type Requests struct{ Total, Active uint64 }

// Counters are Envoy's own, of one epoch.
type Counters struct {
	Epoch string
	// Chains count by filter chain. Envoy forgets those of a chain that it no longer
	// has.
	Chains map[string]Requests
	// Limited are requests, of all chains, that were refused because there were too
	// many: Envoy logs none of them.
	Limited uint64
	// WriteFailed counts writes of the spool that failed, Buffered is how many bytes
	// wait to be written to it.
	WriteFailed, Buffered uint64
}

// ErrNoProcess is returned by Source.Counters while no Envoy runs.
var ErrNoProcess = errors.New("no Envoy runs")

// Source is one Gateway's Envoy.
type Source struct {
	Gateway string // namespace/name, as in the requests of the gRPC access log
	// Open opens the tail of the spool at a position.
	Open func(position string) (Tail, error)
	// Counters asks Envoy. It may fail at any time.
	Counters func(context.Context) (Counters, error)
}

// gateway is what run knows of a Source.
type gateway struct {
	name     string
	source   Source
	tail     Tail
	held     []line // read, and not in the log yet
	openErr  error
	openAt   time.Time // when to try again
	stop     context.CancelFunc
	position string
	released string // the position behind the last line that was dealt with
	placed   string // the one in the last entry that has one
	strangers

	epochs map[string]*epoch

	lines   *keys            // of requests whose line came before the gRPC row
	rescued *keys            // of requests that were taken from gRPC
	waiting map[string]*late // rows from gRPC whose line has not come
	queue   []*late          // the same, oldest first
	talked  map[string]bool  // connections of this epoch that made a request

	ended   []exit    // Envoys that ended and are not accounted for
	caught  time.Time // the tail had all that was written before
	unread  int64
	readErr error
	tidyErr error
	health
}

// line is one record of the spool. again: its request was taken from gRPC before.
type line struct {
	spool.Record
	again bool
}

// exit is the end of an Envoy process.
type exit struct {
	epoch string
	clean bool
	seen  time.Time
}

// Attach begins to take what the Envoy of a Gateway logs. A Gateway that is
// attached again goes on where it was.
func (r *Recorder) Attach(s Source) {
	r.tell(func() {
		g := r.gateway(s.Gateway)
		if g.stop != nil {
			g.stop()
		}
		g.source = s
		ctx, cancel := context.WithCancel(context.Background())
		g.stop = cancel
		go r.poll(ctx, s)
	})
}

// Exited says that an Envoy process has ended: not clean, if it was killed or
// crashed and may not have written its last lines.
func (r *Recorder) Exited(gateway, epoch string, clean bool) {
	now := time.Now()
	r.tell(func() {
		g := r.gateway(gateway)
		g.exited(exit{epoch, clean, now})
	})
}

// exited notes the end of an Envoy, once.
func (g *gateway) exited(x exit) {
	if !slices.ContainsFunc(g.ended, func(y exit) bool { return y.epoch == x.epoch }) {
		g.ended = append(g.ended, x)
	}
}

func (r *Recorder) gateway(name string) *gateway {
	g := r.gateways[name]
	if g == nil {
		cursors := r.ledger.Cursors()
		g = &gateway{
			name: name, position: cursors["spool/"+name],
			epochs: epochsOf(name, cursors), lines: newKeys(), rescued: newKeys(), waiting: map[string]*late{}, talked: map[string]bool{},
		}
		r.gateways[name] = g
	}
	return g
}

func (g *gateway) close() error {
	if g.stop != nil {
		g.stop()
	}
	if g.tail == nil {
		return nil
	}
	return g.tail.Close()
}

// maxHeld bounds what is read ahead of a line that waits.
const maxHeld = 20_000

// collectGateway takes the next lines of a Gateway's spool.
func (r *Recorder) collectGateway(g *gateway) (more bool) {
	if g.source.Open == nil || len(r.drafts) >= batch {
		return g.source.Open != nil
	}
	began := time.Now()
	if !r.openTail(g, began) {
		return false
	}
	if len(g.held) < maxHeld {
		records, unread, err := g.tail.Read(batch)
		if err != nil {
			if g.readErr == nil {
				r.log.Error("the spool cannot be read", "gateway", g.name, "error", err)
			}
			g.readErr = err
			return false
		}
		g.readErr, more = nil, unread
		for _, rec := range records {
			g.arrived(rec)
		}
		if !more {
			g.caught = began
		}
	}
	r.release(g)
	if !more {
		r.rescue(g, began)
		g.sample()
		r.bury(g)
	}
	g.unread = g.tail.Bytes()
	return more
}

// arrived takes a line in. What belongs to it elsewhere is looked for at once,
// however long it has to wait.
func (g *gateway) arrived(rec spool.Record) {
	l := line{Record: rec}
	if row := rec.Row; row != nil && row.Request != nil {
		if row.Connection != "" {
			g.talked[talk(row.Epoch, row.Connection)] = true
		}
		if row.Type == spool.TypeEnd {
			if l.again = g.rescued.take(row.Key); !l.again {
				g.lineCame(row.Key)
				g.epoch(row.Epoch).held++
			}
		}
	}
	g.held = append(g.held, l)
}

// release makes entries of lines, in order, up to the first one that waits for
// what the journal says.
func (r *Recorder) release(g *gateway) {
	position, n := "", 0
	for ; n < len(g.held) && !r.undecided(g.held[n].Row); n++ {
		if r.record(g, &g.held[n]) {
			position = g.held[n].Position
			g.placed = position
		}
		g.released = g.held[n].Position
	}
	if g.held = g.held[n:]; len(g.held) == 0 {
		g.held = nil
	}
	if position != "" {
		r.after = append(r.after, func() { r.committed(g, position) })
	}
}

func (r *Recorder) openTail(g *gateway, now time.Time) bool {
	if g.tail != nil {
		return true
	}
	if now.Before(g.openAt) {
		return false
	}
	tail, err := g.source.Open(g.position)
	if err != nil {
		if g.openErr == nil {
			r.log.Error("the spool cannot be opened", "gateway", g.name, "error", err)
		}
		g.openErr, g.openAt = err, now.Add(retry)
		return false
	}
	g.tail, g.openErr = tail, nil
	go r.watch(tail)
	return true
}

// watch wakes run when there is more in a spool.
func (r *Recorder) watch(tail Tail) {
	for {
		select {
		case _, open := <-tail.Changed():
			if !open {
				return
			}
			r.poke()
		case <-r.done:
			return
		}
	}
}

func (r *Recorder) committed(g *gateway, position string) {
	g.position = position
	err := g.tail.Committed(position)
	if err != nil && g.tidyErr == nil {
		r.log.Warn("the spool cannot be tidied up", "gateway", g.name, "error", err)
	}
	g.tidyErr = err
}

// undecided reports whether it is not known yet why a request was aborted.
func (r *Recorder) undecided(row *spool.Row) bool {
	if row == nil || row.Request == nil || !aborted(row.Request) {
		return false
	}
	cut, known := r.openings.cut(row.Request, time.Now())
	if cut {
		row.Request.Cut = audit.CutClosed
	}
	return !known && !r.ending && r.source != nil // or it was said before
}

// record makes an entry of one line. It reports whether there is one: only then
// is the line's place in the log.
func (r *Recorder) record(g *gateway, l *line) bool {
	row := l.Row
	switch {
	case row == nil:
		r.addValue(audit.KindProblem, audit.Problem{V: 1, File: "spool of " + g.name, Reason: l.Problem + ": " + l.Raw}, g.place(l.Position))
		return true
	case row.Type == spool.TypeConnection:
		return r.connection(g, row, l.Position)
	}
	row.Request.Gateway = g.name
	switch {
	case row.Type == spool.TypeOpen:
		if stranger(row.Request) && !g.strangers.take(time.Now()) {
			return false // its end is counted
		}
		r.addValue(audit.KindRequest, row.Request, g.place(l.Position))
	case l.again:
		// The line is not lost: it says the same, and the log says that it came.
		r.addValue(audit.KindProblem, audit.Problem{V: 1, File: "spool of " + g.name,
			Reason: "the line of request " + row.Key + " came after its gRPC row was taken; it is in the log once"}, g.place(l.Position))
	case stranger(row.Request) && !g.strangers.take(time.Now()):
		e := g.epoch(row.Epoch)
		e.held--
		e.limited.all.requests++
		r.noteRefused(row.Request)
		return false // the next entry moves the cursor
	default:
		g.epoch(row.Epoch).held--
		r.take(g, row.Request, g.place(l.Position))
	}
	return true
}

// place is what the entry of a line says besides: that the log has the spool up to
// there, and how much of that has no entry. One without the other would, after a
// crash, count lines twice or not at all. So it is for an entry that is made now.
func (g *gateway) place(position string) map[string]string {
	cursors := map[string]string{"spool/" + g.name: position}
	for _, e := range g.epochs {
		e.limited.save(e, cursors)
	}
	return cursors
}

// connection logs a connection of which no request is in the spool.
func (r *Recorder) connection(g *gateway, row *spool.Row, position string) bool {
	id := talk(row.Epoch, row.Connection)
	if g.talked[id] {
		delete(g.talked, id)
		return false // the next entry moves the cursor
	}
	if !g.strangers.take(time.Now()) {
		g.epoch(row.Epoch).limited.all.connections++
		return false
	}
	row.Closed.Gateway = g.name
	row.Closed.Uncertain = row.Closed.Start.Before(r.began)
	r.addValue(audit.KindConnection, row.Closed, g.place(position))
	return true
}

// noteRefused counts a request that was refused at a lock: what it says first is
// which.
func (r *Recorder) noteRefused(e *audit.RequestEntry) {
	if e.Denied == "" {
		return
	}
	lock, _, _ := strings.Cut(e.Denied, ":")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stats.Refused == nil {
		r.stats.Refused = map[string]uint64{}
	}
	r.stats.Refused[strings.ReplaceAll(lock, " ", "_")]++
}

func talk(epoch, connection string) string { return epoch + "/" + connection }

// take numbers a request that ended and logs it. One that came by gRPC has no
// place in the spool, so none may be in cursors.
func (r *Recorder) take(g *gateway, e *audit.RequestEntry, cursors map[string]string) {
	ep := g.epoch(e.Epoch)
	ep.count++
	e.N = ep.count
	cursors[ep.cursor("count")] = strconv.FormatUint(ep.count, 10)
	if ep.forgot != ep.saved {
		ep.saved = ep.forgot
		cursors[ep.cursor("forgot")] = strconv.FormatUint(ep.forgot, 10)
	}
	r.addValue(audit.KindRequest, e, cursors)
	r.noteRefused(e)
	via := e.Via
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Requests++
	if via != "" {
		r.stats.Rescued++
	}
}
