package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// Sink takes a new checkpoint to a second place. It must return when ctx ends.
type Sink = func(ctx context.Context, checkpoint []byte) error

// Options of a Log. The zero value is good.
type Options struct {
	// Log is where cut lines, failing disks and failing sinks are reported.
	// Default slog.Default().
	Log *slog.Logger
	// Now stamps entries without a time. Default time.Now.
	Now func() time.Time
	// SegmentBytes is the size at which a segment is followed by the next.
	// Default 64 MiB.
	SegmentBytes int64
	// Retention is how old the newest entry of a segment must be for the segment
	// to be removed. Default 400 days; below 0: for ever.
	Retention time.Duration
	// Hold is the seq from which on nothing is removed, however old it is: somebody
	// has not got it yet. Default: nothing is held.
	Hold func() uint64
	// Short says that there is little room: then what is not held is removed however
	// young it is, by whole segments. It is asked every minute. Default: never.
	Short func() bool
	// Origin names a new log in its checkpoints; without spaces and plus signs.
	// Default "breakglass.dev/log/" and a random id. An existing log keeps its own.
	Origin string
	// Witnesses get each new checkpoint, each in its own goroutine, the newest
	// only, and again after an error. They never delay Append.
	Witnesses []Sink

	// open replaces durable.Open in tests.
	open func(path string, flag int) (file, error)
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Retention == 0 {
		o.Retention = 400 * 24 * time.Hour
	}
	if o.Hold == nil {
		o.Hold = func() uint64 { return math.MaxUint64 }
	}
	if o.Short == nil {
		o.Short = func() bool { return false }
	}
	if o.open == nil {
		o.open = durable.Open
	}
}

// tip is the end of the log: what the next entry needs to know.
type tip struct {
	tree    frontier
	vkey    string // of the signing key
	cursors map[string]string
}

// Log is the open log of a directory. Its methods may be called concurrently.
type Log struct {
	dir    string
	opts   Options
	lock   *os.File
	notes  []string
	origin string

	mu       sync.Mutex
	pending  []*batch
	closed   bool  // no more is taken
	failed   error // of the last append
	unsigned error // of the last checkpoint
	tip      tip   // what counts; moved by the writer only
	note     []byte
	changed  chan struct{} // closed, and replaced, when there is more to read

	wake, signWake, tidyWake chan struct{}
	stop                     context.CancelFunc
	others, senders          sync.WaitGroup
	written                  chan struct{} // closed: the writer has ended
	closing                  chan struct{} // closed: the last checkpoint is signed

	// The writer's own.
	seg     file
	segName string
	segSize int64
	hashes  file
	undo    func() error // what a failed append has left to do
	lines   []byte
	stored  []byte

	tidyMu   sync.Mutex
	rotateMu sync.Mutex
	signMu   sync.Mutex
	keys     []signingKey // two while the key is being changed
	pub      []string     // of audit.pub; after Open of rotateMu
	signed   uint64       // the size that note is of
	sinks    []*sink
}

// Open opens the log in dir, which is made when it is not there, and verifies
// its end against its checkpoint. Only one process can have it open.
func Open(dir string, o Options) (_ *Log, err error) {
	o.defaults()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(dir, "audit log", ErrLocked)
	if err != nil {
		return nil, err
	}
	l := &Log{
		dir: dir, opts: o, lock: lock, changed: make(chan struct{}),
		wake: make(chan struct{}, 1), signWake: make(chan struct{}, 1), tidyWake: make(chan struct{}, 1),
		written: make(chan struct{}), closing: make(chan struct{}),
	}
	if err := l.start(); err != nil {
		_ = l.closeFiles() // the error is known
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return l, nil
}

// start reads or makes the files and then starts the goroutines.
func (l *Log) start() error {
	if err := l.recover(); err != nil {
		return err
	}
	for _, s := range l.opts.Witnesses {
		l.sinks = append(l.sinks, newSink(s, l.opts.Log))
	}
	if err := l.sign(); err != nil {
		// On a full disk nothing can be signed. What is there can be read, and what frees
		// the disk may wait for that.
		if l.tip.tree.n == 0 || len(l.keys) > 1 || !errors.Is(err, unix.ENOSPC) {
			return err
		}
		l.opts.Log.Error("audit entries cannot be signed", "dir", l.dir, "error", err)
		wake(l.signWake)
	}
	if len(l.keys) > 1 {
		if err := l.finishKey(); err != nil {
			return fmt.Errorf("bring the change of the signing key to its end: %w", err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go l.write()
	l.others.Go(l.signLoop)
	l.others.Go(l.tidyLoop)
	for _, s := range l.sinks {
		l.senders.Go(func() { s.run(ctx, l.closing) })
	}
	return nil
}

// Close waits for the appends that are under way, signs what they wrote, gives
// the witnesses some seconds for it, and closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	wake(l.wake)
	<-l.written
	l.others.Wait()
	err := l.sign()
	close(l.closing)
	late := time.AfterFunc(closeTimeout, l.stop)
	sent := make(chan struct{})
	go func() { l.senders.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-time.After(closeTimeout + time.Second):
		l.opts.Log.Warn("a witness of checkpoints did not return", "dir", l.dir)
	}
	late.Stop()
	l.stop()
	if err = errors.Join(err, l.hashes.Sync(), l.closeFiles()); err != nil {
		return fmt.Errorf("close the audit log: %w", err)
	}
	return nil
}

// closeFiles gives up the files and, last, the lock.
func (l *Log) closeFiles() error {
	var err error
	for _, f := range []file{l.seg, l.hashes} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, l.lock.Close())
}

// recovered keeps and logs what Open found and repaired.
func (l *Log) recovered(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	l.notes = append(l.notes, what)
	l.opts.Log.Warn("audit log repaired", "what", what)
}

// Recovered says what a crash had left and Open has repaired; nil when nothing.
func (l *Log) Recovered() []string { return l.notes }

// Cursor returns up to where the log has taken the source; "" when nothing.
func (l *Log) Cursor(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tip.cursors[name]
}

// Cursors returns all cursors.
func (l *Log) Cursors() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.tip.cursors)
}

// Size returns how many entries are durable, over all time.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tip.tree.n
}

// Origin names the log in its checkpoints.
func (l *Log) Origin() string { return l.origin }

// Keys are the verifier keys of the log, the newest last: what is in audit.pub.
func (l *Log) Keys() []string {
	l.rotateMu.Lock()
	defer l.rotateMu.Unlock()
	return slices.Clone(l.pub)
}

// Checkpoint returns the newest signed checkpoint, as it is in the file.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.note)
}

// Err returns why the last append failed, or why what was appended cannot be
// signed; nil when all is well.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	return l.unsigned
}

// Changed returns a channel that is closed when there is more to read than now.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
