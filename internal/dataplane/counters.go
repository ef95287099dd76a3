package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Counters are Envoy's own word for what it has done since it was started. All
// begin at 0 with each epoch; what Envoy does not have yet is 0.
//
// Envoy goes on while they are read. Of each chain it reads Active first and
// Total right after, so a request that begins in between counts in Total only:
// Total - Active is never less than the requests that were complete when Envoy
// began to answer, and may be more by those that began within that microsecond.
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
	// Rows that the gRPC access log has handed over to be sent, and those dropped.
	GRPCLogsWritten, GRPCLogsDropped uint64
	// Writes of log files that failed, and files that could not be opened anew:
	// their rows are lost. envoy.log is among them.
	FileWriteFailed, FileReopenFailed uint64
	// FileBuffered is how many bytes wait to be written to log files.
	FileBuffered uint64
}

// Requests that Envoy has begun to read, and those of them that are not complete.
type Requests struct{ Total, Active uint64 }

// chainStat is a counter of an HttpConnectionManager of ours: its stat prefix is
// the name of its filter chain, http-PORT or https-PORT-NAME.
var chainStat = regexp.MustCompile(`^http\.(https?-.+)\.downstream_rq_(total|active)$`)

// statsFilter is what Envoy is asked for; it bounds the answer.
const statsFilter = `^(http\.https?-.+\.downstream_rq_(total|active)|` +
	`limit\.http_local_rate_limit\.enforced|access_logs\.grpc_access_log\.logs_(written|dropped)|` +
	`filesystem\.(write_failed|reopen_failed|write_total_buffered))$`

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
	body, err := askAdmin(ctx, e.admin, http.MethodGet, "/stats?filter="+url.QueryEscape(statsFilter), maxCountersBody)
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
	c, err := parseCounters(string(body))
	if err != nil {
		return Counters{}, fmt.Errorf("counters of Envoy %q: %w", e.cfg.Name, err)
	}
	c.Epoch = p.epoch
	return c, nil
}

// parseCounters reads lines of "name: number".
func parseCounters(text string) (Counters, error) {
	c := Counters{Chains: map[string]Requests{}}
	fields := map[string]*uint64{
		"limit.http_local_rate_limit.enforced":     &c.Limited,
		"access_logs.grpc_access_log.logs_written": &c.GRPCLogsWritten,
		"access_logs.grpc_access_log.logs_dropped": &c.GRPCLogsDropped,
		"filesystem.write_failed":                  &c.FileWriteFailed,
		"filesystem.reopen_failed":                 &c.FileReopenFailed,
		"filesystem.write_total_buffered":          &c.FileBuffered,
	}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		to, chain := fields[name], chainStat.FindStringSubmatch(name)
		if !ok || to == nil && chain == nil {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return Counters{}, fmt.Errorf("stat %s: %w", name, err)
		}
		if chain == nil {
			*to = n
			continue
		}
		of := c.Chains[chain[1]]
		if chain[2] == "total" {
			of.Total = n
		} else {
			of.Active = n
		}
		c.Chains[chain[1]] = of
	}
	return c, nil
}

// ReopenLogs has Envoy open its log files anew by their names, as after they
// were renamed. Envoy does so at its next flush, a moment after this returns;
// until then it writes to the files it has. One that cannot be opened shows in
// Counters.
func (e *Envoy) ReopenLogs(ctx context.Context) error {
	_, err := e.Admin(ctx, http.MethodPost, "/reopen_logs")
	return err
}
