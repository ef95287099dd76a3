package auditlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Judge says who asks, and whether he may read the log.
type Judge interface {
	// Who the request is from. ErrUnknown: he has not shown it.
	Who(ctx context.Context, r *http.Request) (authenticationv1.UserInfo, error)
	// May he? why is what he is told, and what the log has.
	May(ctx context.Context, who authenticationv1.UserInfo) (may bool, why string, err error)
}

// ErrUnknown is of somebody who has not shown who he is.
var ErrUnknown = errors.New("nobody knows who asks")

// ReadOptions of a Reading.
type ReadOptions struct {
	// Dir of the log, in the form of package merkle.
	Dir string
	// Append records entries in that log, and returns when they are durable.
	Append func(context.Context, ...merkle.Draft) error
	Judge  Judge
	Log    *slog.Logger
	Now    func() time.Time
}

// Bounds of what readers may cost.
const (
	judgeTimeout = 10 * time.Second
	// judgeEvery is how often it is asked again whether somebody who follows still may.
	judgeEvery = time.Minute
	// writeTimeout is how long a reader may take nothing before he is let go.
	writeTimeout = time.Minute
	// maxReaders at a time, who also follow.
	maxReaders = 16
	// Requests, so many at once and a second, and refusals that get an entry each.
	burst, perSecond             = 40, 10
	refusedBurst, refusedPerHour = 30, 120
	maxWhat                      = 2 << 10
)

// Reading hands out the log to whoever may read it. Each read is an entry of the
// log that is durable before anything is handed out; so is each refusal, within
// bounds, beyond which they are counted.
type Reading struct {
	ReadOptions
	slots      chan struct{}
	judgeEvery time.Duration

	mu       sync.Mutex
	requests bucket
	refusals bucket
	unsaid   int // refusals without an entry since the last one that has one
}

// NewReading is the handler of the listener for readers.
func NewReading(o ReadOptions) *Reading {
	now := o.Now()
	return &Reading{
		ReadOptions: o, slots: make(chan struct{}, maxReaders), judgeEvery: judgeEvery,
		requests: bucket{size: burst, perSecond: perSecond, left: burst, at: now},
		refusals: bucket{size: refusedBurst, perSecond: refusedPerHour / 3600.0, left: refusedBurst, at: now},
	}
}

// bucket is a rate with a burst.
type bucket struct {
	size, perSecond, left float64
	at                    time.Time
}

func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.at); d > 0 {
		b.left, b.at = min(b.size, b.left+d.Seconds()*b.perSecond), now
	}
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// refusal is an answer that hands out nothing.
type refusal struct {
	code int
	why  string
}

func (r *refusal) Error() string { return r.why }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers a reader.
func (s *Reading) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := s.serve(w, r)
	if err == nil {
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		s.Log.Error("a read of the audit log failed", "error", err)
		no = &refusal{http.StatusInternalServerError, err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(no.code)
	_ = json.NewEncoder(w).Encode(failure{no.why}) // he has gone
}

// failure is how an answer that is none, and the end of one that broke off, is told.
type failure struct {
	Error string `json:"error"`
}

// answer writes what was asked for. An error comes before anything was written.
type answer func(ctx context.Context, w *reader) error

func (s *Reading) serve(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	within := s.requests.take(s.Now())
	s.mu.Unlock()
	if !within {
		return refuse(http.StatusTooManyRequests, "too many requests: try again in a second")
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return refuse(http.StatusTooManyRequests, "%d read already: try again later", maxReaders)
	}
	give, err := s.asked(r)
	if err != nil {
		return err
	}
	who, err := s.judge(r)
	if err != nil {
		return err
	}
	if err := s.record(r, who, ""); err != nil {
		s.Log.Error("a read was refused, for it cannot be recorded", "error", err)
		return refuse(http.StatusServiceUnavailable, "that you read the log cannot be recorded, so nothing is handed out: %v", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	return give(ctx, s.watched(ctx, cancel, w, who))
}

// asked is what the request is for.
func (s *Reading) asked(r *http.Request) (answer, error) {
	if r.Method != http.MethodGet {
		return nil, refuse(http.StatusMethodNotAllowed, "%.20s: the log can only be read", r.Method)
	}
	if len(r.URL.RequestURI()) > maxWhat { // what is asked for is recorded whole
		return nil, refuse(http.StatusRequestURITooLong, "a question of more than %d bytes", maxWhat)
	}
	switch r.URL.Path {
	case "/v1/entries":
		return s.entries(r.URL.Query())
	case "/v1/proof":
		return s.proof(r.URL.Query())
	case "/v1/copy":
		return s.copy(r.URL.Query())
	}
	return nil, refuse(http.StatusNotFound, "there is no %.100q: ask for /v1/entries, /v1/proof or /v1/copy", r.URL.Path)
}

// judge returns who asks, if he may read. Whoever may not is in the log.
func (s *Reading) judge(r *http.Request) (who authenticationv1.UserInfo, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), judgeTimeout)
	defer cancel()
	code := http.StatusServiceUnavailable
	for header := range r.Header {
		if strings.HasPrefix(header, "Impersonate-") {
			code, err = http.StatusForbidden, errors.New("you cannot read the log as somebody else: remove the impersonation from the kubeconfig")
		}
	}
	if err == nil {
		who, err = s.Judge.Who(ctx, r)
	}
	switch {
	case errors.Is(err, ErrUnknown):
		code = http.StatusUnauthorized
	case err == nil:
		var may bool
		var why string
		if may, why, err = s.Judge.May(ctx, who); err == nil && may {
			return who, nil
		}
		if err == nil {
			code, err = http.StatusForbidden, errors.New(why)
		}
	}
	s.refused(r, who, err.Error())
	return who, refuse(code, "%v", err)
}

// refused records a refusal, or counts it when there are too many.
func (s *Reading) refused(r *http.Request, who authenticationv1.UserInfo, why string) {
	s.mu.Lock()
	said := s.refusals.take(s.Now())
	before := s.unsaid
	if said {
		s.unsaid = 0
	} else {
		s.unsaid++
	}
	s.mu.Unlock()
	if !said {
		return
	}
	if before > 0 {
		why = fmt.Sprintf("%s (and %d refusals before it that have no entry)", why, before)
	}
	if err := s.record(r, who, why); err != nil {
		s.Log.Error("a refused read cannot be recorded", "by", who.Username, "error", err)
	}
}

// record that somebody reads, durably.
func (s *Reading) record(r *http.Request, who authenticationv1.UserInfo, refused string) error {
	data, err := json.Marshal(audit.Read{
		V: 1, By: bounded(who.Username, maxWhat), Groups: boundedGroups(who.Groups), What: bounded(r.URL.RequestURI(), maxWhat),
		Address: remote(r.RemoteAddr), Refused: bounded(refused, maxWhat),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), judgeTimeout)
	defer cancel()
	return s.Append(ctx, merkle.Draft{Kind: audit.KindRead, Data: data})
}

// remote is the address of a reader, if it says anything: by a port-forward, all come
// from the pod itself.
func remote(address string) string {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsLoopback() {
		return ""
	}
	return host
}

func bounded(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "\ufffd")
}

func boundedGroups(groups []string) (out []string) {
	const most = 64
	for _, g := range groups[:min(len(groups), most)] {
		out = append(out, bounded(g, 256))
	}
	if len(groups) > most {
		out = append(out, fmt.Sprintf("and %d more", len(groups)-most))
	}
	return out
}
