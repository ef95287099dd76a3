package recorder

import (
	"fmt"
	"time"
)

// Problem says why what happens cannot be kept, "" when it can. While it is not
// empty nothing should be opened.
func (r *Recorder) Problem() string {
	problem, _ := r.State()
	return problem
}

// State is Problem, and whether it is no more than that the log is being opened
// after a start: nothing is known to be wrong, and what happens is kept in its
// source until then. It is that for a bounded time, and until the first attempt
// fails.
func (r *Recorder) State() (problem string, opening bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.problem == "" && !r.busy.IsZero() && time.Since(r.busy) > stalled:
		return "the disk of the audit log does not answer", false
	case r.opening.IsZero():
		return r.problem, false
	case r.full != "":
		return r.full, false
	case time.Since(r.opening) >= openingMost:
		return fmt.Sprintf("%s for more than %v: its disk is slow, or the log is damaged and read as a whole", r.problem, openingMost), false
	}
	return r.problem, true
}

// changed tells that Problem or State may be another.
func (r *Recorder) changed() {
	if r.opts.OnChange != nil {
		r.opts.OnChange()
	}
}

// watchDisk tells what run, which judges everything else, cannot while it waits
// for the disk.
func (r *Recorder) watchDisk() {
	tick := time.NewTicker(stalled / 4)
	defer tick.Stop()
	late := time.AfterFunc(openingMost, r.changed) // whether the disk answers below or not
	defer late.Stop()
	before := false
	for {
		select {
		case <-tick.C:
		case <-r.done:
			return
		}
		r.watchOpening()
		r.mu.Lock()
		now := !r.busy.IsZero() && time.Since(r.busy) > stalled
		r.mu.Unlock()
		if now != before {
			r.changed()
		}
		if now && !before {
			r.log.Error("the disk of the audit log does not answer; nothing opens until it does")
		}
		before = now
	}
}

// watchOpening looks at the space while the log is being opened: Envoy, which
// writes meanwhile, loses lines on a full disk.
func (r *Recorder) watchOpening() {
	r.mu.Lock()
	opening, before := !r.opening.IsZero(), r.full
	r.mu.Unlock()
	if !opening {
		return
	}
	full := ""
	if r.free() < minFree {
		full = r.lowText()
	}
	if full != before {
		r.mu.Lock()
		r.full = full
		r.mu.Unlock()
		r.changed()
	}
}
