package auditlog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// query is what of the log is asked for. All that is given must fit.
type query struct {
	filter merkle.Filter
	// to is the seq before which it ends; last are the newest so many of it.
	to         uint64
	last       int
	follow     bool
	kinds      []string
	activation string
	incident   string
}

const maxLast = 100_000

// parseQuery reads from, to, since, until, kind (repeatable), activation
// ([NAMESPACE/]NAME), incident, last and follow. What it does not know is an error: a
// filter with a typing error would hand out everything.
func parseQuery(v url.Values) (q query, err error) {
	q.to = 1<<63 - 1
	for name, values := range v {
		take := parameters[name]
		switch {
		case take == nil:
			err = errors.New("there is no such parameter")
		case name == "kind":
			q.kinds = values
		case len(values) > 1:
			err = errors.New("it is given twice")
		default:
			err = take(&q, values[0])
		}
		if err != nil {
			return q, fmt.Errorf("%.40s=%.80s: %w", name, values[0], err)
		}
	}
	q.filter.Match = q.match
	return q, nil
}

var parameters = map[string]func(q *query, value string) error{
	"from": func(q *query, v string) (err error) { q.filter.From, err = strconv.ParseUint(v, 10, 63); return err },
	"to":   func(q *query, v string) (err error) { q.to, err = strconv.ParseUint(v, 10, 63); return err },
	"since": func(q *query, v string) (err error) {
		q.filter.Since, err = time.Parse(time.RFC3339Nano, v)
		return err
	},
	"until": func(q *query, v string) (err error) {
		q.filter.Until, err = time.Parse(time.RFC3339Nano, v)
		return err
	},
	"follow":     func(q *query, v string) (err error) { q.follow, err = strconv.ParseBool(v); return err },
	"activation": func(q *query, v string) error { q.activation = v; return nil },
	"incident":   func(q *query, v string) error { q.incident = v; return nil },
	"kind":       func(*query, string) error { return nil },
	"last": func(q *query, v string) (err error) {
		if q.last, err = strconv.Atoi(v); err == nil && (q.last < 0 || q.last > maxLast) {
			err = fmt.Errorf("write 0 to %d", maxLast)
		}
		return err
	},
}

func (q *query) match(e *merkle.Entry) bool {
	if len(q.kinds) > 0 && !slices.Contains(q.kinds, e.Kind) {
		return false
	}
	return q.activation == "" && q.incident == "" || q.about(e)
}

// about is where entries of all kinds say which activations they are about: requests,
// facts, and alarms.
type about struct {
	Activations []string `json:"activations"`
	Incident    string   `json:"incident"`
	Record      struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Spec      struct {
			Incident string `json:"incident"`
		} `json:"spec"`
	} `json:"record"`
	Labels struct {
		Activation string `json:"activation"`
		Incident   string `json:"incident"`
	} `json:"labels"`
}

func (q *query) about(e *merkle.Entry) bool {
	var a about
	if json.Unmarshal(e.Data, &a) != nil {
		return false // of no such kind
	}
	if q.incident != "" && !slices.Contains([]string{a.Incident, a.Record.Spec.Incident, a.Labels.Incident}, q.incident) {
		return false
	}
	names := append(a.Activations, a.Record.Namespace+"/"+a.Record.Name, a.Labels.Activation)
	return q.activation == "" || slices.ContainsFunc(names, func(n string) bool {
		return n == q.activation || !strings.Contains(q.activation, "/") && strings.HasSuffix(n, "/"+q.activation)
	})
}

// entries hands out entries, a line each, as they are stored; only such as a
// checkpoint covers.
func (s *Reading) entries(v url.Values) (answer, error) {
	q, err := parseQuery(v)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return func(ctx context.Context, w *reader) error {
		w.Header().Set("Content-Type", "application/jsonl")
		lines := newFlushing(w)
		err := s.read(ctx, q, func(e merkle.Entry) error { return lines.write(append(e.Line(), '\n')) })
		if err = errors.Join(err, lines.close()); err != nil {
			return w.broke(err)
		}
		return nil
	}, nil
}

var errEnough = errors.New("enough was read")

