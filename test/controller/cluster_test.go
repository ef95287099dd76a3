//go:build apiserver

package controller_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const (
	release = "breakglass-system"
	tenants = "payments"
)

// cluster is an API server with the chart installed, and a backend.
type cluster struct {
	env     *envtest.Environment
	admin   client.WithWatch
	alice   client.Client // may activate
	issuer  *testbed.Issuer
	backend *backend
	dir     string
	port    int // of the Gateway
}

// newCluster lives as long as the spec.
func newCluster() *cluster {
	GinkgoHelper()
	for _, name := range []string{"KUBEBUILDER_ASSETS", "BREAKGLASS_HELM"} {
		Expect(os.Getenv(name)).NotTo(BeEmpty(), name+" is not set: run make test-apiserver")
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gwv1.Install, v1alpha1.AddToScheme} {
		Expect(add(scheme)).To(Succeed())
	}
	crds, err := filepath.Glob("../../api/crds/gateway.networking.k8s.io_*.yaml")
	Expect(err).NotTo(HaveOccurred())
	c := &cluster{dir: GinkgoT().TempDir(), issuer: testbed.NewIssuer("sso"), backend: startBackend(), port: 8080}
	c.env = &envtest.Environment{CRDInstallOptions: envtest.CRDInstallOptions{Paths: crds}, ControlPlaneStartTimeout: time.Minute, ControlPlaneStopTimeout: time.Minute}
	c.env.ControlPlane.GetAPIServer().Configure().Set("advertise-address", podIP) // there is no route to find one by
	_, err = c.env.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = c.env.Stop() })
	c.env.Config.QPS = -1 // what is measured is not this client's patience
	c.admin, err = client.NewWithWatch(c.env.Config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(c.file("admin.kubeconfig"), c.env.KubeConfig, 0o600)).To(Succeed())
	c.install()
	user, err := c.env.AddUser(envtest.User{Name: "alice", Groups: []string{"system:authenticated"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	asAlice := user.Config()
	asAlice.QPS = -1
	c.alice, err = client.New(asAlice, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	for _, obj := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenants, Labels: map[string]string{v1alpha1.EmergencyRoutesLabel: v1alpha1.EmergencyRoutesAllowed}}},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: "alice"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "breakglass-activator-db"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "alice"}},
		},
	} {
		Expect(c.admin.Create(context.Background(), obj)).To(Succeed())
	}
	c.service("app", c.backend.port)
	Eventually(func() error { // an API server learns of its CRDs and policies by and by
		return c.alice.Create(context.Background(), activationOf("settled", "db", "1m"), client.DryRunAll)
	}).Should(Succeed())
	return c
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

// install installs the chart, as a user would.
func (c *cluster) install() {
	GinkgoHelper()
	values := fmt.Sprintf(`
cluster: {name: test}
policy:
  issuers:
  - {name: sso, issuer: %q, audiences: [breakglass], algorithms: [ES256], jwks: {inline: '%s'}}
  roles:
  - name: db
    grants: [{issuer: sso, claims: [{path: [groups], anyOf: [sre]}]}]
  limits: {maxOpen: 10000, maxPerDay: 10000}
  scope: {allowPlainHTTP: true}
gateway: {protocol: HTTP, port: %d}
service: {type: ClusterIP}
`, c.issuer.URL, testbed.JWKS(c.issuer.Key), c.port)
	Expect(os.WriteFile(c.file("values.yaml"), []byte(values), 0o600)).To(Succeed())
	cmd := exec.Command(os.Getenv("BREAKGLASS_HELM"), "install", "breakglass", "../../charts/breakglass", //nolint:gosec // the pinned one
		"--namespace", release, "--create-namespace", "--values", c.file("values.yaml"))
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.file("admin.kubeconfig"), "HOME="+c.dir)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
}

// service of the tenants whose only endpoint is here.
func (c *cluster) service(name string, port int) {
	GinkgoHelper()
	ctx, ready, p32, portName := context.Background(), true, int32(port), "http"
	Expect(c.admin.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: portName, Port: 80}}},
	})).To(Succeed())
	Expect(c.admin.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: tenants, Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{podIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &p32}},
	})).To(Succeed())
}

