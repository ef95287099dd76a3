//go:build apiserver

package controller_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const internalName = "db.internal.test"

// secureBackend answers over TLS, as internalName.
func secureBackend(ca *testbed.Authority) int {
	GinkgoHelper()
	l, err := net.Listen("tcp", podIP+":0")
	Expect(err).NotTo(HaveOccurred())
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: &echo.Server{Name: "secure"}}
	go func() {
		_ = s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ca.Sign(time.Now().Add(time.Hour), internalName)}, MinVersion: tls.VersionTLS12}))
	}()
	DeferCleanup(s.Close)
	return l.Addr().(*net.TCPAddr).Port
}

// secure makes a Service, a route and a BackendTLSPolicy of this name.
func (c *cluster) secure(name string, port int) *gwv1.BackendTLSPolicy {
	GinkgoHelper()
	c.service(name, port)
	r := routeOf(name)
	r.Spec.Rules[0].BackendRefs[0].Name = gwv1.ObjectName(name)
	Expect(c.admin.Create(context.Background(), r)).To(Succeed())
	return c.tlsPolicy(name)
}

func (c *cluster) tlsPolicy(name string) *gwv1.BackendTLSPolicy {
	GinkgoHelper()
	p := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name}}
	p.Spec.TargetRefs = []gwv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gwv1.LocalPolicyTargetReference{Kind: "Service", Name: gwv1.ObjectName(name)}}}
	p.Spec.Validation = gwv1.BackendTLSPolicyValidation{Hostname: internalName, CACertificateRefs: []gwv1.LocalObjectReference{{Kind: "ConfigMap", Name: gwv1.ObjectName(name)}}}
	Expect(c.admin.Create(context.Background(), p)).To(Succeed())
	return p
}

// verdict is what the controller says of a policy: its conditions, and their messages.
func (c *cluster) verdict(name string) func() (string, error) {
	return func() (string, error) {
		var p gwv1.BackendTLSPolicy
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, &p); err != nil {
			return "", err
		}
		var said []string
		for _, a := range p.Status.Ancestors {
			said = append(said, string(a.ControllerName)+" "+string(a.AncestorRef.Name))
			for _, cond := range a.Conditions {
				said = append(said, cond.Type+"="+string(cond.Status)+"/"+cond.Reason+" "+cond.Message)
				if cond.ObservedGeneration != p.Generation && a.ControllerName == "breakglass.dev/gateway-controller" {
					said = append(said, "stale")
				}
			}
		}
		return strings.Join(said, "\n"), nil
	}
}

// upgrade installs the chart again with other values, as a user would.
func (c *cluster) upgrade(r *replica, set string) {
	GinkgoHelper()
	cmd := exec.Command(os.Getenv("BREAKGLASS_HELM"), "upgrade", "breakglass", "../../charts/breakglass", //nolint:gosec // the pinned one
		"--namespace", release, "--values", c.file("values.yaml"), "--set", set)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.file("admin.kubeconfig"), "HOME="+c.dir)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	var deployed appsv1.StatefulSet
	Expect(c.admin.Get(context.Background(), types.NamespacedName{Namespace: release, Name: "breakglass-controller"}, &deployed)).To(Succeed())
	Expect(os.WriteFile(c.file("controller.yaml"), []byte(deployed.Spec.Template.Annotations["breakglass.dev/config"]), 0o600)).To(Succeed())
	r.kill()
	r.restart()
}

