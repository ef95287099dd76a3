package main

import (
	"context"
	"errors"
	"fmt"
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
	scene *scene
}

// patience is how long anything may take before the run is given up.
const patience = 60 * time.Second

func (w *world) name() string { return fmt.Sprintf("bench-%d", w.n.Add(1)) }

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

func activation(name string, route int, more string) string {
	return fmt.Sprintf("apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: %s, namespace: bench}\n"+
		"spec: {targetRefs: [{name: route-%d}], role: bench, reason: bench, incident: BENCH%s}\n", name, route, more)
}

// apply: an Activation appears in the directory, and is revoked there.
func (m *measurements) apply() error {
	opened := m.scene.row("manifest written -> first 200", m.scene.firstAnswer())
	closed := m.scene.row("manifest says revoked: true -> first refusal", 0)
	v := m.visitor(target)
	defer v.close()
	for range m.scene.rounds {
		name := m.name()
		file := m.path("config", name+".yaml")
		if _, _, err := v.until(false, patience); err != nil {
			return err
		}
		began := time.Now()
		if err := os.WriteFile(file, []byte(activation(name, target, ", duration: 5m")), 0o600); err != nil {
			return err
		}
		_, then, err := v.until(true, patience)
		if err != nil {
			return err
		}
		opened.add(then.ended.Sub(began))
		began = time.Now()
		if err := os.WriteFile(file, []byte(activation(name, target, ", duration: 5m, revoked: true")), 0o600); err != nil {
			return err
		}
		if _, then, err = v.until(false, patience); err != nil {
			return err
		}
		closed.add(then.ended.Sub(began))
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// activate: somebody asks over the control socket, opens a stream, and revokes.
func (m *measurements) activate() error {
	opened := m.scene.row("activate -> first 200", m.scene.firstAnswer())
	refused := m.scene.judge("revoke -> first refusal", 50, 0.99)
	last := m.scene.judge("revoke -> last byte of a stream", 50, 0.99)
	v := m.visitor(target)
	defer v.close()
	for range m.scene.rounds {
		if _, _, err := v.until(false, patience); err != nil {
			return err
		}
		began := time.Now()
		a, err := m.breakGlass(target, 5*time.Minute)
		if err != nil {
			return err
		}
		_, then, err := v.until(true, patience)
		if err != nil {
			return err
		}
		opened.add(then.ended.Sub(began))
		s, err := m.stream(target)
		if err != nil {
			return err
		}
		began = time.Now()
		var asked sync.WaitGroup
		var pollErr error
		asked.Go(func() { _, then, pollErr = v.until(false, patience) })
		err = m.revokeName(a.Name)
		asked.Wait()
		if err := errors.Join(err, pollErr); err != nil {
			return err
		}
		<-s.done
		refused.add(then.ended.Sub(began))
		last.add(s.last.Sub(began))
	}
	return nil
}

func (m *measurements) deadlines() error {
	return m.deadline("serve alive", func() error { return nil })
}

// deadlinesKilled kills serve before each deadline and starts it anew after.
func (m *measurements) deadlinesKilled() error {
	return m.deadline("serve killed", m.endServe)
}

// deadline has several routes end one after the other, so that one dead serve
// makes several samples.
func (m *measurements) deadline(when string, meanwhile func() error) error {
	rows := deadlineRows{
		accepted: m.scene.row("deadline -> last accepted request, "+when, 0),
		refused:  m.scene.judge("deadline -> first refused request, "+when, 10, 0.99),
		last:     m.scene.judge("deadline -> last byte of a stream, "+when, 10, 0.99),
	}
	targets := min(deadlineTargets, m.scene.Routes)
	for done := 0; done < m.scene.rounds; done += targets {
		var ends []*ending
		for i := range targets {
			e, err := m.ending(target+i, m.opening+time.Duration(i)*150*time.Millisecond)
			if err != nil {
				return err
			}
			ends = append(ends, e)
		}
		if err := meanwhile(); err != nil {
			return err
		}
		var watched sync.WaitGroup
		errs := make([]error, len(ends))
		for i, e := range ends {
			watched.Go(func() { errs[i] = e.watch() })
		}
		watched.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		for _, e := range ends {
			e.report(rows)
		}
		if m.serve.ProcessState != nil {
			if err := m.startServe(); err != nil {
				return err
			}
		}
	}
	return nil
}

// deadlineTargets are how many routes end in one round.
const deadlineTargets = 5

type deadlineRows struct{ accepted, refused, last *row }

// ending is an open route with a stream, its deadline, and what came of them.
type ending struct {
	visitor      *visitor
	stream       *stream
	deadline     time.Time
	before, then shot
}

func (m *measurements) ending(route int, d time.Duration) (*ending, error) {
	e := &ending{visitor: m.visitor(route)}
	a, err := m.breakGlass(route, d)
	if err != nil {
		return nil, err
	}
	if _, _, err := e.visitor.until(true, patience); err != nil {
		return nil, err
	}
	e.deadline = a.Status.Deadline.Time
	e.stream, err = m.stream(route)
	return e, err
}

// watch asks from shortly before the deadline on.
func (e *ending) watch() (err error) {
	defer e.visitor.close()
	nap(e.deadline.Add(-30 * time.Millisecond))
	e.before, e.then, err = e.visitor.until(false, 10*time.Second)
	<-e.stream.done
	return err
}

func (e *ending) report(rows deadlineRows) {
	rows.last.add(e.stream.last.Sub(e.deadline))
	if e.before.open() {
		rows.accepted.add(e.before.began.Sub(e.deadline))
	} else if e.then.ended.After(e.deadline) {
		return // the machine stood still: none was answered before the deadline, which says nothing
	}
	rows.refused.add(e.then.began.Sub(e.deadline))
}

// memory that serve and Envoy hold while all is open.
func (m *measurements) memory() error {
	envoy, err := m.envoyPID()
	if err != nil {
		return err
	}
	m.scene.ServeMB, m.scene.EnvoyMB = rss(m.serve.Process.Pid), rss(envoy)
	return nil
}

// cold: serve and Envoy are dead, and start with what is on record.
func (m *measurements) cold() error {
	if _, err := m.breakGlass(target, time.Hour); err != nil {
		return err
	}
	if err := m.awaitOpen(target); err != nil {
		return err
	}
	rounds := 3
	if m.scene.Open > 500 {
		rounds = 1
	}
	figure := 0.0
	if m.scene.Open <= 50 {
		figure = 3000
	}
	all := m.scene.judge("cold start -> all that were open answer 200", figure, 1)
	for range rounds {
		envoy, err := m.envoyPID()
		if err != nil {
			return err
		}
		if err := m.endServe(); err != nil {
			return err
		}
		if err := killAndWait(envoy); err != nil {
			return err
		}
		began := time.Now()
		if err := m.spawnServe(); err != nil {
			return err
		}
		if err := m.awaitOpen(target); err != nil {
			return err
		}
		all.add(time.Since(began))
		if err := m.awaitReady(); err != nil {
			return err
		}
	}
	return nil
}

// awaitOpen until each route that is open for the whole run, and more, answer 200.
func (w *world) awaitOpen(more ...int) error {
	for _, route := range append(w.openRoutes(), more...) {
		v := w.visitor(route)
		// Before its door listens, and before the route is there.
		for end := time.Now().Add(2 * patience); ; {
			s := v.ask()
			if s.open() {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("route %d answers %d: see %s", route, s.status, w.path("serve.log"))
			}
			nap(s.began.Add(5 * every))
		}
		v.close()
	}
	return nil
}

// list of documents in one file.
func documents(docs []string) string { return strings.Join(docs, "---\n") }
