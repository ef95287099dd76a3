package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

type measurements struct {
	*world
	rounds  int
	results []*result
}

func (m *measurements) result(name string) *result {
	r := &result{Name: name}
	m.results = append(m.results, r)
	return r
}

// client keeps one connection to the door.
func (w *world) client() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.door)
		},
	}}
}

func (w *world) open(c *http.Client, route int, path string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://h%d.example.com%s", route, path), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.bearer)
	return c.Do(req)
}

// ask returns the status of one request, 0 for none.
func (w *world) ask(c *http.Client, route int) int {
	res, err := w.open(c, route, "/x")
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // a cut body is still an answer
	return res.StatusCode
}

// pause between two requests of a poll: asking without one would take the
// machine's cores away from what is measured.
const pause = 500 * time.Microsecond

// until asks until the status is, or is no longer, 200. It returns when the last
// request began.
func (w *world) until(c *http.Client, route int, open bool) (time.Time, error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		began := time.Now()
		if (w.ask(c, route) == http.StatusOK) == open {
			return began, nil
		}
		time.Sleep(pause)
	}
	return time.Time{}, fmt.Errorf("route %d: waited 10 s (open: %v)", route, open)
}

func (w *world) name() string { w.n++; return fmt.Sprintf("bench-%d", w.n) }

func (w *world) breakGlass(route int, d time.Duration) (*v1alpha1.Activation, error) {
	text := gwv1.Duration(fmt.Sprintf("%ds%dms", d/time.Second, d%time.Second/time.Millisecond))
	return w.control.Activate(context.Background(), control.ActivateRequest{Activation: v1alpha1.Activation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: w.name()},
		Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: fmt.Sprintf("route-%d", route)}},
			Role:       "bench", Reason: "bench", Incident: "BENCH", Duration: &text,
		},
	}})
}

func (w *world) revokeName(name string) error {
	_, err := w.control.Revoke(context.Background(), control.RevokeRequest{Names: []types.NamespacedName{{Namespace: "bench", Name: name}}})
	return err
}

// apply: an Activation appears in the directory.
func (m *measurements) apply() error {
	r := m.result("manifest written -> first 200")
	closed := m.result("manifest says revoked: true -> first refusal")
	c := m.client()
	for range m.rounds {
		name := m.name()
		file := m.path("config", name+".yaml")
		text := fmt.Sprintf("apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: %s, namespace: bench}\nspec: {targetRefs: [{name: route-1}], role: bench, reason: bench, incident: BENCH, duration: 1m}\n", name)
		if _, err := m.until(c, 1, false); err != nil {
			return err
		}
		began := time.Now()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		if _, err := m.until(c, 1, true); err != nil {
			return err
		}
		r.add(time.Since(began))
		began = time.Now()
		if err := os.WriteFile(file, []byte(strings.Replace(text, "duration: 1m", "duration: 1m, revoked: true", 1)), 0o600); err != nil {
			return err
		}
		if _, err := m.until(c, 1, false); err != nil {
			return err
		}
		closed.add(time.Since(began))
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// activate: somebody asks over the control socket.
func (m *measurements) activate() error {
	r := m.result("activate -> first 200")
	c := m.client()
	for range m.rounds {
		began := time.Now()
		a, err := m.breakGlass(1, time.Minute)
		if err != nil {
			return err
		}
		if _, err := m.until(c, 1, true); err != nil {
			return err
		}
		r.add(time.Since(began))
		if err := m.revokeName(a.Name); err != nil {
			return err
		}
		if _, err := m.until(c, 1, false); err != nil {
			return err
		}
	}
	return nil
}

// stream notes when its last byte came.
type stream struct {
	last time.Time
	done chan struct{}
}

func (m *measurements) stream(route int) (*stream, error) {
	res, err := m.open(m.client(), route, "/x/stream")
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("stream: status %d", res.StatusCode)
	}
	s := &stream{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer res.Body.Close()
		buf := make([]byte, 4096)
		for {
			n, err := res.Body.Read(buf)
			if n > 0 {
				s.last = time.Now()
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// revoke: from the request on the control socket.
func (m *measurements) revoke() error {
	refused, last := m.result("revoke -> first refusal"), m.result("revoke -> last byte of a stream")
	c := m.client()
	for range m.rounds {
		a, err := m.breakGlass(1, time.Minute)
		if err != nil {
			return err
		}
		if _, err := m.until(c, 1, true); err != nil {
			return err
		}
		s, err := m.stream(1)
		if err != nil {
			return err
		}
		began := time.Now()
		var at time.Time
		var asked sync.WaitGroup
		asked.Go(func() { at, _ = m.until(c, 1, false) })
		if err := m.revokeName(a.Name); err != nil {
			return err
		}
		asked.Wait()
		<-s.done
		refused.add(at.Sub(began))
		last.add(s.last.Sub(began))
	}
	return nil
}

func (m *measurements) deadlines() error {
	return m.deadline("serve alive", func(*v1alpha1.Activation) error { return nil })
}

// deadlinesKilled kills serve before each deadline and starts it anew.
func (m *measurements) deadlinesKilled() error {
	m.rounds = min(m.rounds, 20)
	return m.deadline("serve killed", func(*v1alpha1.Activation) error {
		if err := m.serve.Process.Kill(); err != nil {
			return err
		}
		_ = m.serve.Wait() // killed: its error is no news
		return nil
	})
}

func (m *measurements) deadline(when string, meanwhile func(*v1alpha1.Activation) error) error {
	accepted := m.result("deadline -> last accepted request, " + when)
	refused := m.result("deadline -> first refused request, " + when)
	last := m.result("deadline -> last byte of a stream, " + when)
	for range m.rounds {
		if err := m.oneDeadline(meanwhile, accepted, refused, last); err != nil {
			return err
		}
		if m.serve.ProcessState != nil {
			if err := m.startServe(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *measurements) oneDeadline(meanwhile func(*v1alpha1.Activation) error, accepted, refused, last *result) error {
	c := m.client()
	a, err := m.breakGlass(1, 1500*time.Millisecond)
	if err != nil {
		return err
	}
	if _, err := m.until(c, 1, true); err != nil {
		return err
	}
	s, err := m.stream(1)
	if err != nil {
		return err
	}
	if err := meanwhile(a); err != nil {
		return err
	}
	deadline := a.Status.Deadline.Time
	time.Sleep(time.Until(deadline.Add(-50 * time.Millisecond)))
	var lastOK time.Time
	for {
		began := time.Now()
		if m.ask(c, 1) != http.StatusOK {
			refused.add(began.Sub(deadline))
			break
		}
		lastOK = began
		time.Sleep(pause)
	}
	<-s.done
	if !lastOK.IsZero() { // none within 50 ms: the machine stood still
		accepted.add(lastOK.Sub(deadline))
	}
	last.add(s.last.Sub(deadline))
	return nil
}

// probe asks another open route all the time.
type probe struct {
	stop, done   chan struct{}
	asked, wrong int
}

func (w *world) probe() (*probe, error) {
	p := &probe{stop: make(chan struct{}), done: make(chan struct{})}
	c := w.client()
	if _, err := w.breakGlass(0, time.Hour); err != nil {
		return nil, err
	}
	if _, err := w.until(c, 0, true); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			p.asked++
			if w.ask(c, 0) != http.StatusOK {
				p.wrong++
			}
		}
	}()
	return p, nil
}

func (p *probe) end() (asked, wrong int) {
	close(p.stop)
	<-p.done
	return p.asked, p.wrong
}
