package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Counters are Envoy's own word for what it has done since it was started. All
// begin at 0 with each epoch; what Envoy does not have yet is 0.
//
// Envoy goes on while they are read. It is asked for Active first and for Total
// right after, so a request that begins in between counts in Total only:
// Total - Active is never less than the requests that were complete when Envoy
// began to answer, and may be more by those that began within that millisecond.
// It errs upwards. So rows that were there before the question are at most
// Total - Active; an answer with fewer is proof of a row too many. The other
// bound, a row too few, is exact only between two answers A and B of one epoch,
// A before B: what B.Active does not hold of A.Total was complete by B. Envoy
// counts a request as complete just before it logs it, so its row comes a moment
// later, after the flush.
//
// A chain can vanish, or begin at 0 again, within an epoch: Envoy forgets what a
// filter chain has counted when the last listener that has it is removed.
type Counters struct {
	// Epoch of the process that counted.
	Epoch string
	// Chains are the filter chains for clients, by their names. The admin interface
	// is not among them.
	Chains map[string]Requests
	// Limited are the requests that the rate limit refused, of all chains. It is read
	// after the chains: what is in it need not be in their totals yet.
	Limited uint64
	// Writes of log files that failed, and files that could not be opened anew:
	// their rows are lost. envoy.log is among them.
	FileWriteFailed, FileReopenFailed uint64
	// FileBuffered is how many bytes wait to be written to log files.
	FileBuffered uint64
}

// Requests that Envoy has begun to read, and those of them that are not complete.
type Requests struct{ Total, Active uint64 }

// chainLabel is the label that holds the name of a filter chain: http-PORT or
// https-PORT-NAME, the stat prefix of its HttpConnectionManager. A name may hold
// dots, which Envoy's own rule would cut.
//
// epochLabel holds the epoch, where the process that asks is not the one that
// started Envoy.
const (
	epochLabel = "epoch"
	chainLabel = "chain"
	chainRule  = `^http\.((https?-.+)\.)downstream_`
)

// Envoy is asked in its Prometheus format. In its own it goes through the name of
// every host and cluster for each answer, on the thread that takes updates and
// ends leases: 35 ms at 5,000 routes.
//
// The filters bound the answers. What is active is asked for first: see Counters.
const (
	activeFilter = `^(http\.https?-.+\.downstream_rq_active|server\.live)$` // the last is always there
	totalsFilter = `^(http\.https?-.+\.downstream_rq_total|limit\.http_local_rate_limit\.enforced|` +
		`filesystem\.(write_failed|reopen_failed|write_total_buffered))$`
)

const (
	countersTimeout = 2 * time.Second
	maxCountersBody = 1 << 20
)

// errReplaced: what was read may be of another process than the one asked for.
var errReplaced = errors.New("the process ended while it was asked: ask again")

// Counters asks Envoy once, for at most 2 s. The answer is of the epoch it
// names: when the process ends meanwhile there is an error.
func (e *Envoy) Counters(ctx context.Context) (Counters, error) {
	e.mu.Lock()
	p := e.current
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, countersTimeout)
	defer cancel()
	text, err := askCounters(ctx, e.admin)
	// A successor is started only after its predecessor is known to be gone. So as
	// long as this one is not, it is this one that has answered.
	select {
	case <-p.gone:
		return Counters{}, fmt.Errorf("counters of Envoy %q: %w", e.cfg.Name, errReplaced)
	default:
	}
	if err != nil {
		return Counters{}, fmt.Errorf("counters of Envoy %q: %w", e.cfg.Name, err)
	}
	c, err := parseCounters(text)
	if err != nil {
		return Counters{}, fmt.Errorf("counters of Envoy %q: %w", e.cfg.Name, err)
	}
	c.Epoch = p.epoch
	return c, nil
}

func askCounters(ctx context.Context, admin *http.Client) (text []byte, err error) {
	for _, filter := range []string{activeFilter, totalsFilter} {
		part, err := askAdmin(ctx, admin, http.MethodGet, "/stats/prometheus?filter="+url.QueryEscape(filter), maxCountersBody)
		if err != nil {
			return nil, err
		}
		text = append(text, part...)
	}
	return text, nil
}

// parseCounters reads the Prometheus text format.
func parseCounters(text []byte) (Counters, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return Counters{}, fmt.Errorf("stats: %w", err)
	}
	c := Counters{Chains: map[string]Requests{}}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if err := c.tell(m); err != nil {
				return Counters{}, err
			}
		}
	}
	for name, to := range map[string]*uint64{
		"envoy_limit_http_local_rate_limit_enforced": &c.Limited,
		"envoy_filesystem_write_failed":              &c.FileWriteFailed,
		"envoy_filesystem_reopen_failed":             &c.FileReopenFailed,
		"envoy_filesystem_write_total_buffered":      &c.FileBuffered,
	} {
		for _, m := range families[name].GetMetric() {
			*to = number(m)
		}
	}
	for _, m := range families["envoy_http_downstream_rq_active"].GetMetric() {
		c.chain(m, func(r *Requests) { r.Active = number(m) })
	}
	for _, m := range families["envoy_http_downstream_rq_total"].GetMetric() {
		c.chain(m, func(r *Requests) { r.Total = number(m) })
	}
	return c, nil
}

// tell takes the epoch that m names, if it does. All of an answer must name the
// same.
func (c *Counters) tell(m *dto.Metric) error {
	for _, l := range m.GetLabel() {
		if l.GetName() != epochLabel {
			continue
		}
		if c.Epoch != "" && c.Epoch != l.GetValue() {
			return errReplaced
		}
		c.Epoch = l.GetValue()
	}
	return nil
}

// chain sets what m says of its filter chain.
func (c *Counters) chain(m *dto.Metric, set func(*Requests)) {
	for _, l := range m.GetLabel() {
		if l.GetName() == chainLabel {
			r := c.Chains[l.GetValue()]
			set(&r)
			c.Chains[l.GetValue()] = r
		}
	}
}

// number of a counter or gauge. The format has floating point: it is exact up to
// 2^53, which is as many requests as 1,000 a second make in 285,000 years.
func number(m *dto.Metric) uint64 {
	v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	if !(v >= 0 && v <= 1<<53) {
		return 0
	}
	return uint64(v)
}

// ReopenLogs has Envoy open its log files anew by their names, as after they
// were renamed. Envoy does so at its next flush, a moment after this returns;
// until then it writes to the files it has. One that cannot be opened shows in
// Counters.
func (e *Envoy) ReopenLogs(ctx context.Context) error {
	_, err := e.Admin(ctx, http.MethodPost, "/reopen_logs")
	return err
}
