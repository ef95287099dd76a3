package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

func TestAnAlarmThatCannotBeRecordedIsToldAllTheSame(t *testing.T) {
	var mu sync.Mutex
	var alerts []alert
	var events []struct {
		ID   string
		Data struct {
			Data audit.Alarm
		}
	}
	am := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var more []alert
		if err := json.NewDecoder(r.Body).Decode(&more); err != nil {
			t.Error(err)
		}
		alerts = append(alerts, more...)
	}))
	defer am.Close()
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		e := events[:0:0]
		e = append(e, struct {
			ID   string
			Data struct{ Data audit.Alarm }
		}{ID: r.Header.Get("ce-id")})
		if err := json.NewDecoder(r.Body).Decode(&e[0].Data); err != nil {
			t.Error(err)
		}
		events = append(events, e...)
	}))
	defer hook.Close()
	dir := t.TempDir()
	c, err := Parse([]byte(fmt.Sprintf(`sinks:
- {name: am, alertmanager: {url: '%s'}}
- {name: hook, kinds: [alarm], cloudEvents: {url: '%s'}}
- {name: dead, kinds: [alarm], cloudEvents: {url: 'http://127.0.0.1:1'}}
- {name: file, jsonLines: {path: '%s'}}
- {name: requests, kinds: [request], cloudEvents: {url: '%s'}}`, am.URL, hook.URL, filepath.Join(dir, "file.jsonl"), hook.URL)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), Options{Dir: filepath.Join(dir, "log"), StateDir: filepath.Join(dir, "sinks"), Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := audit.Alarm{V: 1, ID: "failing/1", Event: audit.AlarmRaised, Name: audit.AlarmFailing, Severity: "critical", Time: time.Now().UTC(), Summary: "no space"}
	errs := s.Tell(t.Context(), a)
	if len(errs) != 3 || errs["am"] != nil || errs["hook"] != nil || errs["dead"] == nil {
		t.Errorf("errors are %v", errs)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(alerts) != 1 || alerts[0].Labels["id"] != a.ID || alerts[0].Labels["alertname"] != a.Name {
		t.Errorf("alerts are %+v", alerts)
	}
	if len(events) != 1 || events[0].ID != Unrecorded+"failing/1/0" || events[0].Data.Data.ID != a.ID {
		t.Errorf("events are %+v", events)
	}
}
