package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// connect to an API server that answers so.
func connect(t *testing.T, answer http.HandlerFunc) *Cluster {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return connectTo(t, s.URL)
}

func connectTo(t *testing.T, url string) *Cluster {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],
"users":[{"name":"u","user":{}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func status(code int, reason metav1.StatusReason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func wish() control.ActivateRequest {
	return control.ActivateRequest{Activation: v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "inc-1"}, Spec: v1alpha1.ActivationSpec{Role: "db"}}}
}

// Whether a door may be open must not be told wrongly.
func TestAnActivationThatMayHaveBeenMadeIsNotToldToHaveFailed(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close() // nobody listens there now
	for name, c := range map[string]struct {
		cluster *Cluster
		unknown bool
		text    string
	}{
		"hung up":        {connect(t, hangUp), true, "cannot be reached"},
		"timeout there":  {connect(t, status(504, metav1.StatusReasonTimeout, "etcd took too long")), true, "cannot do it now: etcd took too long"},
		"nobody listens": {connectTo(t, "http://"+closed.Addr().String()), false, "cannot be reached"},
		"overloaded":     {connect(t, status(429, metav1.StatusReasonTooManyRequests, "later")), false, "cannot do it now: later"},
		"refused": {connect(t, status(422, metav1.StatusReasonInvalid, `activations.breakglass.dev "inc-1" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: do that instead`)),
			false, "do that instead"},
		"no such kind":    {connect(t, status(404, metav1.StatusReasonNotFound, "the server could not find the requested resource")), false, "has no Breakglass Gateway"},
		"nobody's client": {connect(t, status(401, metav1.StatusReasonUnauthorized, "Unauthorized")), false, "log in to the cluster again"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.cluster.Activate(context.Background(), wish())
			if err == nil || errors.Is(err, ErrUnknown) != c.unknown || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v: unknown %t, want %t and %q", err, errors.Is(err, ErrUnknown), c.unknown, c.text)
			}
		})
	}
}

// A watch ends now and then; what happened meanwhile is read.
func TestWaitingGoesOnWhenAWatchEnds(t *testing.T) {
	reads := 0
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "" {
			if got := r.URL.Query().Get("resourceVersion"); got != fmt.Sprint(reads) {
				t.Errorf("watches from %q, want %d", got, reads)
			}
			return
		}
		reads++
		phase := "Pending"
		if reads == 3 {
			phase = "Live"
		}
		_, _ = fmt.Fprintf(w, `{"kind":"Activation","apiVersion":"breakglass.dev/v1alpha1","metadata":{"namespace":"payments","name":"inc-1","resourceVersion":"%d"},"status":{"phase":%q}}`, reads, phase)
	})
	a, err := c.Wait(context.Background(), types.NamespacedName{Namespace: "payments", Name: "inc-1"}, func(a *v1alpha1.Activation) bool { return a.Status.Phase == v1alpha1.PhaseLive })
	if err != nil || a.Status.Phase != v1alpha1.PhaseLive || reads != 3 {
		t.Errorf("%v after %d reads: %v", a, reads, err)
	}
}
