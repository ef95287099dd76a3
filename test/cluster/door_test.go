//go:build cluster

package cluster

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const (
	chart   = "../../charts/breakglass"
	release = "breakglass-system"
	tenants = "payments"

	controllers = "app.kubernetes.io/component=controller"
	fleets      = "app.kubernetes.io/managed-by=breakglass-controller"
)

// door is the chart, installed, with somebody who may open and somebody who may close.
type door struct {
	issuer    *testbed.Issuer
	cert, key []byte
	pool      *x509.CertPool
	values    string // a file
	// alice may open, carol may close, dora may read the log: their kubeconfigs.
	alice, carol, dora string
	address            string // of the load balancer
	routes             map[string]bool
	// answered is how many requests of probes were let in.
	answered int
}

func newDoor() *door {
	GinkgoHelper()
	d := &door{issuer: testbed.NewIssuer("sso"), routes: map[string]bool{}}
	d.cert, d.key, d.pool = testbed.NewCertificate()
	d.values = filepath.Join(GinkgoT().TempDir(), "values.yaml")
	Expect(os.WriteFile(d.values, fmt.Appendf(nil, `
image: {tag: dev}
cluster: {name: test}
gatewayNamespaces: [%[1]s, doors]
secretNamespaces: [doors]
policy:
  issuers:
  - {name: sso, issuer: %[2]q, algorithms: [ES256], jwks: {inline: '%[3]s'}}
  roles:
  - name: db
    grants: [{issuer: sso, claims: [{path: [groups], anyOf: [sre]}]}]
  limits: {maxOpen: 100, maxPerDay: 1000}
  requests: {withoutToken: {perSecond: 1000, burst: 1000}, withToken: {perSecond: 10000, burst: 10000}}
gateway: {hostname: "*.example.test"}
audit:
  volume:
    emptyDir: null
    persistentVolumeClaim: {claimName: breakglass-audit}
`, release, d.issuer.URL, testbed.JWKS(d.issuer.Key)), 0o600)).To(Succeed())
	return d
}

// certificate makes the Secret of listeners.
func (d *door) certificate(ctx context.Context, namespace string) {
	GinkgoHelper()
	encode := base64.StdEncoding.EncodeToString
	apply(ctx, namespace, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: emergency-tls}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n",
		encode(d.cert), encode(d.key)))
}

// token lets in.
func (d *door) token() string {
	GinkgoHelper()
	return d.issuer.TokenWith(d.issuer.Claims("sre", testbed.Claims{"aud": "breakglass/test"}))
}

// client asks the load balancer.
func (d *door) client(http2 bool) *testbed.Client {
	return d.at(net.JoinHostPort(d.address, "443"), http2)
}

// envoy asks one Envoy.
func (d *door) envoy(pod corev1.Pod) *testbed.Client {
	return d.at(net.JoinHostPort(pod.Status.PodIP, "10443"), false)
}

func (d *door) at(address string, http2 bool) *testbed.Client {
	return testbed.TLSOver(func(ctx context.Context) (net.Conn, error) { return shared.Dial(ctx, "tcp", address) }, d.pool, http2)
}

// once is a name for a spec: an Activation's name is spent once, and a spec may be tried again.
func once(name string) string {
	return fmt.Sprintf("%s-%d", name, CurrentSpecReport().NumAttempts)
}