var _ = Describe("A BackendTLSPolicy", func() {
	It("is told why it is not met, and then that it is; what others say of it stays", func() {
		c, ca := newCluster(), testbed.NewAuthority("backends")
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		Eventually(r.ready).Should(BeEmpty())
		policy := c.secure("secure", secureBackend(ca))
		authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: "secure"}, Data: map[string]string{"ca.crt": ca.PEM}}
		Expect(c.admin.Create(context.Background(), authority)).To(Succeed())
		Eventually(c.verdict("secure")).Should(And(
			ContainSubstring("breakglass.dev/gateway-controller emergency\nAccepted=False/NoValidCACertificate"),
			ContainSubstring("ResolvedRefs=False/InvalidCACertificateRef"), ContainSubstring("add it to secretNamespaces of the installation")))
		c.activate("inc-1", "secure", "10m")
		Eventually(c.phase("inc-1")).Should(Equal("Live Live"))
		get := p.status(testbed.Host("secure"), "/api/x", c.issuer.Token("sre"))
		Eventually(get).Should(Equal(500))

		c.upgrade(r, "secretNamespaces={"+tenants+"}")
		met := And(ContainSubstring("Accepted=True/Accepted"), ContainSubstring("ResolvedRefs=True/ResolvedRefs"), Not(ContainSubstring("stale")))
		Eventually(c.verdict("secure")).Should(met)
		Eventually(get).Should(Equal(200))

		Eventually(func() error {
			if err := c.admin.Get(context.Background(), client.ObjectKeyFromObject(policy), policy); err != nil {
				return err
			}
			policy.Status.Ancestors = append(policy.Status.Ancestors, gwv1.PolicyAncestorStatus{
				AncestorRef: gwv1.ParentReference{Name: "somebody"}, ControllerName: "example.com/other",
				Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Theirs", LastTransitionTime: metav1.Now()}},
			})
			return c.admin.Status().Update(context.Background(), policy)
		}).Should(Succeed())
		patch(c, authority, func(m *corev1.ConfigMap) { m.Data["ca.crt"] = "" })
		Eventually(get).Should(Equal(500))
		Eventually(c.verdict("secure")).Should(And(ContainSubstring("NoValidCACertificate"), ContainSubstring("example.com/other somebody")))
		patch(c, authority, func(m *corev1.ConfigMap) { m.Data["ca.crt"] = ca.PEM })
		Eventually(get).Should(Equal(200))
		patch(c, policy, func(p *gwv1.BackendTLSPolicy) { p.Spec.Validation.Hostname = "other.internal.test" })
		Eventually(get).Should(Equal(503))
		Eventually(c.verdict("secure")).Should(met)

		Expect(c.admin.Delete(context.Background(), routeOf("secure"))).To(Succeed())
		Eventually(c.verdict("secure")).Should(Equal("example.com/other somebody\nAccepted=True/Theirs "))
	})

	It("is read as soon as the API server has the kind", func() {
		c := newCluster()
		text, err := os.ReadFile("../../api/crds/gateway.networking.k8s.io_backendtlspolicies.yaml")
		Expect(err).NotTo(HaveOccurred())
		var crd apiextensionsv1.CustomResourceDefinition
		Expect(yaml.Unmarshal(text, &crd)).To(Succeed())
		Expect(apiextensionsv1.AddToScheme(c.admin.Scheme())).To(Succeed())
		Expect(c.admin.Delete(context.Background(), crd.DeepCopy())).To(Succeed())
		Eventually(func() error { return c.admin.List(context.Background(), &gwv1.BackendTLSPolicyList{}) }).ShouldNot(Succeed())

		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		Eventually(r.ready).Should(BeEmpty())
		c.route("db")
		c.activate("inc-1", "db", "10m")
		get := p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))
		Eventually(get).Should(Equal(200))

		Expect(c.admin.Create(context.Background(), &crd)).To(Succeed())
		Eventually(func() error { return c.admin.List(context.Background(), &gwv1.BackendTLSPolicyList{}) }).Should(Succeed())
		c.tlsPolicy("app") // which cannot be met: its ConfigMap does not exist
		Eventually(get).Should(Equal(500))
		Eventually(c.verdict("app")).Should(ContainSubstring("NoValidCACertificate"))
		Expect(c.phase("inc-1")()).To(Equal("Live Live"))
	})
})
