package alarm

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// ReceiptOptions of NewReceipts.
type ReceiptOptions struct {
	// AlarmSinks are the names of those sinks by which people are told. None: nobody is
	// told of anything.
	AlarmSinks []string
	// Late is how long a sink may take for an alarm until it counts as failing; of one
	// that it does not name a second.
	Late map[string]time.Duration
	// Append records a value of package audit. It must not wait for long.
	Append func(kind string, v any)
	Now    func() time.Time
	Log    *slog.Logger
}

// Receipts know which alarms were delivered by which sink, and record that. Their
// methods may be called concurrently.
type Receipts struct {
	opts     ReceiptOptions
	raised   *prometheus.CounterVec
	delivery prometheus.Histogram

	mu      sync.Mutex
	waiting map[string]*waiting // by id: not all alarm sinks have it
	order   []string            // their ids, and some that all have
	seen    recent              // ids that were raised
	failing map[string]audit.Sink
	silent  bool // that nobody is told was said
}

// waiting is an alarm that not all alarm sinks have.
type waiting struct {
	alarm  audit.Alarm
	raised time.Time       // when it was durable; zero: before this start
	has    map[string]bool // the sinks that have it
}

// maxWaiting bounds how many undelivered alarms are known one by one.
const maxWaiting = 4096

// NewReceipts makes an empty one.
func NewReceipts(o ReceiptOptions) *Receipts {
	return &Receipts{
		opts: o, waiting: map[string]*waiting{}, failing: map[string]audit.Sink{},
		raised: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "breakglass_alarms_total", Help: "Alarms raised since the start, by name."}, []string{"name"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "breakglass_alarm_delivery_seconds", Help: "From the cause of an alarm until the first alarm sink said that it has it.",
			Buckets: []float64{0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 3600},
		}),
	}
}

// Raised is told of alarms that are in the log now.
func (r *Receipts) Raised(alarms []audit.Alarm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range alarms {
		if r.seen.has(a.ID) { // another replica's
			continue
		}
		r.raised.WithLabelValues(a.Name).Inc()
		r.wait(a, r.opts.Now())
		// Who reads nothing else may read this.
		level := slog.LevelWarn
		if a.Severity == Info {
			level = slog.LevelInfo
		}
		r.opts.Log.Log(context.Background(), level, "alarm", "name", a.Name, "severity", a.Severity, "id", a.ID, "summary", a.Summary)
	}
	if text := r.problem(); text != "" && !r.silent {
		r.silent = true
		level := slog.LevelError
		if len(r.opts.AlarmSinks) == 0 {
			level = slog.LevelWarn // nothing has failed: it was left out
		}
		r.opts.Log.Log(context.Background(), level, "nobody is told of alarms", "why", text)
	} else if text == "" {
		r.silent = false
	}
}

func (r *Receipts) wait(a audit.Alarm, at time.Time) {
	if r.seen.has(a.ID) {
		return
	}
	r.seen.add(a.ID)
	if len(r.opts.AlarmSinks) == 0 || len(r.waiting) >= maxWaiting {
		return
	}
	r.waiting[a.ID] = &waiting{a, at, map[string]bool{}}
	r.order = append(r.order, a.ID)
}

// took notes that a sink has an alarm. It reports whether it is the first.
func (r *Receipts) took(id, sink string) (first bool) {
	w := r.waiting[id]
	if w == nil || !r.tells(sink) {
		return false
	}
	first = len(w.has) == 0
	if w.has[sink] = true; len(w.has) >= len(r.opts.AlarmSinks) {
		delete(r.waiting, id)
	}
	if len(r.order) > 2*len(r.waiting)+64 {
		r.order = slices.DeleteFunc(r.order, func(id string) bool { _, waits := r.waiting[id]; return !waits })
	}
	return first
}

// Elsewhere says that somebody else delivers an alarm.
func (r *Receipts) Elsewhere(e merkle.Entry) {
	a, ok := raised(e.Kind, e.Data)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, a.ID)
}

// Recall is told of what is in the log from before the start, in order: what was
// raised and not delivered is undelivered still. has says whether a sink is past an
// entry: it was delivered, whether there is a receipt or not, or is older than the
// sink.
func (r *Receipts) Recall(e merkle.Entry, has func(sink string, seq uint64) bool) {
	a, ok := raised(e.Kind, e.Data)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wait(a, time.Time{})
	for _, sink := range r.opts.AlarmSinks {
		if has(sink, e.Seq) { // asked under the lock: Delivered comes after it is past
			r.took(a.ID, sink)
		}
	}
}

// Delivered records that a sink has taken an alarm: Options.OnDelivered of package
// audit/sink. Other entries are none of its business.
func (r *Receipts) Delivered(sink string, e merkle.Entry, at time.Time) {
	a, ok := raised(e.Kind, e.Data)
	if !ok {
		return
	}
	r.mu.Lock()
	if r.took(a.ID, sink) {
		r.delivery.Observe(max(0, at.Sub(a.Time).Seconds()))
	}
	late, wasLate := r.failing[sink]
	wasLate = wasLate && late.Reason == lateReason
	r.mu.Unlock()
	r.opts.Append(audit.KindAlarm, audit.Alarm{
		V: 1, ID: a.ID, Event: audit.AlarmDelivered, Name: a.Name, Severity: a.Severity, Time: a.Time, Sink: sink, At: at.UTC().Truncate(time.Microsecond),
	})
	if wasLate {
		r.State(audit.Sink{V: 1, Sink: sink, Event: audit.SinkWorking, Since: late.Since})
	}
}

