package auditlog

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

const serviceName = "breakglass-audit.breakglass-system.svc"

var quiet = slog.New(slog.DiscardHandler)

// running is a service as a process would run it.
type running struct {
	t    *testing.T
	ca   *pki.Authority
	o    Options
	stop context.CancelFunc
	done chan struct{}
	err  error // valid after done
}

func newRunning(t *testing.T) *running {
	t.Helper()
	ca, _, err := (*pki.Authority)(nil).Rotate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, ca: ca, o: Options{
		DataDir: filepath.Join(t.TempDir(), "data"), TLSDir: t.TempDir(), Listen: freeAddress(t), MetricsAddress: freeAddress(t), Log: quiet,
	}}
	r.certify(ca)
	return r
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certify writes a certificate by that CA. Who is trusted stays the same.
func (r *running) certify(ca *pki.Authority) {
	r.t.Helper()
	data, err := ca.Issue(pki.AuditServer(serviceName), time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	data[pki.KeyTrusted] = r.ca.Trusted()
	for name, b := range data {
		if err := os.WriteFile(filepath.Join(r.o.TLSDir, name), b, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *running) start() {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.done = stop, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		r.err = Run(ctx, r.o)
	}(r.done)
	r.t.Cleanup(func() { stop(); <-r.done })
}

func (r *running) end() {
	r.t.Helper()
	r.stop()
	if <-r.done; r.err != nil {
		r.t.Fatal(r.err)
	}
}

// says waits until GET of the metrics address answers with a text.
func (r *running) says(path, want string) {
	r.t.Helper()
	got := ""
	for late := time.After(10 * time.Second); ; {
		if resp, err := http.Get("http://" + r.o.MetricsAddress + path); err == nil {
			b, _ := io.ReadAll(resp.Body) // what there is will do
			resp.Body.Close()
			if got = string(b); strings.Contains(got, want) {
				return
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			r.t.Fatalf("%s says %q, and never %q", path, got, want)
		}
	}
}

// bring a log of that origin with entries of these kinds, as a client with that certificate.
// It returns what is wrong, "" when all is confirmed.
func (r *running) bring(origin string, ca *pki.Authority, who pki.Subject, kinds ...string) string {
	r.t.Helper()
	data, err := ca.Issue(who, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	data[pki.KeyTrusted] = r.ca.Trusted()
	dir := r.t.TempDir()
	c := ship.New(ship.Options{
		Service: r.o.Listen, Mark: filepath.Join(dir, "shipped"), Log: quiet,
		TLS: func() (*tls.Config, error) { return pki.ClientConfig(data, serviceName) },
	})
	l, err := merkle.Open(filepath.Join(dir, "log"), merkle.Options{Log: quiet, Origin: origin})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, kind := range kinds {
		if err := l.Append(r.t.Context(), merkle.Draft{Kind: kind, Data: json.RawMessage(`{"gateway":"pay/door"}`)}); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		r.t.Fatal(err)
	}
	c.Opened(l)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go c.Run(ctx)
	tried, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	go func() { // once it has failed it fails again
		for tried.Err() == nil && c.Stats().Failures < 3 {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	if err := c.Finish(tried); err != nil {
		return err.Error()
	}
	return ""
}

func TestEachBringsTheLogsThatItsCertificateIsFor(t *testing.T) {
	r := newRunning(t)
	r.start()
	r.says("/readyz", "ok")
	other, _, err := (*pki.Authority)(nil).Rotate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	agent, controller := pki.Client("pay", "door"), pki.ControllerClient("system", "c-0")
	for name, c := range map[string]struct {
		origin string
		ca     *pki.Authority
		who    pki.Subject
		kind   string
		want   string
	}{
		"an agent":                         {"breakglass.dev/log/pay/door/pod-1", r.ca, agent, "request", ""},
		"a controller":                     {"breakglass.dev/log/0123456789abcdef", r.ca, controller, "activation", ""},
		"an agent of another Gateway":      {"breakglass.dev/log/pay/door/pod-2", r.ca, pki.Client("pay", "other"), "request", "may not bring"},
		"an agent with a decision":         {"breakglass.dev/log/pay/door/pod-3", r.ca, agent, "activation", "may not bring"},
		"a controller with a pod's log":    {"breakglass.dev/log/pay/door/pod-4", r.ca, controller, "request", "may not bring"},
		"a client of another CA":           {"breakglass.dev/log/pay/door/pod-5", other, agent, "request", "certificate"},
		"a server's certificate":           {"breakglass.dev/log/pay/door/pod-6", r.ca, pki.Server("x.svc"), "request", "certificate"},
		"the certificate of somebody else": {"breakglass.dev/log/pay/door/pod-7", r.ca, pki.AuditServer(serviceName), "request", "certificate"},
	} {
		if why := r.bring(c.origin, c.ca, c.who, c.kind); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, want %q", name, why, c.want)
		}
	}
	r.says("/metrics", `breakglass_audit_sources{state="ended"} 2`)
	r.says("/metrics", "breakglass_audit_entries_total 4")
	r.end()
	kinds := map[string]int{}
	if err := merkle.Read(t.Context(), filepath.Join(r.o.DataDir, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		kinds[e.Kind]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if kinds[audit.KindRequest] != 1 || kinds[audit.KindActivation] != 1 || kinds[audit.KindSource] != 4 || len(kinds) != 4 {
		t.Errorf("%v", kinds)
	}
}

func TestACertificateThatWasRenewedIsUsedForTheNextConnection(t *testing.T) {
	r := newRunning(t)
	other, _, err := (*pki.Authority)(nil).Rotate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.certify(other)
	r.start()
	r.says("/readyz", "ok")
	bring := func(pod string) string {
		return r.bring("breakglass.dev/log/pay/door/"+pod, r.ca, pki.Client("pay", "door"), "request")
	}
	if why := bring("pod-1"); !strings.Contains(why, "certificate") {
		t.Errorf("a service of another CA: %q", why)
	}
	r.certify(r.ca)
	if why := bring("pod-1"); why != "" {
		t.Error(why)
	}
}

func TestALogThatCannotBeOpenedIsToldAndTriedAgain(t *testing.T) {
	r := newRunning(t)
	r.start()
	r.says("/readyz", "ok")
	r.end()
	path := filepath.Join(r.o.DataDir, "log", "audit.pub")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.says("/readyz", "cannot be opened")
	r.says("/metrics", "breakglass_audit_keeping 0")
	if why := r.bring("breakglass.dev/log/pay/door/pod-1", r.ca, pki.Client("pay", "door"), "request"); !strings.Contains(why, "cannot be opened") {
		t.Errorf("%q", why)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.says("/readyz", "ok")
	if why := r.bring("breakglass.dev/log/pay/door/pod-1", r.ca, pki.Client("pay", "door"), "request"); why != "" {
		t.Error(why)
	}
	second := r.o
	second.Listen, second.MetricsAddress = freeAddress(t), ""
	second.DataDir = r.o.DataDir
	if err := Run(t.Context(), second); !errors.Is(err, merkle.ErrLocked) {
		t.Errorf("a second service on one log: %v", err)
	}
	r.end()
}
