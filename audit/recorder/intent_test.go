package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func intent(key string) audit.RequestEntry {
	return audit.RequestEntry{V: 1, Type: audit.TypeIntent, Key: key, StreamID: key, Gateway: "pay/door", Opening: "o", Start: time.Now().UTC()}
}

// intents are the keys that are on disk, in order.
func intents(t *testing.T, dir string) (keys []string) {
	t.Helper()
	err := merkle.Read(t.Context(), dir, merkle.Filter{}, func(e merkle.Entry) error {
		var q audit.RequestEntry
		if e.Kind == audit.KindRequest && json.Unmarshal(e.Data, &q) == nil && q.Type == audit.TypeIntent {
			keys = append(keys, q.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestAnIntentIsOnDiskWhenItIsAnswered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	discard := slog.New(slog.DiscardHandler)
	r, err := New(OpenLog(dir, merkle.Options{Log: discard, Now: time.Now}), nil, Options{Log: discard, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			if err := r.Intend(t.Context(), intent(key)); err != nil {
				t.Error(err)
				return
			}
			for _, k := range intents(t, dir) {
				if k == key {
					return
				}
			}
			t.Errorf("%s was answered, and is not on disk", key)
		})
	}
	wg.Wait()
	if s := r.Stats(); s.Intents != 64 || s.Requests != 0 || s.Entries < 64 {
		t.Errorf("%+v", s)
	}
}

func TestAnIntentThatCannotBeKeptIsAnError(t *testing.T) {
	discard := slog.New(slog.DiscardHandler)
	m := &memory{}
	unlocked := make(chan struct{})
	r, err := New(func() (Ledger, []merkle.Entry, error) {
		<-unlocked
		return m, nil, nil
	}, nil, Options{Log: discard, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Intend(t.Context(), intent("early")); err == nil {
		t.Error("the log is not open, and it was kept")
	}
	close(unlocked)
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Intend(t.Context(), intent("kept")); err != nil {
		t.Error(err)
	}
	full := errors.New("the disk is full")
	m.fail(full)
	if err := r.Intend(t.Context(), intent("full")); !errors.Is(err, full) {
		t.Errorf("the disk is full: %v", err)
	}
	m.fail(nil)
	if err := r.Intend(t.Context(), intent("again")); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, q := range of[audit.RequestEntry](m, audit.KindRequest) {
		if q.Key == "early" || q.Key == "full" {
			t.Errorf("%s is in the log", q.Key)
		}
	}
}

// BenchmarkIntend is what an intent costs on the disk of the temporary directory.
func BenchmarkIntend(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers, " at once"), func(b *testing.B) {
			discard := slog.New(slog.DiscardHandler)
			r, err := New(OpenLog(filepath.Join(b.TempDir(), "log"), merkle.Options{Log: discard, Now: time.Now}), nil, Options{Log: discard, Now: time.Now})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			e := intent("6f1c2a7e-0000-4000-8000-000000000000")
			e.Method, e.Host, e.Path, e.Route, e.Rule, e.Role = "GET", "db.example.com", "/state/replicas", "pay/db", "#0", "db-oncall"
			e.Issuer, e.Subject, e.Activations = "https://sso.example.com", "ana@example.com", []string{"pay/inc-4711"}
			b.SetParallelism(callers)
			b.ReportAllocs()
			if callers == 1 {
				for b.Loop() {
					if err := r.Intend(b.Context(), e); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := r.Intend(b.Context(), e); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
