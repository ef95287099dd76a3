package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
)

const (
	// maxEpochs bounds how many lives of Envoys are under way at once in a log that
	// somebody made up.
	maxEpochs = 1 << 16
	// recentKeys is how many requests are compared by key.
	recentKeys = 1 << 16
	// maxFindings bounds what is kept of what is wrong; the rest is counted.
	maxFindings = 1000
)

// counter checks what lies above the tree, one entry after the other, in bounded
// memory: that requests are numbered without holes and doubles within each life
// of an Envoy, that the cursors of the entries say the same, and that nothing was
// taken twice from its source.
type counter struct {
	kinds    map[string]uint64
	gaps     []merkle.Entry
	lost     uint64
	problems uint64
	notes    []string

	findings []merkle.Finding
	more     uint64 // findings that were not kept

	next      uint64 // the seq that should follow
	journal   uint64
	journalID string
	epochs    map[string]*uint64 // "GATEWAY EPOCH": requests so far
	spools    map[string]string  // gateway: position
	keys      map[[16]byte]uint64
	intents   map[[16]byte]bool // of requests that have no end so far
	ring      [][16]byte
	oldest    int    // in ring, once that is full
	name      []byte // of a cursor; used again and again
}

func newCounter() *counter {
	return &counter{
		kinds: map[string]uint64{}, epochs: map[string]*uint64{}, spools: map[string]string{},
		keys: map[[16]byte]uint64{}, intents: map[[16]byte]bool{},
	}
}

func (c *counter) wrong(seq uint64, remedy, format string, args ...any) {
	if len(c.findings) >= maxFindings {
		c.more++
		return
	}
	c.findings = append(c.findings, merkle.Finding{Seq: seq, Problem: fmt.Sprintf(format, args...), Remedy: remedy})
}

const (
	remedyNumber = "who wrote this log was not breakglass alone, or it is a bug: compare with a copy from elsewhere, keep both, and report it"
	remedyRead   = "a later version may have written it: verify with that one"
)

// take one entry.
func (c *counter) take(e merkle.Entry) error {
	if len(c.kinds) < 1000 || c.kinds[e.Kind] > 0 {
		c.kinds[e.Kind]++
	}
	follows := e.Seq == c.next && e.Seq > 0
	c.next = e.Seq + 1
	switch e.Kind {
	case merkle.KindSegment:
		if !follows {
			c.begin(e)
		}
		return nil // the cursors of all sources as they stand
	case audit.KindRequest:
		c.request(e)
	case recorder.KindEpoch:
		c.epoch(e)
	case audit.KindGap:
		c.gap(e)
	case audit.KindProblem:
		c.problems++
	}
	c.cursors(e)
	return nil
}

// begin with what the entries before came to: retention has removed them, maybe
// just now.
func (c *counter) begin(e merkle.Entry) {
	c.journalID, c.journal = "", 0
	clear(c.epochs)
	clear(c.spools)
	for name, text := range e.Cursors {
		kind, of, _ := strings.Cut(name, "/")
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case name == "journal":
			c.journalID, c.journal, _ = journalPosition(text)
		case kind == "count" && err == nil && len(c.epochs) < maxEpochs:
			c.epochs[of] = &n
		case kind == "spool":
			c.spools[of] = text
		}
	}
}

func (c *counter) request(e merkle.Entry) {
	r, err := readNumbered(e.Data)
	if err != nil {
		c.wrong(e.Seq, remedyRead, "this request cannot be read: %v", err)
		return
	}
	c.intent(r)
	if string(r.typ) != audit.TypeEnd {
		return
	}
	c.name = append(append(append(append(c.name[:0], "count/"...), r.gateway...), ' '), r.epoch...)
	of := c.name[len("count/"):]
	last := c.epochs[string(of)]
	switch {
	case last == nil && len(c.epochs) >= maxEpochs:
		c.wrong(e.Seq, remedyNumber, "more than %d Envoys are under way at once", maxEpochs)
		return
	case last == nil:
		last = new(uint64)
		c.epochs[string(of)] = last
	}
	switch {
	case r.n == *last+1:
	case r.n <= *last:
		c.wrong(e.Seq, remedyNumber, "request number %d of Envoy %s of Gateway %s is in the log again: the last one had number %d", r.n, r.epoch, r.gateway, *last)
	default:
		c.wrong(e.Seq, remedyNumber, "%s not in the log", span("request", fmt.Sprintf("Envoy %s of Gateway %s", r.epoch, r.gateway), *last+1, r.n-1))
	}
	*last = max(*last, r.n)
	if text, ok := e.Cursors[string(c.name)]; ok && text != strconv.FormatUint(r.n, 10) {
		c.wrong(e.Seq, remedyNumber, "this is request number %d by its data and %s by its cursor", r.n, text)
	}
	// What Envoy rejected before it gave a stream id has the time in its key, and
	// two requests of one connection may come in the same microsecond.
	if bytes.IndexByte(r.key, '@') < 0 {
		c.key(e.Seq, append(append(of, ' '), r.key...))
	}
}

