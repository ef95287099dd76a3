package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// maxIntents bounds how many requests wait for the disk at once. An Envoy has fewer
// connections than that; more streams are refused.
const maxIntents = 10_000

var errManyIntents = fmt.Errorf("more than %d requests wait for the disk", maxIntents)

// Intend has the log keep the intent of a request, and returns nil when it is
// durable. It goes past run, whose entries may wait for one another: those who call
// at the same time, and run, share one write. When ctx ends an intent that is being
// written may become durable nevertheless.
//
// It does not ask whether entries can be kept in other respects (State): this one
// is, or is not.
func (r *Recorder) Intend(ctx context.Context, e audit.RequestEntry) error {
	ledger := r.intents.ledger.Load()
	if ledger == nil {
		return errors.New("the audit log is not open")
	}
	defer r.intents.waiting.Add(-1)
	if r.intents.waiting.Add(1) > maxIntents {
		return errManyIntents
	}
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("the intent of a request: %w", err)
	}
	err := (*ledger).Append(ctx, merkle.Draft{Time: r.opts.Now(), Kind: audit.KindRequest, Data: bytes.TrimSuffix(data.Bytes(), []byte("\n"))})
	if err != nil {
		return fmt.Errorf("the intent of a request: %w", err)
	}
	r.intents.kept.Add(1)
	return nil
}
