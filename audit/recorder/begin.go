package recorder

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// beginWait is how long New waits for the log to be opened: to read all of a
	// damaged one takes long, and closing must not wait for that.
	beginWait = 2 * time.Second
	// openingMost is how long the log may be read at a start before something counts
	// as wrong: many times what it takes to read a whole segment on a busy machine.
	// Until then what is logged waits in its source, as it does when nobody runs.
	openingMost = 30 * time.Second
	// reopen is the time between the first attempts to open the log, reopenMost
	// between later ones.
	reopen, reopenMost = time.Second, 30 * time.Second
)

var errOpening = errors.New("the audit log is being opened")

// New starts to record into the log what journal holds and gets; nil where nothing
// is decided, next to an Envoy in a pod: then OpenUntil says what the journal would
// of openings. A log that cannot be opened is a Problem, and tried
// again: only that another process has it is an error.
func New(open Opener, journal *audit.Journal, o Options) (*Recorder, error) {
	r := &Recorder{
		opts: o, log: o.Log, open: open, source: journal,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), begun: make(chan error, 1),
		settling: make(chan struct{}), began: o.Now(), gateways: map[string]*gateway{}, openings: openings{},
		failed: errOpening, problem: errOpening.Error(), opening: time.Now(), patience: reopen,
	}
	if journal != nil {
		r.sourced = journal.Size()
	}
	go r.run()
	go r.watchDisk()
	select {
	case err := <-r.begun:
		if errors.Is(err, merkle.ErrLocked) {
			return nil, errors.Join(err, r.Close())
		}
	case <-time.After(beginWait):
	}
	return r, nil
}

// begin opens the log and goes on where it ends.
func (r *Recorder) begin() error {
	ledger, recent, err := r.open()
	if err == nil {
		if err = r.resume(ledger); err != nil {
			err = errors.Join(err, ledger.Close())
		}
	}
	if err != nil {
		if errors.Is(r.failed, errOpening) {
			r.log.Error("the audit log cannot be opened; nothing opens until this is mended", "error", err)
		}
		r.failed, r.again, r.patience = err, time.Now().Add(r.patience), min(2*r.patience, reopenMost)
		r.assess()
		return err
	}
	r.ledger, r.failed = ledger, nil
	r.intents.ledger.Store(&ledger)
	r.remember(recent)
	r.mu.Lock()
	r.ready = true
	r.mu.Unlock()
	r.assess()
	return nil
}

// resume reads the journal from where the log has it.
func (r *Recorder) resume(ledger Ledger) (err error) {
	if r.source == nil {
		return nil
	}
	at, id := ledger.Cursors()[journalCursor], r.source.ID()
	was := JournalWas{Known: true, Seq: Taken(at, id)}
	was.Another = at != "" && was.Seq == 0
	if r.control, err = r.source.Control(); err != nil { // from the beginning: the openings of before are to be known
		return err
	}
	if r.taken = was.Seq; was.Another || was.Seq > r.sourced {
		r.addValue(audit.KindProblem, audit.Problem{V: 1, File: "journal", Reason: fmt.Sprintf(
			"it is another one than, or ended before, %s, up to where it was recorded here: it was moved away, restored from a copy or cut; all that it holds now follows", at)}, nil)
		r.taken = 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal = was
	return nil
}

// JournalWas is the journal as the log knew it when it was opened.
type JournalWas struct {
	Known   bool   // the log could be opened
	Another bool   // it was another journal
	Seq     uint64 // its last entry in the log, 0 for none
}

// JournalWas returns what the log knew.
func (r *Recorder) JournalWas() JournalWas {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal
}

const journalCursor = "journal"

// Taken returns the seq of the last entry of the journal with that id which a log
// with such a "journal" cursor has; 0 for none.
func Taken(cursor, id string) uint64 {
	text, ok := strings.CutPrefix(cursor, id+":")
	seq, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return seq
}
