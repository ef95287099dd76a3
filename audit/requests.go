package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// syncEvery bounds what a power loss takes of the request log. With the sync
// itself it stays under 100 ms on a disk that syncs in 20.
const syncEvery = 80 * time.Millisecond

// maxUnsynced bounds the lines held for a disk that does not take them; beyond
// it entries wait in the queue, and then are lost.
const maxUnsynced = 8 << 20

// requestLog writes the requests files. Its queue is filled by anyone, the
// rest belongs to the goroutine of run.
type requestLog struct {
	dir    string
	opts   Options
	log    *slog.Logger
	notify func()

	mu      sync.Mutex
	queue   []Entry
	bytes   int
	drop    Gap    // not yet in a gap entry
	lost    uint64 // since Open
	waiting int    // in lines
	onDisk  uint64
	closed  bool
	failed  error

	wake chan struct{}
	done chan struct{}

	f       file
	name    string
	seq     uint64 // of the next line
	size    int64  // of f, synced
	lines   []byte // from size on; not synced
	count   int    // entries in lines
	written int    // bytes of lines that are in the file
	dirty   bool   // a write or sync failed: cut to size and begin again
	due     *time.Timer
}

func requestFileName(seq uint64) string { return fmt.Sprintf("requests-%016d.jsonl", seq) }

// firstSeq reads the name of a requests file.
func firstSeq(name string) (uint64, bool) {
	s, ok := strings.CutPrefix(name, "requests-")
	s, ok2 := strings.CutSuffix(s, ".jsonl")
	n, err := strconv.ParseUint(s, 10, 64)
	return n, ok && ok2 && err == nil && name == requestFileName(n)
}

// openRequests finds where the request log ended.
func openRequests(dir string, o Options, notify func(), note func(string)) (*requestLog, error) {
	q := &requestLog{
		dir: dir, opts: o, log: o.Log, notify: notify, seq: 1,
		wake: make(chan struct{}, 1), done: make(chan struct{}), due: time.NewTimer(math.MaxInt64),
	}
	names, err := requestFiles(dir)
	if err != nil || len(names) == 0 {
		return q, err
	}
	q.name = names[len(names)-1]
	size, err := q.scanLast(note)
	if err != nil {
		return nil, err
	}
	q.onDisk = q.seq - 1
	if q.f, err = o.open(q.path(), 0); err != nil {
		return nil, err
	}
	if size != q.size {
		note(fmt.Sprintf("%s: the last line was not written to its end: cut %d bytes", q.path(), size-q.size))
		if err := errors.Join(q.f.Truncate(q.size), q.f.Sync()); err != nil {
			return nil, errors.Join(fmt.Errorf("repair the end of %s: %w", q.path(), err), q.f.Close())
		}
	}
	return q, nil
}

func (q *requestLog) path() string { return filepath.Join(q.dir, q.name) }

// scanLast sets seq and size from the last file. Damage is said, and stops
// nothing: the door needs the control entries only.
func (q *requestLog) scanLast(note func(string)) (size int64, err error) {
	f, err := os.OpenFile(q.path(), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	q.seq, _ = firstSeq(q.name)
	lines, bad, full := lineReader{r: f}, 0, false
	for {
		line, err := lines.next(math.MaxInt64)
		if errors.Is(err, errTooLong) {
			// Not ours. Where the next line begins cannot be told, so this file
			// is left alone and the next entry begins another.
			bad, q.seq, full = bad+1, q.seq+1, true
			break
		}
		if err != nil {
			return 0, err
		}
		if line == nil {
			break
		}
		if _, seq, err := checkRequest(line); err != nil {
			bad, q.seq = bad+1, q.seq+1
		} else {
			q.seq = max(q.seq, seq+1)
		}
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if bad > 0 {
		note(fmt.Sprintf("%s: %d lines are corrupt; they stay as they are", q.path(), bad))
	}
	q.size = lines.offset()
	if full {
		q.size = max(st.Size(), q.opts.RequestFileBytes)
		return q.size, nil
	}
	return st.Size(), nil
}

// add queues e. It takes a mutex that is held for moments only, never while
// the disk works.
func (q *requestLog) add(e Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = q.opts.Now()
	}
	if q.closed || len(q.queue) >= q.opts.QueueEntries || q.bytes+len(e.Data) > q.opts.QueueBytes {
		if q.drop.Lost == 0 {
			q.drop = Gap{V: 1, Since: e.Time, Reason: "the queue was full: the disk or the processor is too slow, or the disk is full"}
		}
		q.drop.Lost++
		q.drop.Until = e.Time
		q.lost++
		wake(q.wake)
		return
	}
	q.queue = append(q.queue, e)
	q.bytes += len(e.Data)
	wake(q.wake)
}

func (q *requestLog) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Requests: q.onDisk, Lost: q.lost, Waiting: len(q.queue) + q.waiting}
}

func (q *requestLog) err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

