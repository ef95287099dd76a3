package engine

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Somebody activates, the disk is slow, and somebody else closes everything: what
// is not on record yet is not known yet, and must not open a moment later.
func TestRevokingAllTakesWhatIsOnItsWayToTheRecord(t *testing.T) {
	key := types.NamespacedName{Namespace: "pay", Name: "late"}
	l := &Engine{
		commands: make(chan func()), viewed: make(chan struct{}),
		records: map[types.NamespacedName]activation.Record{}, revocations: map[types.NamespacedName]activation.Revocation{},
	}
	show := func(v *view) {
		l.viewMu.Lock()
		defer l.viewMu.Unlock()
		l.view.Store(v)
		close(l.viewed)
		l.viewed = make(chan struct{})
	}
	show(&view{unrecorded: true})
	ended := make(chan error)
	go func() {
		out, err := backend{l}.Revoke(t.Context(), control.RevokeRequest{All: true}, control.Peer{})
		if err == nil && (len(out) != 1 || out[0].Name != key.Name) {
			t.Errorf("revoked: %v", out)
		}
		ended <- err
	}()
	(<-l.commands)() // nothing is known, and nothing is revoked
	if len(l.revocations) != 0 {
		t.Fatal(l.revocations)
	}
	l.records[key] = activation.Record{Namespace: key.Namespace, Name: key.Name} // the disk has answered
	show(&view{})
	(<-l.commands)()
	if _, asked := l.revocations[key]; !asked {
		t.Error("what has just been recorded is not revoked")
	}
	a := &v1alpha1.Activation{}
	a.Namespace, a.Name, a.Status.Phase = key.Namespace, key.Name, v1alpha1.PhaseRevoked
	show(&view{activations: map[types.NamespacedName]*v1alpha1.Activation{key: a}})
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
