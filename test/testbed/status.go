package testbed

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Start starts serve and waits until it serves what it should.
func (w *World) Start() {
	GinkgoHelper()
	w.Spawn()
	w.AwaitReady()
	Eventually(w.Accepts, "5s", "2ms").Should(Succeed())
}

// NotReady is why serve is not ready, by its own word; empty if it is, or if it
// does not answer.
func (w *World) NotReady() string {
	st, err := w.TryStatus()
	if err != nil {
		return ""
	}
	return strings.Join(st.NotReady, "; ")
}

// Accepts reports whether somebody listens at the door.
func (w *World) Accepts() error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// AwaitReady waits until serve is ready by its own word.
func (w *World) AwaitReady() {
	GinkgoHelper()
	var last string
	Eventually(func() bool {
		st, err := w.TryStatus()
		if err != nil {
			last = err.Error()
			return false
		}
		last = strings.Join(st.NotReady, "; ")
		return st.Ready
	}, "30s", "10ms").Should(BeTrue(), func() string { return "serve is not ready: " + last + "\n" + w.Log() })
	for _, pid := range w.Envoys() {
		preferSession(pid, nice)
	}
}

// TryStatus asks serve.
func (w *World) TryStatus() (*control.Status, error) {
	c, err := control.Dial(control.SocketPath(w.Data))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.Status(ctx)
}

// Status of everything.
func (w *World) Status() *control.Status {
	GinkgoHelper()
	st, err := w.TryStatus()
	Expect(err).NotTo(HaveOccurred())
	return st
}

// Activation as serve sees it; nil if it does not.
func (w *World) Activation(name string) *v1alpha1.Activation {
	GinkgoHelper()
	st, err := w.TryStatus()
	if err != nil {
		return nil
	}
	for i := range st.Activations {
		if st.Activations[i].Name == name {
			return &st.Activations[i]
		}
	}
	return nil
}

// Phase and reason of an activation, "Live" or "Refused NameSpent".
func (w *World) Phase(name string) func() string {
	return func() string {
		a := w.Activation(name)
		if a == nil {
			return "unknown"
		}
		for _, c := range a.Status.Conditions {
			if reason := c.Reason; c.Type == v1alpha1.ConditionLive && reason != string(a.Status.Phase) {
				return string(a.Status.Phase) + " " + reason
			}
		}
		return string(a.Status.Phase)
	}
}

// Message of an activation: why it is not live.
func (w *World) Message(name string) string {
	GinkgoHelper()
	a := w.Activation(name)
	Expect(a).NotTo(BeNil(), "there is no Activation %s", name)
	for _, c := range a.Status.Conditions {
		if c.Type == v1alpha1.ConditionLive {
			return c.Message
		}
	}
	return ""
}

// Deadline of an activation.
func (w *World) Deadline(name string) time.Time {
	GinkgoHelper()
	a := w.Activation(name)
	Expect(a).NotTo(BeNil(), "there is no Activation %s", name)
	Expect(a.Status.Deadline).NotTo(BeNil())
	return a.Status.Deadline.Time
}

// Activate writes an activation to a file of its name, waits until it is live
// and returns its deadline.
func (w *World) Activate(a Activation) time.Time {
	GinkgoHelper()
	w.Write(a.Name+".yaml", a.YAML())
	w.AwaitPhase(a.Name, "Live")
	return w.Deadline(a.Name)
}

// AwaitPhase waits for a phase and reason, see Phase.
func (w *World) AwaitPhase(name, phase string) {
	GinkgoHelper()
	Eventually(w.Phase(name), "20s", "10ms").Should(Equal(phase), func() string {
		if a := w.Activation(name); a != nil {
			return fmt.Sprintf("%+v", a.Status)
		}
		return "no such activation"
	})
}

// RouteStatus of a route; nil if serve does not know it.
func (w *World) RouteStatus(name string) *control.RouteStatus {
	GinkgoHelper()
	st := w.Status()
	for i := range st.Routes {
		if st.Routes[i].Name == name {
			return &st.Routes[i]
		}
	}
	return nil
}

// Problems of the manifests, one line each.
func (w *World) Problems() []string {
	GinkgoHelper()
	var out []string
	for _, p := range w.Status().Problems {
		out = append(out, fmt.Sprintf("%s:%d: %s: %s: %s: %s", p.File, p.Line, p.Object, p.Field, p.Message, p.Remedy))
	}
	return out
}

// Revoke asks serve to close activations by name and returns when it was asked.
func (w *World) Revoke(names ...string) time.Time {
	GinkgoHelper()
	asked, err := w.TryRevoke(names...)
	Expect(err).NotTo(HaveOccurred())
	return asked
}

// TryRevoke is Revoke that may fail.
func (w *World) TryRevoke(names ...string) (asked time.Time, err error) {
	c, err := control.Dial(control.SocketPath(w.Data))
	if err != nil {
		return asked, err
	}
	defer c.Close()
	var keys []types.NamespacedName
	for _, n := range names {
		keys = append(keys, types.NamespacedName{Namespace: Namespace, Name: n})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	asked = time.Now()
	_, err = c.Revoke(ctx, control.RevokeRequest{Names: keys, Reason: "a test"})
	return asked, err
}

// Run runs the command line tool on this world's data directory.
func (w *World) Run(args ...string) (string, error) {
	GinkgoHelper()
	out, err := w.Command(args...).CombinedOutput()
	return string(out), err
}

// Command is the command line tool on this world's data directory.
func (w *World) Command(args ...string) *exec.Cmd {
	GinkgoHelper()
	return exec.Command(Binary(), append(args, "--data-dir", w.Data)...)
}
