package ship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// errAsk is that the service has to be asked again up to where it has the log.
var errAsk = errors.New("ask again")

// conversation is what follows one question up to where the service has the log.
type conversation struct {
	*Client
	log    *merkle.Log
	opened <-chan struct{} // closed when there is another log
	name   string
	next   uint64
	known  bool // the service has something of the log
}

// follow asks up to where the service has the log, and brings what follows. It
// returns nil when all is done, or there is another log. moved: the service took
// something.
func (c *Client) follow(ctx context.Context, l *merkle.Log, opened <-chan struct{}) (moved bool, err error) {
	v := &conversation{Client: c, log: l, opened: opened}
	if v.name, err = Name(l.Origin(), l.Keys()); err != nil {
		return false, err
	}
	if err := v.ask(ctx); err != nil {
		return false, err
	}
	c.told = time.Time{}
	if len(c.pending) > 0 && (!v.known || c.pending[0].Seq != v.next) {
		c.pending = nil // another log's, or an answer was lost
	}
	c.reader = l.From(v.next + uint64(len(c.pending)))
	defer c.reader.Close()
	for {
		end, more, err := v.await(ctx)
		if err != nil || !more {
			return moved, err
		}
		if err := v.bring(ctx, end); err != nil {
			return moved, err
		}
		moved = true
		if end {
			close(c.done)
			return true, nil
		}
	}
}

// await waits until there are pending entries, or it is time to say that there are
// none, or that this is the end. more is false when there is another log.
func (v *conversation) await(ctx context.Context) (end, more bool, err error) {
	say := time.NewTimer(sayEvery)
	defer say.Stop()
	finish := v.finish
	for first := true; ; first = false {
		changed := v.log.Changed()
		if len(v.pending) == 0 {
			if v.pending, err = v.reader.Next(maxEntries, maxBytes); err != nil {
				return false, true, err
			}
			v.note()
		}
		if len(v.pending) > 0 || first && v.told.IsZero() && !v.isFinishing() {
			return false, true, nil
		}
		if v.isFinishing() {
			return true, true, nil
		}
		select {
		case <-changed:
		case <-finish:
			finish = nil
		case <-say.C:
			return false, true, nil
		case <-v.opened:
			return false, false, nil
		case <-ctx.Done():
			return false, true, ctx.Err()
		}
	}
}

func (c *Client) isFinishing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finishing
}

// note how old the oldest pending entry is.
func (c *Client) note() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting = (time.Time{}); len(c.pending) > 0 {
		c.waiting = c.pending[0].Time
	}
}

// ask up to where the service has the log.
func (v *conversation) ask(ctx context.Context) error {
	origin, key, _ := strings.Cut(v.name, " ")
	q := url.Values{"log": {origin}, "key": {key}, "session": {v.session}}
	if since := v.mark.since(v.name); since != "" {
		q.Set("since", since)
	}
	a, err := v.request(ctx, http.MethodGet, "?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	v.next, v.known = a.Next, a.Known
	if v.next > v.log.Size() {
		return fmt.Errorf("the service has %d entries of the log %s, and here are %d: it was restored from a copy, and what it gets from here on "+
			"cannot be told from what it had; move its directory away, so that another log begins", v.next, v.name, v.log.Size())
	}
	if err := v.compare(a.Last); err != nil {
		return err
	}
	v.mark.begin(v.name, a.Service)
	v.worked(v.next, 0)
	return nil
}

// compare the newest entry that the service has with that of this log: all pods of a
// fleet have one certificate, so one of them can bring entries in another's name. Then
// those in whose place they are could never be told there; they are kept here.
func (v *conversation) compare(last string) error {
	seq, at, ok := parsePlace(last)
	if !ok {
		return nil // it has none, or is of a version before
	}
	r := v.log.From(seq)
	defer r.Close()
	own, err := r.Next(1, maxBytes)
	if err != nil || len(own) == 0 || own[0].Seq != seq || own[0].Time.Equal(at) {
		return err // it may have been removed since, because of its age
	}
	return fmt.Errorf("the service has another entry %d of the log %s, of %s, than this one, of %s: somebody else who has the certificate of this fleet has brought entries "+
		"in its name; find out who, and move its directory away, so that another log begins", seq, v.name, at.Format(timeLayout), own[0].Time.UTC().Format(timeLayout))
}

// bring the pending entries, or say that there are none.
func (v *conversation) bring(ctx context.Context, end bool) error {
	origin, key, _ := strings.Cut(v.name, " ")
	h := head{Log: origin, Key: key, Session: v.session, From: v.next, Size: v.log.Size(), End: end}
	if len(v.pending) > 0 {
		// Entries before may have been removed: a log that is old already when it is
		// first brought to this service.
		h.From = v.pending[0].Seq
		h.Hole = v.known && h.From > v.next
	}
	if end || time.Since(v.told) > checkpointEvery {
		h.Keys, h.Checkpoint = v.log.Keys(), string(v.log.Checkpoint())
		if n := len(h.Keys); n > maxKeys {
			h.Keys = append(h.Keys[:1], h.Keys[n-maxKeys+1:]...)
		}
	}
	line, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode a batch: %w", err)
	}
	body := bytes.NewBuffer(append(line, '\n'))
	for i := range v.pending {
		e := v.pending[i]
		e.Cursors = nil
		body.Write(e.Line())
		body.WriteByte('\n')
	}
	a, err := v.request(ctx, http.MethodPost, "", body)
	if err != nil {
		return err
	}
	if want := h.From + uint64(len(v.pending)); a.Next != want {
		return fmt.Errorf("the service says that entry %d is next, and it is entry %d", a.Next, want)
	}
	if h.Checkpoint != "" {
		v.told = time.Now()
	}
	shipped := uint64(len(v.pending))
	v.next, v.known, v.pending = a.Next, true, nil
	v.note()
	v.worked(v.next, shipped)
	return nil
}

// request does one, and takes the answer apart.
func (c *Client) request(ctx context.Context, method, query string, body io.Reader) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestMost)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.opts.Service+Path+query, body)
	if err != nil {
		return a, fmt.Errorf("the audit log service %q: %w", c.opts.Service, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, fmt.Errorf("the audit log service: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return a, fmt.Errorf("the audit log service: %w", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("the audit log service answered %s, and no JSON", resp.Status)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return a, nil
	case http.StatusConflict:
		return a, errAsk
	}
	return a, fmt.Errorf("the audit log service answered %s: %s", resp.Status, a.Error)
}