// lateReason is why a sink counts as failing that has said nothing itself.
const lateReason = "it has not taken an alarm in time"

// Tick says which sinks have not taken an alarm in time: one that hangs says so
// itself much later.
func (r *Receipts) Tick() {
	now := r.opts.Now()
	late := map[string]uint64{}
	since := map[string]time.Time{}
	r.mu.Lock()
	for _, id := range r.order {
		w := r.waiting[id]
		if w == nil || w.raised.IsZero() {
			continue
		}
		for _, sink := range r.opts.AlarmSinks {
			if _, known := r.failing[sink]; known || w.has[sink] || now.Sub(w.raised) < r.patience(sink) {
				continue
			}
			if late[sink]++; late[sink] == 1 {
				since[sink] = w.raised
			}
		}
	}
	r.mu.Unlock()
	for sink, n := range late {
		r.State(audit.Sink{V: 1, Sink: sink, Event: audit.SinkFailing, Reason: lateReason, Since: since[sink].UTC(), Behind: n})
	}
}

func (r *Receipts) patience(sink string) time.Duration {
	if d := r.opts.Late[sink]; d > 0 {
		return d
	}
	return time.Second
}

// State records that a sink began or ceased to fail: Options.OnState of package
// audit/sink.
func (r *Receipts) State(s audit.Sink) {
	r.mu.Lock()
	before, failed := r.failing[s.Sink]
	switch s.Event {
	case audit.SinkFailing:
		if failed { // it was said; now there is more to say why
			before.Reason = s.Reason
			r.failing[s.Sink] = before
			r.mu.Unlock()
			return
		}
		if s.Since.IsZero() {
			s.Since = r.opts.Now().UTC()
		}
		r.failing[s.Sink] = s
		if text := r.problem(); text != "" && r.tells(s.Sink) {
			r.opts.Log.Error("nobody is told of alarms", "why", text)
		}
	case audit.SinkWorking:
		if failed {
			s.Since = before.Since
		}
		delete(r.failing, s.Sink)
	}
	r.mu.Unlock()
	r.opts.Append(audit.KindSink, s)
}

// tells reports whether people are told by the sink.
func (r *Receipts) tells(sink string) bool { return slices.Contains(r.opts.AlarmSinks, sink) }

// Problem says why nobody is told, "" if somebody is.
func (r *Receipts) Problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem()
}

// NoSinks is why nobody is told of anything where there is no alarm sink.
const NoSinks = "no alarm sink is configured: nobody is told of activations, refusals or gaps; add one to --sinks (docs/alarms.md)"

func (r *Receipts) problem() string {
	if len(r.opts.AlarmSinks) == 0 {
		return NoSinks
	}
	why := ""
	for _, name := range r.opts.AlarmSinks {
		s, fails := r.failing[name]
		if !fails {
			return ""
		}
		if why == "" {
			why = fmt.Sprintf("%s since %s: %s", name, s.Since.UTC().Format(time.RFC3339), s.Reason)
		}
	}
	if n := len(r.opts.AlarmSinks); n > 1 {
		return fmt.Sprintf("none of the %d alarm sinks takes anything: %s", n, why)
	}
	return "the alarm sink takes nothing: " + why
}

// Status is for people.
type Status struct {
	Problem     string // why nobody is told
	Sinks       []SinkStatus
	Undelivered int       // alarms that no alarm sink has
	Oldest      time.Time // of these
}

// SinkStatus is one alarm sink.
type SinkStatus struct {
	Name   string
	Since  time.Time // since when it fails, zero: it does not
	Reason string
}

// Status is how it is now.
func (r *Receipts) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Problem: r.problem()}
	for _, id := range r.order {
		if w := r.waiting[id]; w != nil && len(w.has) == 0 {
			if s.Undelivered++; s.Undelivered == 1 {
				s.Oldest = w.alarm.Time
			}
		}
	}
	for _, name := range r.opts.AlarmSinks {
		f := r.failing[name]
		s.Sinks = append(s.Sinks, SinkStatus{Name: name, Since: f.Since, Reason: f.Reason})
	}
	return s
}

var (
	descSinks       = prometheus.NewDesc("breakglass_alarm_sinks", "Sinks by which people are told of alarms. 0: nobody is told.", nil, nil)
	descWorking     = prometheus.NewDesc("breakglass_alarm_sinks_working", "Of these, how many do not fail now.", nil, nil)
	descUndelivered = prometheus.NewDesc("breakglass_alarms_undelivered", "Alarms that no alarm sink has taken yet.", nil, nil)
	descOldest      = prometheus.NewDesc("breakglass_alarms_undelivered_seconds", "Age of the oldest of these.", nil, nil)
)

// Describe is of prometheus.Collector.
func (r *Receipts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSinks, descWorking, descUndelivered, descOldest} {
		ch <- d
	}
	r.raised.Describe(ch)
	r.delivery.Describe(ch)
}

// Collect is of prometheus.Collector.
func (r *Receipts) Collect(ch chan<- prometheus.Metric) {
	s := r.Status()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	working := 0
	for _, sink := range s.Sinks {
		if sink.Since.IsZero() {
			working++
		}
	}
	gauge(descSinks, float64(len(s.Sinks)))
	gauge(descWorking, float64(working))
	gauge(descUndelivered, float64(s.Undelivered))
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, r.opts.Now().Sub(s.Oldest).Seconds())
	}
	gauge(descOldest, age)
	r.raised.Collect(ch)
	r.delivery.Collect(ch)
}