// route makes a dormant route of that name, once.
func (d *door) route(ctx context.Context, name string) {
	GinkgoHelper()
	if d.routes[name] {
		return
	}
	d.routes[name] = true
	apply(ctx, tenants, fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, labels: {breakglass.dev/role: db}}
spec:
  parentRefs: [{namespace: %s, name: emergency}]
  hostnames: [%s]
  rules:
  - matches: [{method: GET, path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: backend, port: 80}]
`, name, release, testbed.Host(name)))
	Eventually(func(g Gomega) {
		var route gwv1.HTTPRoute
		read(ctx, &route, "-n", tenants, "httproute", name)
		g.Expect(route.Status.Parents).To(HaveLen(1))
		g.Expect(meta.IsStatusConditionTrue(route.Status.Parents[0].Conditions, "Accepted")).To(BeTrue())
	}).WithContext(ctx).Should(Succeed())
}

// activation is a manifest of an Activation, as a file.
func (d *door) activation(name, route string, lasts time.Duration) string {
	GinkgoHelper()
	path := filepath.Join(GinkgoT().TempDir(), name+".yaml")
	Expect(os.WriteFile(path, fmt.Appendf(nil, `
apiVersion: breakglass.dev/v1alpha1
kind: Activation
metadata: {name: %s, namespace: %s}
spec: {targetRefs: [{name: %s}], role: db, reason: the database is down, incident: INC-4711, duration: %s}
`, name, tenants, route, lasts), 0o600)).To(Succeed())
	return path
}

// open opens a route as alice, and waits until it is told to be live. The route has the name of the Activation.
func (d *door) open(ctx context.Context, name string, lasts time.Duration) time.Time {
	GinkgoHelper()
	d.route(ctx, name)
	kubectl(ctx, "--kubeconfig", d.alice, "apply", "-f", d.activation(name, name, lasts))
	Eventually(d.phase).WithArguments(ctx, name).Should(Equal(v1alpha1.PhaseLive))
	return d.look(ctx, name).Status.Deadline.Time
}

// revoke closes what is open, as carol.
func (d *door) revoke(ctx context.Context, name string) time.Time {
	GinkgoHelper()
	kubectl(ctx, "--kubeconfig", d.carol, "-n", tenants, "patch", "activation", name, "--type=merge", "-p", `{"spec":{"revoked":true}}`)
	return time.Now()
}

func (d *door) look(ctx context.Context, name string) (a v1alpha1.Activation) {
	GinkgoHelper()
	read(ctx, &a, "-n", tenants, "activation", name)
	return a
}

func (d *door) phase(ctx context.Context, name string) v1alpha1.Phase {
	GinkgoHelper()
	return d.look(ctx, name).Status.Phase
}

// read gets an object.
func read(ctx context.Context, into any, args ...string) {
	GinkgoHelper()
	Expect(json.Unmarshal([]byte(kubectl(ctx, append([]string{"get", "-o", "json"}, args...)...)), into)).To(Succeed())
}

// pods of the release that are not on their way out.
func pods(ctx context.Context, selector string) (out []corev1.Pod) {
	GinkgoHelper()
	var list corev1.PodList
	read(ctx, &list, "-n", release, "pods", "-l", selector)
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out
}

// steady waits until there are as many pods, all ready, none on its way out, and returns them.
func steady(ctx context.Context, selector string, n int) []corev1.Pod {
	GinkgoHelper()
	var found []corev1.Pod
	Eventually(func(g Gomega) {
		found = pods(ctx, selector)
		g.Expect(found).To(HaveLen(n))
		for _, p := range found {
			g.Expect(ready(p)).To(BeTrue(), p.Name)
		}
	}).WithContext(ctx).Should(Succeed())
	return found
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// container is the ID of one of a pod.
func container(p corev1.Pod, name string) string {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Name == name {
			return s.ContainerID
		}
	}
	return ""
}

// restarts of a container, as the API server knows.
func restarts(ctx context.Context, pod, name string) int32 {
	GinkgoHelper()
	var p corev1.Pod
	read(ctx, &p, "-n", release, "pod", pod)
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Name == name && s.Ready {
			return s.RestartCount
		}
	}
	return -1
}

// told is what is known when a spec has failed.
func told(ctx context.Context) string {
	var out strings.Builder
	for _, args := range [][]string{
		{"-n", release, "get", "pods,services,persistentvolumeclaims,events", "-o", "wide"}, {"get", "namespace", release, "-o", "yaml"}, {"get", "gateways,httproutes,activations", "-A"},
		{"-n", release, "logs", "--prefix", "--tail=60", "-l", controllers}, {"-n", release, "logs", "--prefix", "--all-containers", "--tail=30", "-l", fleets},
	} {
		text, err := shared.Kubectl(ctx, args...)
		if err != nil {
			text = err.Error()
		}
		out.WriteString(text + "\n")
	}
	return out.String()
}
