package auditlog

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/alarm"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// evidence is what follows the log: alarms of what nobody looked at where it was
// recorded, and the sinks, by which people are told of these and of those that the
// controllers raised.
type evidence struct {
	// Log is the log, whose appends raise alarms.
	*alarm.Log[*merkle.Log]
	raiser   *alarm.Raiser
	receipts *alarm.Receipts
	once     alarm.Once
}

// Cursors are those of the log.
func (e *evidence) Cursors() map[string]string { return e.Ledger.Cursors() }

const (
	// recalled is how many of the newest entries are looked at for alarms of before
	// this start, and relearned how old of these what may be a part of a burst.
	recalled  = 20_000
	relearned = time.Minute
	// Time is looked at by rules, and by who waits for sinks.
	ruleTick = 5 * time.Second
	lateTick = 100 * time.Millisecond
)

// newEvidence goes on where the log is.
func (s *Service) newEvidence(l *merkle.Log) (*evidence, error) {
	e := &evidence{}
	var sinks []string
	var late map[string]time.Duration
	if s.opts.Sinks != nil {
		sinks, late = s.opts.Sinks.AlarmSinks(), s.opts.Sinks.Patience()
	}
	e.receipts = alarm.NewReceipts(alarm.ReceiptOptions{AlarmSinks: sinks, Late: late, Append: s.record, Now: s.Now, Log: s.log})
	e.raiser = alarm.NewRaiser(alarm.New(alarm.Options{Collected: true, AlarmSinks: sinks}), s.Now, s.log, e.receipts.Raised)
	e.Log = alarm.Over(e.raiser, l, l.Cursors())
	size, now := l.Size(), s.Now()
	err := merkle.Read(context.Background(), s.LogDir(), merkle.Filter{From: size - min(size, recalled)}, func(entry merkle.Entry) error {
		e.once.Again(entry)
		if now.Sub(entry.Time) < relearned {
			e.Learn(entry)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the end of the log: %w", err)
	}
	return e, nil
}

// record is what a sink says. It waits until that is durable, so that what a sink
// counts as taken has its receipt, but not long.
func (s *Service) record(kind string, v any) {
	const most = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	if err := s.Note(ctx, kind, v, nil); err != nil {
		s.log.Error("what a sink says cannot be recorded", "kind", kind, "error", err)
	}
}

// runSinks delivers what is in the log until ctx ends. A replica's alarm that another
// replica's has said is not delivered again.
func (s *Service) runSinks(ctx context.Context) error {
	if s.opts.Sinks == nil {
		<-ctx.Done()
		return nil
	}
	e := s.evidence()
	running, err := sink.Start(ctx, sink.Options{
		Dir: s.LogDir(), StateDir: filepath.Join(s.opts.DataDir, "sinks"), Config: *s.opts.Sinks, Log: s.log, Now: s.Now,
		OnDelivered: e.receipts.Delivered, OnState: e.receipts.State, Skip: e.once.Again,
	})
	if err != nil {
		return fmt.Errorf("start the sinks: %w", err)
	}
	s.mu.Lock()
	s.sinks = running
	s.mu.Unlock()
	if err := s.recall(ctx, running); err != nil && ctx.Err() == nil {
		s.log.Warn("alarms of before this start are not counted", "error", err)
	}
	<-ctx.Done()
	return running.Close()
}

// recall reads what was raised before this start and not delivered.
func (s *Service) recall(ctx context.Context, sinks *sink.Sinks) error {
	const most = 3 * time.Second
	size := s.Ledger().Size()
	sinks.Placed(ctx, most)
	filter := merkle.Filter{From: size - min(size, recalled), Match: func(e *merkle.Entry) bool { return e.Kind == audit.KindAlarm && e.Seq < size }}
	return merkle.Read(ctx, s.LogDir(), filter, func(e merkle.Entry) error {
		s.evidence().receipts.Recall(e, sinks.Past)
		return nil
	})
}

// runAlarms raises what no entry tells of.
func (s *Service) runAlarms(ctx context.Context) error {
	e := s.evidence()
	rules, late := time.NewTicker(ruleTick), time.NewTicker(lateTick)
	defer rules.Stop()
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-late.C:
			e.receipts.Tick()
		case <-rules.C:
			if err := e.Append(ctx, e.raiser.Tick()...); err != nil && ctx.Err() == nil {
				return fmt.Errorf("record alarms: %w", err)
			}
		}
	}
}

func (s *Service) evidence() *evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.follows
}