func (s *Reading) read(ctx context.Context, q query, fn func(merkle.Entry) error) error {
	end, err := signed(s.Dir)
	if err != nil {
		return err
	}
	if next := min(end.size, q.to); q.last > 0 {
		last, err := s.newest(ctx, q, next)
		if err != nil {
			return err
		}
		for _, e := range last {
			if err := fn(e); err != nil {
				return err
			}
		}
		q.filter.From = max(q.filter.From, next)
	}
	if q.last > 0 && !q.follow {
		return nil
	}
	if !q.follow {
		return upTo(ctx, s.Dir, q.filter, min(end.size, q.to), fn)
	}
	match := q.filter.Match
	q.filter.Match = func(e *merkle.Entry) bool { return e.Seq >= q.to || match(e) }
	err = merkle.Follow(ctx, s.Dir, q.filter, func(e merkle.Entry) error {
		if e.Seq >= q.to {
			return errEnough
		}
		return fn(e)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// upTo reads the entries before end.
func upTo(ctx context.Context, dir string, f merkle.Filter, end uint64, fn func(merkle.Entry) error) error {
	match := f.Match
	f.Match = func(e *merkle.Entry) bool { return e.Seq >= end || match(e) }
	err := merkle.Read(ctx, dir, f, func(e merkle.Entry) error {
		if e.Seq >= end {
			return errEnough
		}
		return fn(e)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// newest are the last entries before end that fit, the oldest first: of the newest
// segments, and of no more than it must read.
func (s *Reading) newest(ctx context.Context, q query, end uint64) (out []merkle.Entry, err error) {
	firsts, err := merkle.Segments(s.Dir)
	if err != nil {
		return nil, err
	}
	for _, first := range slices.Backward(firsts) {
		if first >= end {
			continue
		}
		var kept []merkle.Entry
		f := q.filter
		f.From = max(f.From, first)
		err := upTo(ctx, s.Dir, f, end, func(e merkle.Entry) error {
			if kept = append(kept, e); len(kept) >= 2*q.last {
				kept = slices.Delete(kept, 0, len(kept)-q.last)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(kept, out...)
		if end = first; len(out) >= q.last || first <= q.filter.From {
			break
		}
	}
	return out[max(0, len(out)-q.last):], nil
}

// proof hands out an entry with what proves it.
func (s *Reading) proof(v url.Values) (answer, error) {
	seq, err := strconv.ParseUint(v.Get("seq"), 10, 63)
	if err != nil || len(v) != 1 {
		return nil, refuse(http.StatusBadRequest, "seq=%.40s: the number of an entry", v.Get("seq"))
	}
	return func(_ context.Context, w *reader) error {
		p, err := merkle.Prove(s.Dir, seq)
		if err != nil {
			return refuse(http.StatusNotFound, "%v", err)
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(p)
	}, nil
}

// head is the end of the log as it is signed.
type head struct {
	note   []byte
	origin string
	size   uint64
}

// signed reads the newest checkpoint of the log in dir; see package merkle.
func signed(dir string) (head, error) {
	path := filepath.Join(dir, "checkpoint")
	note, err := os.ReadFile(path)
	if err != nil {
		return head{}, fmt.Errorf("read the checkpoint: %w", err)
	}
	lines := strings.SplitN(string(note), "\n", 3)
	if len(lines) < 3 {
		return head{}, fmt.Errorf("%s is no checkpoint", path)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return head{}, fmt.Errorf("%s is no checkpoint: %w", path, err)
	}
	return head{note, lines[0], size}, nil
}

// flushing writes much at a time, and nothing later than soon.
type flushing struct {
	to   *reader
	mu   sync.Mutex
	buf  *bufio.Writer
	done chan struct{}
	over sync.WaitGroup
}

const flushEvery = 100 * time.Millisecond

func newFlushing(to *reader) *flushing {
	f := &flushing{to: to, buf: bufio.NewWriterSize(to, 64<<10), done: make(chan struct{})}
	f.over.Go(func() {
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-f.done:
				return
			case <-tick.C:
				_ = f.flush() // the next write says what is wrong
			}
		}
	})
	return f
}

func (f *flushing) write(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.buf.Write(b)
	return err
}

func (f *flushing) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.buf.Buffered() == 0 {
		return nil
	}
	if err := f.buf.Flush(); err != nil {
		return err
	}
	f.to.Flush()
	return nil
}

func (f *flushing) close() error {
	close(f.done)
	f.over.Wait()
	return f.flush()
}
