package auditlog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
)

// hook takes CloudEvents and remembers the alarms among them, by id.
type hook struct {
	*httptest.Server
	mu  sync.Mutex
	ids []string
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Data audit.Alarm }
		if json.NewDecoder(r.Body).Decode(&e) != nil || e.Data.Event != audit.AlarmRaised {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ids = append(h.ids, e.Data.ID)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) count(id string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.ids {
		if x == id {
			n++
		}
	}
	return n
}

// newAlarming is a service whose log is open, and whose parts run until end.
func newAlarming(t *testing.T, dir, sinks string) (s *Service, end func()) {
	t.Helper()
	c, err := sink.Parse([]byte(sinks))
	if err != nil {
		t.Fatal(err)
	}
	s = &Service{opts: Options{DataDir: dir, Sinks: &c}, log: slog.New(slog.DiscardHandler)}
	if s.clock, err = clock.Open(filepath.Join(dir, "clock"), clock.Options{Log: s.log}); err != nil {
		t.Fatal(err)
	}
	if err := s.tryOpen(merkle.Options{Log: s.log, Now: s.Now}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{s.runAlarms, s.runSinks} {
		parts.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return s, func() {
		cancel()
		parts.Wait()
		if err := s.Ledger().Close(); err != nil {
			t.Error(err)
		}
		if err := s.clock.Close(); err != nil {
			t.Error(err)
		}
	}
}

// bring an entry of another log, as package ship does.
func (s *Service) bring(t *testing.T, log string, seq int, kind string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = s.evidence().Append(t.Context(), merkle.Draft{Kind: kind, Data: data, Cursors: map[string]string{
			"log/" + log + " 0123abcd": fmt.Sprintf("%d@2026-11-24T03:00:00.000000Z", seq),
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not so: " + what)
		}
	}
}

// receipts of an alarm in the log.
func (s *Service) receiptsOf(t *testing.T, id string) (n int) {
	t.Helper()
	err := merkle.Read(t.Context(), s.LogDir(), merkle.Filter{}, func(e merkle.Entry) error {
		var a audit.Alarm
		if e.Kind == audit.KindAlarm && json.Unmarshal(e.Data, &a) == nil && a.ID == id && a.Event == audit.AlarmDelivered {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheServiceDeliversWhatTwoReplicasRaiseOnceAndRaisesWhatRequestsSay(t *testing.T) {
	h, dir := newHook(t), t.TempDir()
	sinks := fmt.Sprintf("sinks: [{name: hook, kinds: [alarm], cloudEvents: {url: '%s'}}]", h.URL)
	s, end := newAlarming(t, dir, sinks)
	raised := audit.Alarm{V: 1, ID: "opened/pay/a/u1", Event: audit.AlarmRaised, Name: audit.AlarmOpened, Severity: "critical", Time: s.Now()}
	// A fact that the controllers have raised: it is not raised here as well.
	s.bring(t, "replica-0", 4, audit.KindActivation, map[string]any{"event": "opened", "record": map[string]any{"namespace": "pay", "name": "a", "uid": "u1"}})
	s.bring(t, "replica-0", 5, audit.KindAlarm, raised)
	s.bring(t, "replica-1", 9, audit.KindAlarm, raised)
	policy := map[string]any{"name": "emergency", "spec": map[string]any{"issuers": []any{map[string]any{"name": "vault", "issuer": "https://vault", "offline": true}}}}
	s.bring(t, "replica-0", 6, audit.KindPolicy, policy)
	s.bring(t, "agent-0", 1, audit.KindRequest, audit.RequestEntry{V: 1, Type: audit.TypeEnd, Issuer: "https://vault", Subject: "dave", Activations: []string{"pay/a"}, Start: s.Now()})
	last := audit.Alarm{V: 1, ID: "revoked/pay/a/u1", Event: audit.AlarmRaised, Name: audit.AlarmRevoked, Severity: "warning", Time: s.Now()}
	s.bring(t, "replica-1", 10, audit.KindAlarm, last)
	eventually(t, "the last has a receipt", func() bool { return s.receiptsOf(t, last.ID) == 1 })
	if n := h.count(raised.ID); n != 1 {
		t.Errorf("what two replicas raise was delivered %d times", n)
	}
	if n := s.receiptsOf(t, raised.ID); n != 1 {
		t.Errorf("it has %d receipts", n)
	}
	var offline int
	h.mu.Lock()
	total := len(h.ids)
	for _, id := range h.ids {
		if len(id) > 8 && id[:8] == "offline/" {
			offline++
		}
	}
	h.mu.Unlock()
	if offline != 1 || total != 3 {
		t.Errorf("delivered are %q", h.ids)
	}

	// A second replica comes late, after a restart of the service.
	end()
	s, end = newAlarming(t, dir, sinks)
	defer end()
	s.bring(t, "replica-0", 7, audit.KindAlarm, last)
	s.bring(t, "agent-0", 2, audit.KindRequest, audit.RequestEntry{V: 1, Type: audit.TypeEnd, Issuer: "https://vault", Subject: "dave", Activations: []string{"pay/a"}, Start: s.Now()})
	again := audit.Alarm{V: 1, ID: "ended/pay/b/u2", Event: audit.AlarmRaised, Name: audit.AlarmEnded, Severity: "info", Time: s.Now()}
	s.bring(t, "replica-0", 8, audit.KindAlarm, again)
	eventually(t, "the last has a receipt", func() bool { return s.receiptsOf(t, again.ID) == 1 })
	if n := h.count(last.ID); n != 1 {
		t.Errorf("what the other replica has raised before a restart was delivered %d times", n)
	}
	if st := s.evidence().receipts.Status(); st.Problem != "" || st.Undelivered != 0 {
		t.Errorf("it says %+v", st)
	}
}
