package main

import (
	"context"
	"crypto/sha256"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// maxUnfinished bounds how many requests are looked for an end of at once.
const maxUnfinished = 1 << 20

// keyOf a request within a log.
func keyOf(r numbered) [16]byte {
	sum := sha256.Sum256(append(append(append(append([]byte{}, r.gateway...), ' '), r.epoch...), append([]byte{' '}, r.key...)...))
	return [16]byte(sum[:16])
}

// intent notes which requests have an intent, and no end so far.
func (c *counter) intent(r numbered) {
	switch string(r.typ) {
	case audit.TypeIntent:
		if len(c.intents) < maxUnfinished {
			c.intents[keyOf(r)] = true
		}
	case audit.TypeEnd:
		if len(c.intents) > 0 {
			delete(c.intents, keyOf(r))
		}
	}
}

// unfinished matches intents of requests without an end in the log, of those that
// match.
func unfinished(ctx context.Context, dir string, match func(*merkle.Entry) bool) (func(*merkle.Entry) bool, error) {
	c := newCounter()
	err := merkle.Read(ctx, dir, merkle.Filter{}, func(e merkle.Entry) error {
		if e.Kind == audit.KindRequest {
			if r, err := readNumbered(e.Data); err == nil { // what cannot be read is found by verify
				c.intent(r)
			}
		}
		return nil
	})
	return func(e *merkle.Entry) bool {
		if e.Kind != audit.KindRequest {
			return false
		}
		r, err := readNumbered(e.Data)
		return err == nil && string(r.typ) == audit.TypeIntent && c.intents[keyOf(r)] && (match == nil || match(e))
	}, err
}
