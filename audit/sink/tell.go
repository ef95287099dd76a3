package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Unrecorded is how the log is called that an alarm is of that is in none; its id
// follows, and its seq is 0.
const Unrecorded = "breakglass.dev/unrecorded/"

// tellMost is how long a sink gets for an alarm that is in no log.
const tellMost = 5 * time.Second

// Tell brings an alarm that is in no log, for that cannot be written, to the sinks by
// which people are told: once, beside what they are doing. It waits for all of them,
// and returns the errors by sink. Once the log can be written it comes again, as an
// entry, under the same id of the alarm.
func (s *Sinks) Tell(ctx context.Context, a audit.Alarm) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, tellMost)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	out := map[string]error{}
	for _, f := range s.followers {
		if !f.sink.Alarms() {
			continue
		}
		all.Go(func() {
			err := f.tell(ctx, a)
			mu.Lock()
			defer mu.Unlock()
			out[f.sink.Name] = err
		})
	}
	all.Wait()
	return out
}

// tell by a deliverer of its own: that of the follower is the follower's.
func (f *follower) tell(ctx context.Context, a audit.Alarm) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("alarm %s: %w", a.ID, err)
	}
	r, err := entryRecord(Unrecorded+a.ID, merkle.Entry{V: 1, Time: f.Now().UTC().Truncate(time.Microsecond), Kind: audit.KindAlarm, Data: data}, f.enc)
	if err != nil {
		return fmt.Errorf("alarm %s: %w", a.ID, err)
	}
	to := newDeliverer(f.sink, f.Now)
	_, err = to.deliver(ctx, []record{r})
	if closeErr := to.close(); err == nil {
		err = closeErr
	}
	return err
}
