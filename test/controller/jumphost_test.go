//go:build apiserver

package controller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// runbook is what the jump host's owner does, in docs.
const runbook = "../../docs/runbook-api-server-down.md"

// jumpHost gives the rights that the runbook lists, and is their kubeconfig.
func (c *cluster) jumpHost() string {
	GinkgoHelper()
	text, err := os.ReadFile(runbook)
	Expect(err).NotTo(HaveOccurred())
	_, manifests, found := strings.Cut(string(text), "```yaml\n")
	Expect(found).To(BeTrue())
	manifests, _, _ = strings.Cut(manifests, "```")
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	n := 0
	for {
		u := &unstructured.Unstructured{}
		err := d.Decode(u)
		if errors.Is(err, io.EOF) {
			break
		}
		Expect(err).NotTo(HaveOccurred())
		Expect(c.admin.Create(context.Background(), u)).To(Succeed())
		n++
	}
	Expect(n).To(Equal(6))
	return c.serviceAccount("breakglass-jump-host")
}

// patch changes an object, again if somebody else has changed it meanwhile.
func patch[T client.Object](c *cluster, obj T, change func(T)) {
	GinkgoHelper()
	ctx := context.Background()
	Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if err := c.admin.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		change(obj)
		return c.admin.Update(ctx, obj)
	})).To(Succeed())
}

// exported is the text of all files of an export, "" if there is none.
func exported(dir string) func() string {
	return func() string {
		var all bytes.Buffer
		files, _ := filepath.Glob(filepath.Join(dir, "manifests", "*", "*.yaml"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "" // it is being replaced
			}
			fmt.Fprintf(&all, "# %s\n%s", filepath.Base(f), text)
		}
		return all.String()
	}
}

