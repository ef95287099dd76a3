package ship

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// maxSources bounds the sources that the log has cursors of, two each.
	maxSources = 1900
	// maxOfOne bounds those of one identity that have not ended and are not lost.
	maxOfOne = 400
	// recent is how long Stats tell of sources that ended or were lost.
	recent = 24 * time.Hour
	// taking bounds the batches that are in memory at once.
	taking = 64
)

// Ledger is what the server needs of a *merkle.Log.
type Ledger interface {
	Append(ctx context.Context, drafts ...merkle.Draft) error
	Cursors() map[string]string
}

// ServerOptions of NewServer.
type ServerOptions struct {
	// Ledger takes the entries; Dir is where it is, and Name what it is called, as Name
	// says.
	Ledger    Ledger
	Dir, Name string
	// Identify says who is at the other end of a connection.
	Identify func(*tls.ConnectionState) (Identity, error)
	// Refuse says why nothing can be taken now, "" when it can. May be nil.
	Refuse func() string
	// Lost is how long a source may be silent that has not ended. Default 10 minutes.
	Lost time.Duration
	// Checkpoint is how often the checkpoint of a source is recorded. Default 10
	// minutes.
	Checkpoint time.Duration
	Now        func() time.Time
	Log        *slog.Logger
}

// Server takes logs. It is an http.Handler for Path.
type Server struct {
	opts  ServerOptions
	slots chan struct{}
	// mono tells how long somebody is silent: a clock that is set says nothing of that.
	mono func() time.Time

	mu      sync.Mutex
	sources map[string]*source // by name
	stats   ServerStats
	refused string // why a batch can never be taken, last
}

// ServerStats are for metrics.
type ServerStats struct {
	Entries  uint64         // taken since the start
	Refused  uint64         // batches that can never be taken, since the start
	Gaps     uint64         // gap entries written since the start
	Sources  map[string]int // by state: begun; ended and lost in the last day
	Missing  uint64         // entries that sources said they have, and that are not here yet
	Quietest time.Duration  // since a source that has not ended was heard of
}

// NewServer goes on where the ledger is.
func NewServer(o ServerOptions) *Server {
	if o.Lost <= 0 {
		o.Lost = 10 * time.Minute
	}
	if o.Checkpoint <= 0 {
		o.Checkpoint = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Refuse == nil {
		o.Refuse = func() string { return "" }
	}
	s := &Server{opts: o, slots: make(chan struct{}, taking), mono: time.Now, sources: map[string]*source{}}
	s.load(o.Ledger.Cursors())
	return s
}

// Stats returns the present counts.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Sources = map[string]int{}
	for _, src := range s.sources {
		if src.state == "" || src.state != stateBegun && s.opts.Now().Sub(src.since) > recent {
			continue
		}
		out.Sources[src.state]++
		if src.state == stateBegun {
			out.Quietest = max(out.Quietest, s.mono().Sub(src.heard))
		}
		if src.said > src.next {
			out.Missing += src.said - src.next
		}
	}
	return out
}

// refusal is an error that has a status.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := s.serve(w, r)
	status := http.StatusOK
	if err != nil {
		status = http.StatusServiceUnavailable
		var known *refusal
		if errors.As(err, &known) {
			status = known.status
		}
		a.Error = err.Error()
		if status == http.StatusBadRequest || status == http.StatusForbidden {
			s.mu.Lock()
			s.stats.Refused++
			again := s.refused == a.Error // who is refused tries again, each second
			s.refused = a.Error
			s.mu.Unlock()
			if !again {
				s.opts.Log.Error("what a source brought cannot be taken", "address", r.RemoteAddr, "error", err)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // who is gone asks again
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) (answer, error) {
	id, err := s.opts.Identify(r.TLS)
	if err != nil {
		return answer{}, refuse(http.StatusForbidden, "%s", err)
	}
	switch r.Method {
	case http.MethodGet:
		return s.where(r, id)
	case http.MethodPost:
		return s.take(w, r, id)
	}
	return answer{}, refuse(http.StatusMethodNotAllowed, "GET or POST")
}

// where answers up to where a log is here.
func (s *Server) where(r *http.Request, id Identity) (answer, error) {
	q := r.URL.Query()
	origin, session := q.Get("log"), q.Get("session")
	if err := checkName(id, origin, q.Get("key"), session); err != nil {
		return answer{}, err
	}
	var since time.Time
	if text := q.Get("since"); text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return answer{}, refuse(http.StatusBadRequest, "since: %s", err)
		}
	}
	if why := s.opts.Refuse(); why != "" {
		return answer{}, refuse(http.StatusServiceUnavailable, "%s", why)
	}
	src, err := s.lock(r.Context(), origin+" "+q.Get("key"))
	if err != nil {
		return answer{}, err
	}
	defer s.unlock(src)
	if !src.known && !since.IsZero() {
		if err := s.find(r.Context(), src, since); err != nil {
			return answer{}, err
		}
	}
	src.session = session
	return answer{Service: s.opts.Name, Next: src.next, Known: src.known, Last: src.last}, nil
}

func checkName(id Identity, origin, key, session string) error {
	if err := id.mayBring(origin); err != nil {
		return refuse(http.StatusForbidden, "%s", err)
	}
	if len(key) != 8 || strings.Trim(key, "0123456789abcdef") != "" {
		return refuse(http.StatusBadRequest, "%.200q is not the hash of a key", key)
	}
	if session == "" || len(session) > 64 {
		return refuse(http.StatusBadRequest, "%.200q is not a session", session)
	}
	return nil
}