// route makes a dormant route of the tenants for role db.
func (c *cluster) route(name string) *gwv1.HTTPRoute {
	GinkgoHelper()
	r := routeOf(name)
	Expect(c.admin.Create(context.Background(), r)).To(Succeed())
	return r
}

func routeOf(name string) *gwv1.HTTPRoute {
	ns, kind, port, method, path := gwv1.Namespace(release), gwv1.PathMatchPathPrefix, gwv1.PortNumber(80), gwv1.HTTPMethodGet, "/api"
	return &gwv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name, Labels: map[string]string{v1alpha1.RoleLabel: "db"}},
		Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Namespace: &ns, Name: "emergency"}}},
			Hostnames:       []gwv1.Hostname{gwv1.Hostname(testbed.Host(name))},
			Rules: []gwv1.HTTPRouteRule{{
				Matches:     []gwv1.HTTPRouteMatch{{Method: &method, Path: &gwv1.HTTPPathMatch{Type: &kind, Value: &path}}},
				BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{Name: "app", Port: &port}}}},
			}},
		},
	}
}

// activate asks as alice.
func (c *cluster) activate(name, route, duration string) *v1alpha1.Activation {
	GinkgoHelper()
	a := activationOf(name, route, duration)
	Expect(c.alice.Create(context.Background(), a)).To(Succeed())
	return a
}

func activationOf(name, route, duration string) *v1alpha1.Activation {
	d := gwv1.Duration(duration)
	return &v1alpha1.Activation{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name},
		Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Name: route}}, Role: "db", Reason: "the database is down", Incident: "INC-1", Duration: &d,
		},
	}
}

// phase is how an Activation is told to be, as "Phase Reason".
func (c *cluster) phase(name string) func() string {
	return func() string {
		var a v1alpha1.Activation
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, &a); err != nil {
			return err.Error()
		}
		for _, cond := range a.Status.Conditions {
			if cond.Type == v1alpha1.ConditionLive {
				return string(a.Status.Phase) + " " + cond.Reason
			}
		}
		return string(a.Status.Phase)
	}
}

func (c *cluster) activation(name string) *v1alpha1.Activation {
	GinkgoHelper()
	a := &v1alpha1.Activation{}
	Expect(c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, a)).To(Succeed())
	return a
}

// backend answers what it was asked.
type backend struct {
	port int
	hits atomic.Int64
}

func startBackend() *backend {
	GinkgoHelper()
	l, err := net.Listen("tcp", podIP+":0")
	Expect(err).NotTo(HaveOccurred())
	b := &backend{port: l.Addr().(*net.TCPAddr).Port}
	e := &echo.Server{Name: "app", Interval: 5 * time.Millisecond}
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.hits.Add(1)
		e.ServeHTTP(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	DeferCleanup(s.Close)
	return b
}

// process is a child whose log is told when the spec fails.
type process struct {
	cmd  *exec.Cmd
	name string
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// startIn runs our binary, in the sandbox that enter enters, if any.
func startIn(enter []string, name string, args ...string) *process {
	GinkgoHelper()
	args = append(append(enter[:len(enter):len(enter)], testbed.Binary()), args...)
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})} //nolint:gosec // our own
	p.cmd.Stdout, p.cmd.Stderr = p, p
	Expect(p.cmd.Start()).To(Succeed())
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	DeferCleanup(func() {
		p.kill()
		if CurrentSpecReport().Failed() {
			text := p.log()
			AddReportEntry(name, text[max(0, len(text)-12000):])
		}
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// serviceAccount is a kubeconfig that impersonates one, so that who uses it can do
// what the chart lets it do and nothing else.
func (c *cluster) serviceAccount(name string) string {
	GinkgoHelper()
	cfg, err := clientcmd.Load(c.env.KubeConfig)
	Expect(err).NotTo(HaveOccurred())
	for _, u := range cfg.AuthInfos {
		u.Impersonate = "system:serviceaccount:" + release + ":" + name
		u.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:" + release, "system:authenticated"}
	}
	path := c.file(name + ".kubeconfig")
	Expect(clientcmd.WriteToFile(*cfg, path)).To(Succeed())
	return path
}
