//go:build alertmanager

package receivers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// alertmanager is a real one, which tells a pager.
type alertmanager struct {
	t       testing.TB
	address string
	dir     string
	cmd     *exec.Cmd

	mu    sync.Mutex
	paged map[string]time.Time // the first time, by the alarm's id
}

func newAlertmanager(t testing.TB) *alertmanager {
	t.Helper()
	a := &alertmanager{t: t, address: freePort(t), dir: t.TempDir(), paged: map[string]time.Time{}}
	pager := httptest.NewServer(http.HandlerFunc(a.page))
	t.Cleanup(pager.Close)
	config := fmt.Sprintf(`
route: {receiver: pager, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: pager, webhook_configs: [{url: '%s'}]}]`, pager.URL)
	if err := os.WriteFile(filepath.Join(a.dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *alertmanager) start() {
	a.t.Helper()
	binary := os.Getenv("BREAKGLASS_ALERTMANAGER")
	if binary == "" {
		a.t.Fatal("BREAKGLASS_ALERTMANAGER names no Alertmanager: run make test-receivers")
	}
	a.cmd = exec.Command(binary, "--config.file="+filepath.Join(a.dir, "config.yaml"), "--storage.path="+filepath.Join(a.dir, "data"),
		"--web.listen-address="+a.address, "--cluster.listen-address=")
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	eventually(a.t, "the Alertmanager is ready", func() bool {
		resp, err := http.Get("http://" + a.address + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (a *alertmanager) kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}

// page is what somebody is told.
func (a *alertmanager) page(_ http.ResponseWriter, r *http.Request) {
	var p struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if json.NewDecoder(r.Body).Decode(&p) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range p.Alerts {
		if id := x.Labels["id"]; a.paged[id].IsZero() && x.Status == "firing" {
			a.paged[id] = time.Now()
		}
	}
}

func (a *alertmanager) told(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.paged[id]
}

type gettable struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
}

// alerts are those that it has, by its API.
func (a *alertmanager) alerts() (out []gettable) {
	a.t.Helper()
	resp, err := http.Get("http://" + a.address + "/api/v2/alerts")
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (w *world) raise(id string) time.Time {
	w.t.Helper()
	data, err := json.Marshal(audit.Alarm{
		V: 1, ID: id, Event: audit.AlarmRaised, Name: audit.AlarmOpened, Severity: "critical", Time: time.Now(),
		Summary: "role oncall is open", Labels: map[string]string{"role": "oncall", "requestedBy": "alice"},
	})
	if err == nil {
		err = w.log.Append(context.Background(), merkle.Draft{Kind: audit.KindAlarm, Data: data})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return time.Now()
}

func TestSomebodyIsPagedByARealAlertmanager(t *testing.T) {
	a := newAlertmanager(t)
	w := newWorld(t, fmt.Sprintf("sinks: [{name: am, alertmanager: {url: 'http://%s'}}]", a.address))
	w.raise("before/the/sink") // the sink is new, and begins now
	w.run()
	eventually(t, "the sink has a cursor", func() bool { _, err := os.Stat(filepath.Join(w.dir, "sinks", "am.json")); return err == nil })
	w.add(100)
	at := w.raise("opened/prod/a/1")
	eventually(t, "somebody is paged", func() bool { return !a.told("opened/prod/a/1").IsZero() })
	t.Logf("from the durable entry to the pager: %v", a.told("opened/prod/a/1").Sub(at).Round(time.Millisecond))

	// While it is away an alarm is raised; and the sinks are killed for good measure.
	a.kill()
	w.raise("opened/prod/b/2")
	w.kill()
	w.run()
	a.start()
	eventually(t, "somebody is paged of what was raised meanwhile", func() bool { return !a.told("opened/prod/b/2").IsZero() })

	// Everything again, as after a lost cursor: the same alerts.
	w.kill()
	cursor := fmt.Sprintf(`{"v":1,"log":"%s","next":0}`, w.origin())
	if err := os.WriteFile(filepath.Join(w.dir, "sinks", "am.json"), []byte(cursor), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run()
	eventually(t, "also the first one is there", func() bool { return !a.told("before/the/sink").IsZero() })
	alerts := a.alerts()
	seen := map[string]int{}
	for _, x := range alerts {
		seen[x.Labels["id"]]++
		if x.Labels["alertname"] != audit.AlarmOpened || x.Labels["severity"] != "critical" || x.Labels["role"] != "oncall" || x.Annotations["summary"] != "role oncall is open" {
			t.Errorf("%+v", x)
		}
		if d := time.Until(x.EndsAt); d < 50*time.Minute || d > time.Hour {
			t.Errorf("it resolves by itself in %v", d)
		}
	}
	for _, id := range []string{"before/the/sink", "opened/prod/a/1", "opened/prod/b/2"} {
		if seen[id] != 1 {
			t.Errorf("alarm %s: %d alerts", id, seen[id])
		}
	}
}
