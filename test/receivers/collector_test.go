package receivers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

// collector is the receiver of the OpenTelemetry collector, with a pipeline behind
// it that ends here.
type collector struct {
	t          testing.TB
	http, grpc string // addresses
	inbox      *inbox

	mu       sync.Mutex
	receiver receiver.Logs
	answer   func(context.Context) error // of the pipeline
}

func newCollector(t testing.TB) *collector {
	c := &collector{t: t, http: freePort(t), grpc: freePort(t), inbox: newInbox()}
	c.start()
	t.Cleanup(c.stop)
	return c
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *collector) start() {
	c.t.Helper()
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig()
	err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"http": map[string]any{"endpoint": c.http}, "grpc": map[string]any{"endpoint": c.grpc},
	}}).Unmarshal(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	settings := receiver.Settings{ID: component.NewID(f.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings(), BuildInfo: component.NewDefaultBuildInfo()}
	pipeline, err := consumer.NewLogs(c.consume)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := f.CreateLogs(context.Background(), settings, cfg, pipeline)
	if err == nil {
		err = r.Start(context.Background(), componenttest.NewNopHost())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.receiver = r
	c.mu.Unlock()
}

func (c *collector) stop() {
	c.mu.Lock()
	r := c.receiver
	c.receiver = nil
	c.mu.Unlock()
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		c.t.Error(err)
	}
}

func (c *collector) answers(f func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

func (c *collector) consume(ctx context.Context, logs plog.Logs) error {
	c.mu.Lock()
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		if err := answer(ctx); err != nil {
			return err
		}
	}
	for _, rl := range logs.ResourceLogs().All() {
		origin, _ := rl.Resource().Attributes().Get("breakglass.log")
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				c.record(origin.Str(), r)
			}
		}
	}
	return nil
}

func (c *collector) record(origin string, r plog.LogRecord) {
	id, _ := r.Attributes().Get("breakglass.id")
	if seq, ok := r.Attributes().Get("breakglass.seq"); ok && id.Str() != fmt.Sprintf("%s/%d", origin, seq.Int()) {
		c.inbox.fail(fmt.Sprintf("id %s, origin %s, seq %d", id.Str(), origin, seq.Int()))
	}
	if r.Timestamp() == 0 || r.SeverityNumber() == 0 {
		c.inbox.fail("a record without a time or a severity")
	}
	c.inbox.take(id.Str(), r.Body().Str())
}

func (c *collector) config(name, protocol string) string {
	address := c.http
	if protocol == "GRPC" {
		address = c.grpc
	}
	return fmt.Sprintf("- {name: %s, otlp: {endpoint: 'http://%s', protocol: %s}}\n", name, address, protocol)
}

func TestACollectorHasEachEntryOnce(t *testing.T) {
	for _, protocol := range []string{"HTTP", "GRPC"} {
		t.Run(protocol, func(t *testing.T) {
			c := newCollector(t)
			w := newWorld(t, "sinks:\n"+c.config("otel", protocol))
			w.add(3000)
			w.run()
			w.whole(c.inbox)
		})
	}
}

func TestACollectorThatFailsOrIsAwayHasEachEntryOnceAfterwards(t *testing.T) {
	for _, protocol := range []string{"HTTP", "GRPC"} {
		for name, fail := range map[string]func(*collector) (mend func()){
			"its pipeline is full": func(c *collector) func() {
				c.answers(func(context.Context) error { return errors.New("the queue is full") })
				return func() { c.answers(nil) }
			},
			"it refuses for good": func(c *collector) func() {
				c.answers(func(context.Context) error { return consumererror.NewPermanent(errors.New("no")) })
				return func() { c.answers(nil) }
			},
			"it takes and says nothing": func(c *collector) func() {
				c.answers(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				return func() { c.answers(nil) }
			},
			"it is away": func(c *collector) func() { c.stop(); return c.start },
		} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				t.Parallel()
				c := newCollector(t)
				w := newWorld(t, "sinks:\n"+c.config("otel", protocol))
				w.run()
				w.add(500)
				w.whole(c.inbox)
				mend := fail(c)
				stop := w.load(500)
				time.Sleep(outage(2 * time.Second)) // an outage has a length: it is no way to wait for something
				mend()
				stop()
				w.whole(c.inbox)
			})
		}
	}
}
