package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// The kinds of entries, in the journal and in the log. Those of requests,
// connections and gaps are in the log only.
const (
	KindActivation = "activation" // a fact of an activation: opened, refused, ended, shortened
	KindPolicy     = "policy"     // a policy or configuration changed
	KindConfig     = "config"     // the manifests changed
	KindRequest    = "request"    // a RequestEntry
	KindStart      = "start"      // serve started
	KindStop       = "stop"       // serve stopped in order
	KindClock      = "clock"      // the wall clock stepped
	KindProblem    = "problem"    // something is wrong: a Problem
	KindGap        = "gap"        // entries were lost: a Gap
	KindLimited    = "limited"    // requests were refused by the rate limit: a Limited
	KindConnection = "connection" // a connection of which no request is logged: a ConnectionEntry

	// kindJournal is the first line of control.jsonl. It is ours alone.
	kindJournal = "journal"
)

// Entry is one line of the journal.
type Entry struct {
	// Seq counts by one, from 1. Append sets it.
	Seq uint64 `json:"seq"`
	// Time is in UTC with microseconds. A zero Time given to Append is replaced by
	// Options.Now.
	Time time.Time `json:"time"`
	// Kind is 1 to 32 of [a-z].
	Kind string `json:"kind"`
	// Data is any JSON value of at most 1 MiB. It must not be changed after it was
	// handed over.
	Data json.RawMessage `json:"data"`
	// Sum is the checksum as in the file, set when read.
	Sum string `json:"sum,omitempty"`
}

// Gap is the data of a KindGap entry.
type Gap struct {
	V      int       `json:"v"` // 1
	Lost   uint64    `json:"lost"`
	Since  time.Time `json:"since,omitzero"` // zero: not known
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`

	// Of one Envoy: what it counted, what the log has of it, and what was under
	// way when it was last asked.
	Gateway  string `json:"gateway,omitempty"`
	Epoch    string `json:"epoch,omitempty"`
	Counted  uint64 `json:"counted,omitempty"`
	Recorded uint64 `json:"recorded,omitempty"`
	InFlight uint64 `json:"inFlight,omitempty"`
	// AtLeast: nobody is left to count; Lost is the least it can be.
	AtLeast bool `json:"atLeast,omitempty"`
}

// Limited is the data of a KindLimited entry: what came in such numbers that it
// has no entry each, or whoever floods the door would fill the disk of the log.
// None of it was let in.
type Limited struct {
	V       int    `json:"v"` // 1
	Gateway string `json:"gateway"`
	Epoch   string `json:"epoch"`
	// Refused by the rate limit; requests that had no good token; and connections of
	// which no request is logged (those over the rate limit are not): all since the
	// entry before.
	Refused     uint64    `json:"refused,omitempty"`
	Requests    uint64    `json:"requests,omitempty"`
	Connections uint64    `json:"connections,omitempty"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
}

// Problem is the data of a KindProblem entry: something that should have been
// recorded cannot be read, should not be there, or was late.
type Problem struct {
	V      int    `json:"v"` // 1
	File   string `json:"file"`
	Reason string `json:"reason"`
}

var (
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("the journal is closed")
	// ErrBroken is returned by Append when an earlier one could neither be
	// completed nor undone.
	ErrBroken = errors.New("the journal is broken until it is opened again")
	// ErrLocked is returned by Open when another process has the directory.
	ErrLocked = errors.New("the journal is in use by another process")
)

// CorruptError says where a file is not as it was written.
type CorruptError struct {
	File   string
	Line   int   // from 1
	Offset int64 // of the line's first byte
	Reason string
	// Last: nothing follows this line.
	Last bool
}

func (e *CorruptError) Error() string {
	remedy := fmt.Sprintf("restore the file from a copy; without one, stop everything that uses it and move %s away: "+
		"serve then starts with an empty journal and refuses every activation without a future notAfter", filepath.Dir(e.File))
	if e.Last {
		remedy += fmt.Sprintf("; if the machine just lost power and this last line was never acknowledged, truncate -s %d %s", e.Offset, e.File)
	}
	return fmt.Sprintf("%s line %d (byte %d): %s: the file was edited or the disk is failing; to go on, %s", e.File, e.Line, e.Offset, e.Reason, remedy)
}
