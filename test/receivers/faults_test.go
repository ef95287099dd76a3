package receivers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// outage is how long outages are: OUTAGE, such as 10m, or what is enough to see
// something.
func outage(short time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("OUTAGE")); err == nil {
		return d
	}
	return short
}

// rounds is how often the process of the sinks is killed: ROUNDS.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		return n
	}
	return few
}

// The process is killed wherever it is: between a receiver's answer and the cursor,
// too. Nothing is lost, nothing is there twice by its id, and a file has no line twice.
func TestKilledWhereverItIsEachReceiverHasEachEntryOnce(t *testing.T) {
	c, h := newCollector(t), newWebhook(t)
	file := filepath.Join(t.TempDir(), "copy.jsonl")
	w := newWorld(t, "sinks:\n"+c.config("otlp-http", "HTTP")+h.config(t, "Batch", h.secret)+fmt.Sprintf("- {name: file, jsonLines: {path: %s}}\n", file))
	stop := w.load(1000)
	for range rounds(8) {
		w.run()
		time.Sleep(time.Duration(100+rand.N(700)) * time.Millisecond) // a moment to be killed in
		w.kill()
	}
	n := stop()
	w.run()
	w.whole(c.inbox)
	w.whole(h.inbox)
	w.wholeFile(file)
	t.Logf("%d requests, %d kills; doubled by id: 0; delivered more than once: %d to the collector, %d to the webhook", n, rounds(8), c.inbox.again, h.inbox.again)
}

// A dead collector and one that hangs hold up neither the log nor the other sinks, and
// get everything in the end.
func TestAnOutageHoldsUpNothingAndLosesNothing(t *testing.T) {
	dead, hanging, alive := newCollector(t), newCollector(t), newCollector(t)
	w := newWorld(t, "sinks:\n"+dead.config("dead", "HTTP")+hanging.config("hanging", "GRPC")+alive.config("alive", "HTTP"))
	w.run()
	w.add(100)
	for _, c := range []*collector{dead, hanging, alive} {
		w.whole(c.inbox)
	}
	dead.stop()
	done := make(chan struct{})
	hanging.answers(func(ctx context.Context) error {
		select {
		case <-done:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	began := time.Now()
	stop := w.load(1000)
	ended := time.After(outage(3 * time.Second))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var late time.Duration
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		case <-tick.C:
			size, at := int(w.log.Size()), time.Now()
			eventually(t, "the sink that works is up to date", func() bool { return alive.inbox.count() >= size })
			late = max(late, time.Since(at))
		}
	}
	n := stop()
	outage := time.Since(began)
	if late > 5*time.Second {
		t.Errorf("the sink that works was %v late", late)
	}
	dead.start()
	hanging.answers(nil)
	close(done)
	back := time.Now()
	for _, c := range []*collector{dead, hanging, alive} {
		w.whole(c.inbox)
	}
	t.Logf("outage of %v, %d requests (%.0f a second): lost 0, doubled by id 0; the sink that worked was at most %v late; the others had all %v after they were back",
		outage.Round(time.Millisecond), n, float64(n)/outage.Seconds(), late.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
}
