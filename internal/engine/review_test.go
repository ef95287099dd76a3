package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// reviewed is a loop that knows of one activation that alice made, and which has ended.
func reviewed() (*Engine, types.NamespacedName) {
	key := types.NamespacedName{Namespace: "pay", Name: "inc"}
	l := &Engine{
		commands: make(chan func()), viewed: make(chan struct{}), set: &source.Set{},
		reviewing: map[types.NamespacedName]activation.ReviewRequest{},
		records: map[types.NamespacedName]activation.Record{key: {
			Namespace: key.Namespace, Name: key.Name, RequestedBy: "unix:user=alice,uid=1000", Phase: v1alpha1.PhaseExpired,
			Targets: map[string]activation.Target{"HTTPRoute/db": {}},
		}},
	}
	return l, key
}

func (l *Engine) tell(key types.NamespacedName, review *v1alpha1.ReviewStatus) {
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	a.Status.Review = review
	l.viewMu.Lock()
	defer l.viewMu.Unlock()
	l.view.Store(&view{activations: map[types.NamespacedName]*v1alpha1.Activation{key: a}})
	close(l.viewed)
	l.viewed = make(chan struct{})
}

func TestAReviewReturnsOnceItIsOnRecordAndNotBefore(t *testing.T) {
	bob := control.Peer{User: "bob", UID: 1001}
	for name, test := range map[string]struct {
		told *v1alpha1.ReviewStatus
		want string
	}{
		"recorded":          {&v1alpha1.ReviewStatus{State: "Drill", By: bob.String()}, ""},
		"never recorded":    {nil, "the review is not on record yet"},
		"another was first": {&v1alpha1.ReviewStatus{State: "Misuse", By: "unix:user=carol,uid=1002"}, "was reviewed by unix:user=carol,uid=1002 in this moment"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, key := reviewed()
				l.tell(key, &v1alpha1.ReviewStatus{State: v1alpha1.ReviewPending})
				answer := make(chan error, 1)
				go func() {
					_, err := backend{l}.Review(t.Context(), control.ReviewRequest{Name: key, Verdict: v1alpha1.VerdictDrill, Note: "n"}, bob)
					answer <- err
				}()
				(<-l.commands)()
				if q := l.reviewing[key]; q.Review.By != bob.String() || q.Review.Verdict != "drill" || q.Review.Source != activation.SourceControl {
					t.Fatalf("asked for %+v", q)
				}
				synctest.Wait()
				select {
				case err := <-answer:
					t.Fatalf("answered before it is on record: %v", err)
				default:
				}
				if test.told != nil {
					l.tell(key, test.told)
				} else {
					time.Sleep(recordTimeout) // synctest's time
				}
				if err := <-answer; (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q", err, test.want)
				}
			})
		})
	}
}

func TestAReviewThatCannotBeIsRefusedAtOnce(t *testing.T) {
	l, key := reviewed()
	bob, alice := control.Peer{User: "bob", UID: 1001}, control.Peer{User: "root", Login: "1000"}
	req := control.ReviewRequest{Name: key, Verdict: v1alpha1.VerdictDrill, Note: "n"}
	ghost := req
	ghost.Name.Name = "ghost"
	for want, err := range map[string]error{
		activation.ReviewOwn: l.review(req, alice), activation.ReviewNotFound: l.review(ghost, bob),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if code := control.CodeOf(l.review(ghost, bob)); code != control.NotFound {
		t.Errorf("code %s", code)
	}
	if len(l.reviewing) > 0 {
		t.Errorf("asked for %+v", l.reviewing)
	}
	if err := l.review(req, bob); err != nil {
		t.Error(err)
	}
	if err := l.review(req, control.Peer{User: "carol", UID: 1002}); err == nil || !strings.Contains(err.Error(), "in this moment") {
		t.Errorf("two at a time: %v", err)
	}
	if err := l.review(req, bob); err != nil {
		t.Errorf("the same again: %v", err)
	}
	l.opts.ReadOnly = "a controller"
	if _, err := (backend{l}).Review(t.Context(), req, bob); err == nil || !strings.Contains(err.Error(), "ActivationReview") {
		t.Errorf("%v", err)
	}
}
