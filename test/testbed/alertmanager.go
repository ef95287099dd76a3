package testbed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Alertmanager is a real one, a process of its own.
type Alertmanager struct {
	address, dir string
	cmd          *exec.Cmd
}

// StartAlertmanager starts the one that BREAKGLASS_ALERTMANAGER names.
func StartAlertmanager() *Alertmanager {
	GinkgoHelper()
	a := &Alertmanager{address: fmt.Sprintf("127.0.0.1:%d", FreePort()), dir: GinkgoT().TempDir()}
	Expect(os.WriteFile(filepath.Join(a.dir, "config.yaml"), []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600)).To(Succeed())
	a.Start()
	DeferCleanup(a.Kill)
	return a
}

// Start it again where it was.
func (a *Alertmanager) Start() {
	GinkgoHelper()
	binary := os.Getenv("BREAKGLASS_ALERTMANAGER")
	Expect(binary).NotTo(BeEmpty(), "BREAKGLASS_ALERTMANAGER names no Alertmanager: run make test-serve")
	a.cmd = exec.Command(binary, "--config.file="+filepath.Join(a.dir, "config.yaml"), "--storage.path="+filepath.Join(a.dir, "data"),
		"--web.listen-address="+a.address, "--cluster.listen-address=")
	Expect(a.cmd.Start()).To(Succeed())
	Eventually(func() error { _, err := a.alerts(); return err }, "20s", "20ms").Should(Succeed())
}

// Kill it.
func (a *Alertmanager) Kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill() // it may have ended
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}

// Hang until Resume: it takes connections, and answers nothing.
func (a *Alertmanager) Hang() {
	GinkgoHelper()
	Expect(a.cmd.Process.Signal(syscall.SIGSTOP)).To(Succeed())
}

// Resume after Hang.
func (a *Alertmanager) Resume() {
	GinkgoHelper()
	Expect(a.cmd.Process.Signal(syscall.SIGCONT)).To(Succeed())
}

// Sink is its item of the file of --sinks.
func (a *Alertmanager) Sink() string {
	return fmt.Sprintf("- {name: alertmanager, alertmanager: {url: 'http://%s'}}\n", a.address)
}

// Alert is one that it has.
type Alert struct {
	Labels, Annotations map[string]string
	StartsAt            time.Time
}

func (a *Alertmanager) alerts() (out []Alert, err error) {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + a.address + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// Alerts of one name, by its API.
func (a *Alertmanager) Alerts(name string) (out []Alert) {
	GinkgoHelper()
	all, err := a.alerts()
	Expect(err).NotTo(HaveOccurred())
	for _, x := range all {
		if name == "" || x.Labels["alertname"] == name {
			out = append(out, x)
		}
	}
	return out
}

// Webhook takes CloudEvents and remembers the alarms among them.
type Webhook struct {
	server *httptest.Server
	mu     sync.Mutex
	alarms []Received
}

// Received is an alarm, and when it came.
type Received struct {
	audit.Alarm
	At time.Time
}

// StartWebhook starts one.
func StartWebhook() *Webhook {
	h := &Webhook{}
	h.server = httptest.NewServer(h)
	DeferCleanup(h.server.Close)
	return h
}

// Sink is its item of the file of --sinks.
func (h *Webhook) Sink() string {
	return fmt.Sprintf("- {name: webhook, kinds: [alarm], cloudEvents: {url: '%s'}}\n", h.server.URL)
}

func (h *Webhook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var e struct{ Data audit.Alarm }
	if json.NewDecoder(r.Body).Decode(&e) != nil || e.Data.Event != audit.AlarmRaised {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alarms = append(h.alarms, Received{e.Data, time.Now()})
}

// Alarms of one name that came.
func (h *Webhook) Alarms(name string) (out []Received) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.alarms {
		if a.Name == name {
			out = append(out, a)
		}
	}
	return out
}

// WriteSinks has serve deliver to these, from its next start on.
func (w *World) WriteSinks(sinks ...string) {
	GinkgoHelper()
	path := filepath.Join(w.Dir, "sinks.yaml")
	text := "sinks:\n"
	for _, s := range sinks {
		text += s
	}
	Expect(os.WriteFile(path, []byte(text), 0o600)).To(Succeed())
	w.Args = append(w.Args, "--sinks", path)
}

// Raised are the alarms of one name in the audit log, Delivered the receipts of one
// id.
func (w *World) Raised(name string) (out []audit.Alarm) {
	GinkgoHelper()
	for _, a := range w.alarms() {
		if a.Event == audit.AlarmRaised && (name == "" || a.Name == name) {
			out = append(out, a)
		}
	}
	return out
}

// Delivered are the receipts of an alarm in the audit log.
func (w *World) Delivered(id string) (out []audit.Alarm) {
	GinkgoHelper()
	for _, a := range w.alarms() {
		if a.Event == audit.AlarmDelivered && a.ID == id {
			out = append(out, a)
		}
	}
	return out
}

func (w *World) alarms() (out []audit.Alarm) {
	GinkgoHelper()
	for _, e := range w.Entries(audit.KindAlarm) {
		var a audit.Alarm
		Expect(json.Unmarshal(e.Data, &a)).To(Succeed())
		out = append(out, a)
	}
	return out
}
