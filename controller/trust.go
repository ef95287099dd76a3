package controller

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// trust is whether the API server can be believed about who made an Activation, or
// a review: it is, as long as the admission policies are those of this release.
type trust struct {
	set     admission.Set
	changed func()
	now     func() time.Time

	mu     sync.Mutex
	found  admission.Objects
	report admission.Report
	known  bool
	// since is when a change of the policies was seen here last.
	since time.Time
	// runs counts the times that they were watched.
	runs int
}

func newTrust(set admission.Set, now func() time.Time, changed func()) *trust {
	return &trust{set: set, now: now, changed: changed, report: set.Check(admission.Objects{})}
}

// follow watches the policies. An API server that does not have the kinds has no
// policies.
func (t *trust) follow(ctx context.Context, c cache.Cache) error {
	run, was := t.begin()
	var read []toolscache.InformerSynced
	for _, k := range admissionKinds {
		informer, err := c.GetInformer(ctx, k, cache.BlockUntilSynced(false))
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
		handled, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { t.put(run, o, false) },
			UpdateFunc: func(_, o any) { t.put(run, o, false) },
			DeleteFunc: func(o any) { t.put(run, o, true) },
		})
		if err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
		read = append(read, handled.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), read...) {
		return fmt.Errorf("the admission policies could not be read: %w", ctx.Err())
	}
	t.done(was)
	return nil
}

// begin forgets what watches before have found: a policy that went away since is told
// by nobody. It returns the number of this run, and what was known, "" for nothing.
func (t *trust) begin() (run int, was string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known {
		was = t.report.Revision
	}
	t.runs++
	t.found, t.known = admission.Objects{}, false
	t.report = t.set.Check(t.found)
	return t.runs, was
}

// done is when all policies were read. What is not as it was has changed by now.
func (t *trust) done(was string) {
	t.mu.Lock()
	t.known = true
	if was != "" && was != t.report.Revision {
		t.since = t.now()
	}
	t.mu.Unlock()
	t.changed()
}

func (t *trust) put(run int, o any, gone bool) {
	if d, is := o.(toolscache.DeletedFinalStateUnknown); is {
		o = d.Obj
	}
	t.mu.Lock()
	if run != t.runs {
		t.mu.Unlock()
		return // a late word of watches that have ended
	}
	switch p := o.(type) {
	case *admissionv1.MutatingAdmissionPolicy:
		t.found.Mutating = unless(gone, p)
	case *admissionv1.MutatingAdmissionPolicyBinding:
		t.found.MutatingBinding = unless(gone, p)
	case *admissionv1.ValidatingAdmissionPolicy:
		t.found.Validating = unless(gone, p)
	case *admissionv1.ValidatingAdmissionPolicyBinding:
		t.found.ValidatingBinding = unless(gone, p)
	}
	was := t.report
	t.report = t.set.Check(t.found)
	if t.known && was.Revision != t.report.Revision {
		t.since = t.now()
	}
	t.mu.Unlock()
	t.changed()
}

func unless[T any](gone bool, p *T) *T {
	if gone {
		return nil
	}
	return p
}

// problem says why nobody's word is believed now, "" if it is.
func (t *trust) problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.report.InForce() && !t.trusts(t.now()) {
		return fmt.Sprintf("the admission policy %s was changed just now: what is made within %s is not believed", t.set.Name, admission.Margin)
	}
	return strings.Join(t.report.Problems, "; ")
}

// trusts reports whether what was made then has passed the policies. They tell
// themselves since when they are as they are, but who alters one may write that too:
// what was seen here counts as well.
func (t *trust) trusts(made time.Time) bool {
	return t.report.Trusts(made) && (t.since.IsZero() || !made.Before(t.since.Add(admission.Margin)))
}

// doubt says why it is not sure who made an Activation, "" if it is.
func (t *trust) doubt(a *v1alpha1.Activation) string {
	return t.doubtOf(a.CreationTimestamp.Time, "spec.requestedBy", a.Spec.RequestedBy, "Activation")
}

// doubtOf says why it is not sure that an object of a kind was made then by whom its
// field says, "" if it is.
func (t *trust) doubtOf(made time.Time, field, who, kind string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.report.InForce():
		return "nobody can tell who asked, or whether he may: " + strings.Join(t.report.Problems, "; ") + "; then make a new " + kind
	case !t.trusts(made):
		return fmt.Sprintf("it was made before, or within %s after, a change of the admission policy %s, so nobody can tell who asked: make a new %s", admission.Margin, t.set.Name, kind)
	case who == "":
		return field + " is empty: it did not pass the admission policy " + t.set.Name
	}
	return ""
}

// read reports whether the policies were read: before that it doubts everything.
func (t *trust) read() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}

// skewed is by how much clocks may differ before nothing is opened.
const skewed = 2 * time.Second

// skew is by how much the clock of the API server, by which Activations begin, is
// ahead of this one. HTTP tells it to a second.
type skew struct {
	now     func() time.Time
	changed func()

	mu sync.Mutex
	// ahead is between least and most.
	least, most time.Duration
	known       bool
}

// wrap looks at every answer of the API server.
func (s *skew) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		asked := s.now()
		resp, err := next.RoundTrip(req)
		if err == nil {
			if at, bad := http.ParseTime(resp.Header.Get("Date")); bad == nil {
				s.saw(at, asked, s.now())
			}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// saw notes that the API server's clock was in [at, at+1s) between asked and
// answered.
func (s *skew) saw(at, asked, answered time.Time) {
	least, most := at.Sub(answered), at.Add(time.Second).Sub(asked)
	s.mu.Lock()
	was := s.problemLocked()
	// What is not another answer's contradiction narrows it.
	if s.known && least <= s.most && most >= s.least {
		least, most = max(least, s.least), min(most, s.most)
	}
	s.least, s.most, s.known = least, most, true
	is := s.problemLocked()
	s.mu.Unlock()
	if was != is {
		s.changed()
	}
}

// problem says that the clocks differ by too much, "" if they do not.
func (s *skew) problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problemLocked()
}

func (s *skew) problemLocked() string {
	switch {
	case s.least > skewed:
		return fmt.Sprintf("the API server's clock is %s ahead of this node's: nothing opens until they agree to %s", s.least.Round(time.Second), skewed)
	case s.most < -skewed:
		return fmt.Sprintf("the API server's clock is %s behind this node's: nothing opens until they agree to %s", (-s.most).Round(time.Second), skewed)
	}
	return ""
}
