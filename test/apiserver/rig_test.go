//go:build apiserver

// Package apiserver_test installs the chart on a real API server and asks it what it
// lets whom do. There is no kubelet and no controller here: what is tested is what
// the CRDs, the admission policies and RBAC say.
package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

const (
	chart = "../../charts/breakglass"
	// namespace of the release.
	namespace = "breakglass-system"
)

// installed is the API server of most tests: the chart is installed on it.
var installed *apiServer

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := startAPIServer()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.stop()
		if out, err := s.helm("install", "breakglass", chart, "--namespace", namespace, "--create-namespace", "--values", "testdata/values.yaml"); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		if err := s.people(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		installed = s
		return m.Run()
	}())
}

// apiServer is a kube-apiserver and its etcd, with the CRDs of the Gateway API.
type apiServer struct {
	env    envtest.Environment
	scheme *runtime.Scheme
	// admin may everything.
	admin      client.WithWatch
	kubeconfig string
	dir        string
}

func startAPIServer() (*apiServer, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" || os.Getenv("BREAKGLASS_HELM") == "" {
		return nil, errors.New("KUBEBUILDER_ASSETS and BREAKGLASS_HELM must name etcd, kube-apiserver and kubectl, and helm: run make test-apiserver")
	}
	s := &apiServer{scheme: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, gwv1.Install, v1alpha1.AddToScheme} {
		if err := add(s.scheme); err != nil {
			return nil, err
		}
	}
	paths, err := filepath.Glob("../../api/crds/gateway.networking.k8s.io_*.yaml")
	if err != nil {
		return nil, err
	}
	s.env = envtest.Environment{
		CRDInstallOptions:        envtest.CRDInstallOptions{Paths: paths, ErrorIfPathMissing: true},
		ControlPlaneStartTimeout: time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
	}
	if _, err := s.env.Start(); err != nil {
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	if err := s.connect(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *apiServer) connect() (err error) {
	if s.admin, err = client.NewWithWatch(s.env.Config, client.Options{Scheme: s.scheme}); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "breakglass-apiserver-"); err != nil {
		return err
	}
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	return os.WriteFile(s.kubeconfig, s.env.KubeConfig, 0o600)
}

func (s *apiServer) stop() {
	if err := s.env.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the API server:", err)
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// helm runs the pinned Helm, with no home but the test's.
func (s *apiServer) helm(args ...string) (string, error) {
	cmd := exec.Command(os.Getenv("BREAKGLASS_HELM"), args...) //nolint:gosec // the test's own binary
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig, "HOME="+s.dir,
		"HELM_CACHE_HOME="+s.dir+"/cache", "HELM_CONFIG_HOME="+s.dir+"/config", "HELM_DATA_HOME="+s.dir+"/data")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w", strings.Join(args[:1], " "), err)
	}
	return out.String(), nil
}

// listable are the kinds that the API server can list.
func (s *apiServer) listable(t *testing.T) []schema.GroupVersionKind {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(s.env.Config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := d.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	var out []schema.GroupVersionKind
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.APIResources {
			if slices.Contains(r.Verbs, "list") {
				out = append(out, gv.WithKind(r.Kind))
			}
		}
	}
	if len(out) < 20 {
		t.Fatalf("the API server lists only %v", out)
	}
	return out
}

// as is a client of somebody else, with the groups that everybody has.
func (s *apiServer) as(user string) client.Client {
	c, err := s.tryAs(user)
	if err != nil {
		panic(err)
	}
	return c
}

func (s *apiServer) tryAs(user string) (client.Client, error) {
	if strings.HasPrefix(user, "system:serviceaccount:") {
		config := *s.env.Config
		config.Impersonate.UserName = user
		config.Impersonate.Groups = []string{"system:serviceaccounts", "system:authenticated"}
		return client.New(&config, client.Options{Scheme: s.scheme})
	}
	u, err := s.env.AddUser(envtest.User{Name: user, Groups: []string{"system:authenticated"}}, nil)
	if err != nil {
		return nil, err
	}
	return client.New(u.Config(), client.Options{Scheme: s.scheme})
}

// people makes the namespaces of routes, and binds those who play here.
func (s *apiServer) people() error {
	ctx := context.Background()
	for name, labels := range map[string]map[string]string{
		"payments": {"breakglass.dev/emergency-routes": "allowed"},
		"delivery": {"breakglass.dev/emergency-routes": "allowed"},
		"closed":   nil,
		"refused":  {"breakglass.dev/emergency-routes": "no"},
	} {
		if err := s.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}); err != nil {
			return err
		}
	}
	for _, b := range []struct{ namespace, role, user string }{
		{"payments", "breakglass-activator-diagnostics-readonly", "alice"},
		{"closed", "breakglass-activator-diagnostics-readonly", "alice"},
		{"refused", "breakglass-activator-diagnostics-readonly", "alice"},
		{"delivery", "breakglass-activator", "alice"},
		{"payments", "breakglass-activator", "bob"},
		{"payments", "breakglass-revoker", "carol"},
		{"payments", "breakglass-revoker", "dan"},
		{"payments", "breakglass-author", "erin"},
		{"payments", "breakglass-viewer", "frank"},
	} {
		if err := s.bind(ctx, b.namespace, b.role, b.user); err != nil {
			return err
		}
	}
	return s.settled(ctx)
}

func (s *apiServer) bind(ctx context.Context, in, role, user string) error {
	return s.admin.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: user + "-" + role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	})
}

// may asks the API server itself.
func (s *apiServer) may(ctx context.Context, user string, attributes authorizationv1.ResourceAttributes) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: []string{"system:authenticated"}, ResourceAttributes: &attributes}}
	err := s.admin.Create(ctx, review)
	return review.Status.Allowed, err
}

// settled waits until the policies and the bindings are what the API server goes by: alice
// gets in under her own name, bob does not, and frank, who was bound last, sees.
func (s *apiServer) settled(ctx context.Context) error {
	alice, bob := s.as("alice"), s.as("bob")
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		frank := authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "activations", Verb: "list"}
		if sees, err := s.may(ctx, "frank", frank); err != nil || !sees {
			last = errors.New("frank does not see")
			return false, err
		}
		mine, his := activation("settled"), activation("settled")
		mine.Spec.RequestedBy = "forged"
		if last = alice.Create(ctx, mine, client.DryRunAll); last != nil {
			return false, nil
		}
		if err := bob.Create(ctx, his, client.DryRunAll); !apierrors.IsForbidden(err) {
			last = fmt.Errorf("bob is not refused: %w", err)
			return false, nil
		}
		return mine.Spec.RequestedBy == "alice", nil
	})
	if err != nil {
		return fmt.Errorf("the policies do not take effect: %w (last: %w)", err, last)
	}
	return nil
}

// activation is a good one, in the namespace payments.
func activation(name string) *v1alpha1.Activation {
	return &v1alpha1.Activation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Name: "diagnostics"}},
			Role:       "diagnostics-readonly", Reason: "dashboards are down", Incident: "INC-1",
		},
	}
}

// made is one that alice asked for.
func made(t *testing.T, name string) *v1alpha1.Activation {
	t.Helper()
	a := activation(name)
	if err := installed.as("alice").Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

// refused checks that the API server said no, and in which words.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("the API server took it; want %q", want)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("refused in other words:\n got: %v\nwant: %s", err, want)
	}
}