// key compares with the last requests.
func (c *counter) key(seq uint64, key []byte) {
	sum := sha256.Sum256(key)
	k := [16]byte(sum[:16])
	if at, twice := c.keys[k]; twice {
		c.wrong(seq, remedyNumber, "the same request is in the log already, as entry %d", at)
		return
	}
	c.keys[k] = seq
	if len(c.ring) < recentKeys {
		c.ring = append(c.ring, k)
		return
	}
	delete(c.keys, c.ring[c.oldest])
	c.ring[c.oldest] = k
	c.oldest = (c.oldest + 1) % recentKeys
}

func (c *counter) epoch(e merkle.Entry) {
	var x recorder.Epoch
	if err := json.Unmarshal(e.Data, &x); err != nil {
		c.wrong(e.Seq, remedyRead, "this account of an Envoy cannot be read: %v", err)
		return
	}
	of := x.Gateway + " " + x.Epoch
	n := uint64(0)
	if last := c.epochs[of]; last != nil {
		n = *last
	}
	if n != x.Requests {
		c.wrong(e.Seq, remedyNumber, "the account of Envoy %s of Gateway %s says %d requests, the log has %d", x.Epoch, x.Gateway, x.Requests, n)
	}
	delete(c.epochs, of)
}

func (c *counter) gap(e merkle.Entry) {
	var g audit.Gap
	if err := json.Unmarshal(e.Data, &g); err != nil {
		c.wrong(e.Seq, remedyRead, "this gap cannot be read: %v", err)
		return
	}
	c.lost += g.Lost
	if len(c.gaps) < maxFindings {
		c.gaps = append(c.gaps, e)
	}
}

// cursors go forward only.
func (c *counter) cursors(e merkle.Entry) {
	for name, text := range e.Cursors {
		kind, of, _ := strings.Cut(name, "/")
		switch {
		case name == "journal":
			c.control(e.Seq, text)
		case kind == "spool" && text == "":
			delete(c.spools, of)
		case kind == "spool":
			if file, offset, ok := spoolPosition(text); ok {
				if f, o, ok := spoolPosition(c.spools[of]); ok && f == file && offset <= o {
					c.wrong(e.Seq, remedyNumber, "a line of Envoy's spool of Gateway %s is in the log again: %s after %s", of, text, c.spools[of])
				}
			}
			if _, known := c.spools[of]; known || len(c.spools) < maxEpochs {
				c.spools[of] = text
			}
		}
	}
}

// spoolPosition takes FILE:OFFSET apart.
func spoolPosition(s string) (file string, offset uint64, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	offset, err := strconv.ParseUint(s[i+1:], 10, 64)
	return s[:i], offset, err == nil
}

// control entries come from the journal, where they are numbered.
func (c *counter) control(seq uint64, text string) {
	id, n, ok := journalPosition(text)
	if !ok {
		c.wrong(seq, remedyRead, "the cursor of the journal is %q, not ID:SEQ", text)
		return
	}
	switch {
	case n == 1 && c.journal > 0:
		if len(c.notes) < maxFindings {
			c.notes = append(c.notes, fmt.Sprintf("entry %d: the journal of serve began anew, after %s: it was moved away, restored from a copy or cut", seq, count(int(c.journal), "entry")))
		}
	case id != c.journalID && c.journal > 0:
		c.wrong(seq, remedyNumber, "%s not in the log", span("entry", "the journal "+id, 1, n-1))
	case n <= c.journal:
		c.wrong(seq, remedyNumber, "entry %d of the journal is in the log again", n)
	case n > c.journal+1:
		c.wrong(seq, remedyNumber, "%s not in the log", span("entry", "the journal", c.journal+1, n-1))
	}
	c.journalID, c.journal = id, n
}

// journalPosition takes ID:SEQ apart.
func journalPosition(s string) (id string, seq uint64, ok bool) {
	id, text, found := strings.Cut(s, ":")
	seq, err := strconv.ParseUint(text, 10, 64)
	return id, seq, found && err == nil && seq > 0
}
