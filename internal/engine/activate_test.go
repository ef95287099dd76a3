package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Serve restarts in an incident, and somebody activates while it reads the
// manifests: that is not a reason to be sent away.
func TestAnActivationWaitsForTheManifests(t *testing.T) {
	for name, loads := range map[string]bool{"that come": true, "that do not come": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Engine{commands: make(chan func()), viewed: make(chan struct{}), recorder: &recorder.Recorder{}}
				req := control.ActivateRequest{Activation: v1alpha1.Activation{Spec: v1alpha1.ActivationSpec{
					TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db"}}, Role: "db", Reason: "r", Incident: "I",
				}}}
				req.Activation.Namespace, req.Activation.Name = "pay", "inc"
				began := time.Now()
				answer := make(chan error, 1)
				go func() {
					_, err := backend{l}.Activate(t.Context(), req, control.Peer{})
					answer <- err
				}()
				synctest.Wait()
				select {
				case <-l.commands:
					t.Fatal("it is asked for before the manifests are there")
				default:
				}
				if loads {
					l.set = &source.Set{}
					l.viewMu.Lock()
					l.view.Store(&view{})
					close(l.viewed)
					l.viewMu.Unlock()
				}
				(<-l.commands)()
				err := <-answer
				if loads && (err == nil || strings.Contains(err.Error(), "not loaded yet") || time.Since(began) > 0) {
					t.Errorf("after %s: %v", time.Since(began), err) // there is no Gateway, which is another matter
				}
				if !loads && (err == nil || !strings.Contains(err.Error(), "not loaded yet")) {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
		})
	}
}