var _ = Describe("A jump host", Ordered, func() {
	var c *cluster
	var r *replica
	var kubeconfig string
	offline := testbed.NewKey("offline")
	ctx := context.Background()

	BeforeAll(func() {
		c = newCluster()
		r = c.controller("controller-0")
		c.route("db")
		Expect(c.admin.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "issuer-keys"},
			Data:       map[string]string{"offline.json": testbed.JWKS(offline), "other": "of no concern"},
		})).To(Succeed())
		patch(c, &v1alpha1.EmergencyPolicy{ObjectMeta: metav1.ObjectMeta{Name: "emergency"}}, func(p *v1alpha1.EmergencyPolicy) {
			p.Spec.Issuers = append(p.Spec.Issuers, v1alpha1.Issuer{
				Name: "offline", Issuer: "https://offline.example.test", Audiences: []string{"breakglass"}, Algorithms: []v1alpha1.Algorithm{"ES256"}, Offline: true,
				JWKS: v1alpha1.JWKSSource{ConfigMapRef: &v1alpha1.KeySetReference{Namespace: release, Name: "issuer-keys", Key: "offline.json"}},
			})
		})
		kubeconfig = c.jumpHost()
		Eventually(func() bool {
			var g gwv1.Gateway
			Expect(c.admin.Get(ctx, types.NamespacedName{Namespace: release, Name: "emergency"}, &g)).To(Succeed())
			return len(g.Status.Listeners) > 0
		}).Should(BeTrue())
	})

	It("gets what is served, and neither Activations nor what the cluster refuses or nobody has named", func() {
		Expect(c.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strangers"}})).To(Succeed())
		stranger := routeOf("stranger")
		stranger.Namespace = "strangers"
		Expect(c.admin.Create(ctx, stranger)).To(Succeed())
		double := routeOf("double")
		double.Spec.ParentRefs = append(double.Spec.ParentRefs, gwv1.ParentReference{Name: "primary"})
		Expect(c.admin.Create(ctx, double)).To(Succeed())
		c.service("unused", 1)
		// The API server comes to know of rights and policies in its own time.
		Eventually(func() error { return c.alice.Create(ctx, activationOf("here", "db", "10m")) }).Should(Succeed())
		dir := c.file("once")
		a := c.cli(kubeconfig, "export", dir, "--from-cluster")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.errOut).To(ContainSubstring("HTTPRoute strangers/stranger opens nothing, as in the cluster: namespace strangers has not opted in"))
		Expect(a.errOut).To(ContainSubstring("HTTPRoute payments/double opens nothing, as in the cluster: spec.parentRefs[1] names primary, which is no emergency Gateway"))
		text := exported(dir)()
		for _, has := range []string{"# payments_db.yaml", "# payments_app.yaml", "# payments_app-1.yaml", "# emergency.yaml", "name: issuer-keys", "breakglass.dev/emergency-routes: allowed", "breakglass.dev/role: Refused-in-the-cluster"} {
			Expect(text).To(ContainSubstring(has))
		}
		for _, hasNot := range []string{"Activation", "unused", "of no concern", "kind: Secret", "resourceVersion", "managedFields"} {
			Expect(text).NotTo(ContainSubstring(hasNot))
		}
		// Serve refuses the stranger by itself, and says so.
		Expect(a.errOut).To(ContainSubstring("Note: serve says: HTTPRoute strangers/stranger: "))
		Expect(c.cli(kubeconfig, "validate", dir).out).To(MatchRegexp(`^([^\n]*stranger[^\n]*\n)+$`))
		Expect(c.cli(kubeconfig, "export", dir, "--from-cluster").errOut).To(ContainSubstring(" objects, unchanged."))
	})

	It("leaves out every endpoint of a Service that has one which no emergency route may reach", func() {
		c.service("evil", 80)
		patch(c, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: "evil-1"}}, func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Addresses = []string{"100.100.100.200"}
		})
		evil := routeOf("evil")
		evil.Spec.Rules[0].BackendRefs[0].Name = "evil"
		Expect(c.admin.Create(ctx, evil)).To(Succeed())
		dir := c.file("evil")
		a := c.cli(kubeconfig, "export", dir, "--from-cluster")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.errOut).To(ContainSubstring("Service payments/evil has no endpoints here: 100.100.100.200 is a cloud's metadata service"))
		Expect(exported(dir)()).To(And(ContainSubstring("# payments_evil.yaml"), Not(ContainSubstring("evil-1")), Not(ContainSubstring("100.100"))))
		Expect(c.admin.Delete(ctx, evil)).To(Succeed())
	})

	It("gets private keys of listeners only if asked for", func() {
		var leaf corev1.Secret
		Eventually(func() error {
			return c.admin.Get(ctx, types.NamespacedName{Namespace: release, Name: fleet.SecretName(types.NamespacedName{Namespace: release, Name: "emergency"})}, &leaf)
		}).Should(Succeed())
		Expect(c.admin.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "door"}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": leaf.Data["tls.crt"], "tls.key": leaf.Data["tls.key"]}})).To(Succeed())
		g := &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "secure"}, Spec: gwv1.GatewaySpec{GatewayClassName: "breakglass", Listeners: []gwv1.Listener{{
			Name: "https", Port: 443, Protocol: gwv1.HTTPSProtocolType, TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "door"}}},
		}}}}
		Expect(c.admin.Create(ctx, g)).To(Succeed())
		Eventually(func() []metav1.Condition {
			Expect(c.admin.Get(ctx, client.ObjectKeyFromObject(g), g)).To(Succeed())
			return g.Status.Conditions
		}).Should(ContainElement(And(HaveField("Type", "Accepted"), HaveField("Status", metav1.ConditionTrue))))
		without, with := c.file("without"), c.file("with")
		a := c.cli(kubeconfig, "export", without, "--from-cluster", "--address", "10.0.0.7", "--address", "::1")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.errOut).To(ContainSubstring("Secret breakglass-system/door is not exported: listener https of Gateway breakglass-system/secure needs a certificate"))
		Expect(a.errOut).To(ContainSubstring("Gateway breakglass-system/secure listens on port 443, which is below 1024"))
		Expect(exported(without)()).To(And(ContainSubstring("value: 10.0.0.7"), ContainSubstring("value: ::1"), Not(ContainSubstring("tls.key"))))
		a = c.cli(kubeconfig, "export", with, "--from-cluster", "--with-private-keys")
		Expect(a.code).To(Equal(1), "the runbook's rights do not read it")
		Expect(a.errOut).To(ContainSubstring("docs/runbook-api-server-down.md"))
		a = c.cli(c.file("admin.kubeconfig"), "export", with, "--from-cluster", "--with-private-keys")
		Expect(a.code).To(BeZero(), a.errOut)
		file := filepath.Join(with, "manifests", "secret", "breakglass-system_door.yaml")
		Expect(os.ReadFile(file)).To(ContainSubstring("tls.key"))
		info, err := os.Stat(file)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
		Expect(c.admin.Delete(ctx, g)).To(Succeed())
	})

	It("is kept current, never by nothing, and is the way in while the API server is down", func() {
		home := c.file("srv")
		dir := filepath.Join(home, "cluster")
		Expect(os.MkdirAll(home, 0o700)).To(Succeed())
		export := startIn(nil, "export", "export", dir, "--from-cluster", "--watch", "--kubeconfig", kubeconfig)
		Eventually(exported(dir)).Should(ContainSubstring("# payments_db.yaml"))
		c.route("later")
		Eventually(exported(dir)).Should(ContainSubstring("# payments_later.yaml"))

		By("a Gateway that goes")
		var g gwv1.Gateway
		Expect(c.admin.Get(ctx, types.NamespacedName{Namespace: release, Name: "emergency"}, &g)).To(Succeed())
		Expect(c.admin.Delete(ctx, &g)).To(Succeed())
		Eventually(export.log).Should(ContainSubstring("Warning: the cluster has no emergency Gateway that its controller accepts"))
		Expect(exported(dir)()).To(ContainSubstring("# payments_db.yaml"))

		By("an API server that goes")
		c.component("kube-apiserver").kill()
		r.kill()
		Eventually(export.log).Should(ContainSubstring("Warning: the API server cannot be read: dial tcp"))
		a := c.cli(c.file("admin.kubeconfig"), "activate", "payments/db", "--role", "db", "--drill", "--reason", "x")
		Expect(a.errOut).To(ContainSubstring("the way in is a jump host with breakglass serve"))

		metrics := testbed.FreePort()
		startIn(nil, "serve", "serve", "--config", home, "--data-dir", c.file("data"), "--envoy", testbed.EnvoyPath(), "--metrics-address", fmt.Sprintf("127.0.0.1:%d", metrics))
		Eventually(func() int {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", metrics)) //nolint:noctx // loopback
			if err != nil {
				return 0
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}).Should(Equal(200))
		here := &pod{address: fmt.Sprintf("127.0.0.1:%d", c.port)}
		get, anonymous := here.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre")), here.status(testbed.Host("db"), "/api/x", "")
		Expect(get()).To(Equal(404)) // what is open in the cluster is not open here
		a = c.cli("/nonexistent", "activate", "payments/db", "--role", "db", "--incident", "INC-8", "--reason", "the API server is down", "--data-dir", c.file("data"))
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(get()).To(Equal(200))
		Expect(anonymous()).To(Equal(401))
		refused := c.cli("/nonexistent", "activate", "payments/double", "--role", "db", "--incident", "INC-8", "--reason", "x", "--data-dir", c.file("data"))
		Expect(refused.code).To(Equal(1))
		Expect(refused.errOut).To(ContainSubstring(`only role "Refused-in-the-cluster" opens HTTPRoute payments/double`))
		Expect(c.cli("/nonexistent", "timeline", "--data-dir", c.file("data")).out).To(ContainSubstring("GET " + testbed.Host("db") + "/api/x 200"))
	})
})