// run is the writer.
func (q *requestLog) run() {
	defer close(q.done)
	armed := false
	for {
		closed, now := false, false
		select {
		case <-q.wake:
		case <-q.due.C:
			armed, now = false, true
		}
		left := !q.take()
		q.mu.Lock()
		closed = q.closed
		q.mu.Unlock()
		q.push(now || closed || (left && !q.dirty))
		if left && len(q.lines) == 0 {
			wake(q.wake)
		}
		if closed {
			q.take() // what was dropped while the disk failed
			q.push(true)
			return
		}
		if len(q.lines) > 0 && !armed {
			q.due.Reset(syncEvery)
			armed = true
		}
	}
}

// take moves the queue into lines, with a gap entry for what was dropped. It is
// false when there are too many lines already.
func (q *requestLog) take() bool {
	if len(q.lines) >= maxUnsynced {
		return false
	}
	q.mu.Lock()
	queue, drop := q.queue, q.drop
	q.queue, q.bytes, q.drop = nil, 0, Gap{}
	q.mu.Unlock()
	for _, e := range queue {
		if err := q.line(e); err != nil {
			q.log.Error("request entry lost", "error", err)
			q.mu.Lock()
			q.lost++
			q.mu.Unlock()
			q.gap(Gap{V: 1, Lost: 1, Since: e.Time, Until: e.Time, Reason: err.Error()})
		}
	}
	if drop.Lost > 0 {
		q.log.Error("request entries lost", "count", drop.Lost, "reason", drop.Reason)
		q.gap(drop)
	}
	q.mu.Lock()
	q.waiting = q.count
	q.mu.Unlock()
	return true
}

func (q *requestLog) gap(g Gap) {
	g.Since, g.Until = g.Since.UTC(), g.Until.UTC()
	data, err := json.Marshal(g)
	if err == nil {
		err = q.line(Entry{Time: g.Until, Kind: KindGap, Data: data})
	}
	if err != nil {
		q.log.Error("gap entry lost", "error", err, "lost", g.Lost)
	}
}

func (q *requestLog) line(e Entry) error {
	e, err := normal(e, maxRequestData)
	if err != nil {
		return err
	}
	e.Seq = q.seq
	q.lines = appendRequest(q.lines, e)
	q.seq++
	q.count++
	return nil
}

// push brings lines to the disk: into the file at once, so that they survive
// this process, and synced when it is time.
func (q *requestLog) push(sync bool) {
	if len(q.lines) == 0 || (q.dirty && !sync) {
		return
	}
	err := q.tryPush(sync)
	q.mu.Lock()
	before := q.failed
	q.failed = err
	if sync && err == nil {
		q.onDisk, q.waiting = q.seq-1, 0
	}
	q.mu.Unlock()
	switch {
	case err != nil:
		q.dirty = true
		if before == nil {
			q.log.Error("request entries cannot be written, trying again", "error", err)
		}
		return
	case before != nil:
		q.log.Info("request entries are written again", "file", q.path())
	}
	q.notify()
	if !sync {
		return
	}
	q.size += int64(len(q.lines))
	q.lines, q.count, q.written = q.lines[:0], 0, 0
	if cap(q.lines) > 1<<20 {
		q.lines = nil
	}
}

func (q *requestLog) tryPush(sync bool) error {
	if q.f != nil && q.written == 0 && !q.dirty && q.size >= q.opts.RequestFileBytes {
		// All of it is synced: nothing to learn from closing.
		_ = q.f.Close()
		q.f = nil
	}
	if q.f == nil {
		if err := q.create(); err != nil {
			return err
		}
	}
	if q.dirty {
		if err := q.f.Truncate(q.size); err != nil {
			return fmt.Errorf("cut %s: %w", q.path(), err)
		}
		q.written = 0
	}
	n, err := q.f.WriteAt(q.lines[q.written:], q.size+int64(q.written))
	if err != nil {
		return fmt.Errorf("write %s: %w", q.path(), err)
	}
	q.written += n
	q.dirty = false
	if sync {
		return q.f.Sync()
	}
	return nil
}

// create begins the next file.
func (q *requestLog) create() error {
	name := requestFileName(q.seq - uint64(q.count))
	f, err := q.opts.open(filepath.Join(q.dir, name), os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err := syncDir(q.dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(filepath.Join(q.dir, name)))
	}
	q.f, q.name, q.size, q.written, q.dirty = f, name, 0, 0, false
	return nil
}

// close ends run and reports what could not be kept.
func (q *requestLog) close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	wake(q.wake)
	<-q.done
	q.due.Stop()
	var errs []error
	q.mu.Lock()
	left := q.waiting + len(q.queue)
	q.lost += uint64(left)
	err := q.failed
	q.mu.Unlock()
	if left > 0 {
		errs = append(errs, fmt.Errorf("%d request entries could not be written: %w", left, err))
	}
	if q.f != nil {
		errs = append(errs, q.f.Close())
	}
	return errors.Join(errs...)
}
