package recorder

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Intend has the log keep the intents of requests, all or none, and returns nil when
// they are durable. It goes past run, whose entries may wait for one another: those
// who call at the same time, and run, share one write. When ctx ends what is being
// written may become durable nevertheless.
//
// It does not ask whether entries can be kept in other respects (State): these are,
// or are not.
func (r *Recorder) Intend(ctx context.Context, intents ...audit.RequestEntry) error {
	ledger := r.intents.ledger.Load()
	if ledger == nil {
		return errors.New("the audit log is not open")
	}
	drafts := make([]merkle.Draft, len(intents))
	now := r.opts.Now()
	for i := range intents {
		data, err := merkle.EncodeData(&intents[i])
		if err != nil {
			return fmt.Errorf("the intent of a request: %w", err)
		}
		drafts[i] = merkle.Draft{Time: now, Kind: audit.KindRequest, Data: data}
	}
	if err := (*ledger).Append(ctx, drafts...); err != nil {
		return fmt.Errorf("the intent of a request: %w", err)
	}
	r.intents.kept.Add(uint64(len(intents)))
	return nil
}
