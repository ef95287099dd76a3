package sink

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func TestAnAlertmanagerGetsRaisedAlarmsAsAlertsThatResolveByThemselves(t *testing.T) {
	var mu sync.Mutex
	var got []alert
	am := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var alerts []alert
		if err == nil {
			err = json.Unmarshal(b, &alerts)
		}
		if err != nil || r.URL.Path != "/am/api/v2/alerts" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, alerts...)
	}))
	defer am.Close()
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "log"), merkle.Options{})
	config, err := Parse([]byte(`sinks: [{name: am, alertmanager: {url: "` + am.URL + `/am/"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)
	var delivered []string
	start(t, Options{
		Dir: filepath.Join(dir, "log"), StateDir: filepath.Join(dir, "sinks"), Config: config, Now: func() time.Time { return now },
		OnDelivered: func(sink string, e merkle.Entry, _ time.Time) {
			mu.Lock()
			defer mu.Unlock()
			delivered = append(delivered, sink+" "+e.Kind)
		},
	})
	raised := audit.Alarm{
		V: 1, ID: "opened/a/b/1", Event: audit.AlarmRaised, Name: audit.AlarmOpened, Severity: "critical",
		Time: now.Add(-2 * time.Hour), Summary: "it is open", Labels: map[string]string{"role": "oncall", "severity": "none"},
	}
	told := raised
	told.Event = audit.AlarmDelivered
	add(t, l, "request", 0, 3)
	addAlarm(t, l, told)
	addAlarm(t, l, raised)
	eventually(t, "the alarm is there", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) > 0 && len(delivered) == 2 })
	if len(got) != 1 {
		t.Fatalf("%d alerts", len(got))
	}
	a := got[0]
	if a.Labels["alertname"] != "ActivationOpened" || a.Labels["severity"] != "critical" || a.Labels["id"] != "opened/a/b/1" || a.Labels["role"] != "oncall" ||
		a.Annotations["summary"] != "it is open" || !a.StartsAt.Equal(raised.Time) || !a.EndsAt.Equal(now.Add(alertFor)) {
		t.Errorf("%+v", a)
	}
}
