//go:build apiserver

package controller_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// answer is how a command of the CLI went.
type answer struct {
	code        int
	out, errOut string
}

// cli runs the CLI as somebody with a kubeconfig and no serve.
func (c *cluster) cli(kubeconfig string, args ...string) answer {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testbed.Binary(), args...) //nolint:gosec // our own
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+c.dir, "BREAKGLASS_DATA_DIR=")
	if err := cmd.Run(); cmd.ProcessState == nil {
		Fail(err.Error())
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// user is a kubeconfig of somebody with ClusterRoles in the namespace of the tenants.
func (c *cluster) user(name, namespace string, roles ...string) string {
	GinkgoHelper()
	u, err := c.env.AddUser(envtest.User{Name: name, Groups: []string{"system:authenticated"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	text, err := u.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	cfg, err := clientcmd.Load(text)
	Expect(err).NotTo(HaveOccurred())
	for _, known := range cfg.Contexts {
		known.Namespace = namespace
	}
	path := c.file(name + ".kubeconfig")
	Expect(clientcmd.WriteToFile(*cfg, path)).To(Succeed())
	for _, role := range roles {
		Expect(c.admin.Create(context.Background(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name + "-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}},
		})).To(Succeed())
	}
	return path
}

var _ = Describe("The command line on a cluster", Ordered, func() {
	var c *cluster
	var bob, carol, dave, admin string
	var get func() int
	flags := []string{"--incident", "INC-7", "--reason", "the database is down"}
	activate := func(kubeconfig string, args ...string) answer {
		GinkgoHelper()
		return c.cli(kubeconfig, append(append([]string{"activate"}, args...), flags...)...)
	}

	BeforeAll(func() {
		c = newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		c.route("db")
		bob, carol = c.user("bob", tenants, "breakglass-activator-db"), c.user("carol", "", "breakglass-revoker")
		dave, admin = c.user("dave", ""), c.file("admin.kubeconfig")
		get = p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))
		Eventually(get).Should(Equal(404))
		Eventually(r.ready).Should(BeEmpty())
	})

	It("opens a route with no right but to activate, and waits until it is live", func() {
		a := activate(bob, "db", "--role", "db", "--name", "cli-1", "--duration", "10m", "-o", "json")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(get()).To(Equal(200))
		Expect(a.errOut).To(MatchRegexp(`^Asking the API server: https://\S+ \(context \S+\)\n$`))
		var live v1alpha1.Activation
		Expect(json.Unmarshal([]byte(a.out), &live)).To(Succeed())
		Expect(live.Status.Phase).To(Equal(v1alpha1.PhaseLive))
		Expect(live.Spec.RequestedBy).To(Equal("bob"))
		Expect(live.Spec.NotAfter.Time).To(BeTemporally("~", time.Now().Add(10*time.Minute), time.Minute))
		again := activate(bob, "db", "--role", "db", "--name", "cli-1")
		Expect(again.code).To(Equal(1))
		Expect(again.errOut).To(ContainSubstring("Error: payments/cli-1 was not activated: the name payments/cli-1 is spent"))
	})

	It("prints where to go, and flags that can be pasted", func() {
		a := activate("/nonexistent", "db", "-n", tenants, "--role", "db", "--name", "cli-2", "--kubeconfig", bob)
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.errOut).To(BeEmpty())
		Expect(a.out).To(HavePrefix("Live: payments/cli-2  route db, role db, incident INC-7\n"))
		Expect(a.out).To(ContainSubstring(`curl -H "Authorization: Bearer $TOKEN"`))
		Expect(a.out).To(ContainSubstring("Close it: breakglass revoke payments/cli-2 --kubeconfig " + bob + "\n"))
	})

	It("says why it is refused in the words of admission, of the schema, of RBAC and of the controller", func() {
		for _, refused := range []struct {
			kubeconfig string
			args       []string
			text       string
		}{
			{bob, []string{"db", "--role", "root"}, "Error: payments/[^ ]+ was not activated: you \\(bob\\) may not activate the emergency role root in namespace payments: check spec.role, or ask for a RoleBinding"},
			{dave, []string{"payments/db", "--role", "db"}, "you may not make Activations in namespace payments: ask for a RoleBinding to the ClusterRole breakglass-activator-db there"},
			{dave, []string{"db", "--role", "db"}, "name the namespace of the routes with -n: they cannot be looked up"},
			{bob, []string{"none", "--role", "db", "--timeout", "1s"}, "Waiting: RouteNotFound: (.|\n)*is not live after 1s: RouteNotFound"},
		} {
			a := activate(refused.kubeconfig, refused.args...)
			Expect(a.code).NotTo(BeZero(), a.out)
			Expect(a.errOut).To(MatchRegexp(refused.text))
			Expect(a.out).To(BeEmpty())
		}
	})

	It("shows what the objects say, and what may not be seen", func() {
		a := c.cli(admin, "status")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.out).To(MatchRegexp(`^READY  breakglass \d\S+, `))
		Expect(a.out).To(MatchRegexp(`(?m)^breakglass-system/emergency +http .* ready `))
		Expect(a.out).To(MatchRegexp(`(?m)^payments/db +db +` + testbed.Host("db") + ` +Live `))
		Expect(a.out).To(MatchRegexp(`(?m)^payments/cli-1 +db +db +INC-7 +Live +9m\d+s +bob `))
		Expect(a.out).To(ContainSubstring("No problems."))

		a = c.cli(bob, "status", "-o", "json")
		Expect(a.code).To(BeZero(), a.errOut)
		var st control.Status
		Expect(json.Unmarshal([]byte(a.out), &st)).To(Succeed())
		Expect(st.Ready).To(BeFalse())
		Expect(st.Activations).NotTo(BeEmpty())
		Expect(st.Cluster).NotTo(BeEmpty())
		Expect(st.Problems).To(ContainElement(HaveField("Object", "GatewayClasses, Gateways, EmergencyPolicies")))
		Expect(c.cli(bob, "status").out).To(ContainSubstring("EmergencyPolicies: you may not see them: ask for a ClusterRoleBinding to the ClusterRole breakglass-reviewer"))

		Expect(os.WriteFile(c.file("token"), []byte(c.issuer.Token("sre")), 0o600)).To(Succeed())
		a = c.cli(admin, "token", "check", "--token-file", c.file("token"), "payments/db")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.out).To(HavePrefix("Allowed: "))
		Expect(os.WriteFile(c.file("token"), []byte(c.issuer.Token("dev")), 0o600)).To(Succeed())
		a = c.cli(admin, "token", "check", "--token-file", c.file("token"), "payments/db")
		Expect(a.errOut).To(ContainSubstring("Error: refused with 403, "))
		a = c.cli(bob, "token", "check", "--token-file", c.file("token"), "payments/db")
		Expect(a.errOut).To(ContainSubstring("you may not see all EmergencyPolicies"))

		a = c.cli(admin, "timeline")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.out).To(MatchRegexp(`activation opened +bob +Activation payments/cli-1 +db +INC-7 +until `))
	})

	It("revokes with no right but to revoke, one or all of a namespace, and waits for the end", func() {
		a := c.cli(bob, "revoke", "cli-1")
		Expect(a.code).To(Equal(1))
		Expect(a.errOut).To(ContainSubstring("payments/cli-1 is NOT revoked: you may not revoke Activations in namespace payments: ask for a RoleBinding to the ClusterRole breakglass-revoker there"))
		Expect(get()).To(Equal(200))
		a = c.cli(carol, "revoke", "--all")
		Expect(a.errOut).To(ContainSubstring("you may not see all Activations in all namespaces: name a namespace with -n"))
		a = c.cli(carol, "revoke", "payments/cli-1")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.out).To(HavePrefix("Revoked: payments/cli-1  route db, role db, "))
		Expect(c.activation("cli-1").Spec.RevokedBy).To(Equal("carol"))
		Expect(get()).To(Equal(200)) // cli-2 is still open
		a = c.cli(carol, "revoke", "payments/cli-2", "payments/nothing")
		Expect(a.errOut).To(ContainSubstring("there is no Activation payments/nothing"))
		Expect(c.activation("cli-2").Spec.Revoked).To(BeFalse())
		a = c.cli(carol, "revoke", "--all", "-n", tenants, "--reason", "over")
		Expect(a.code).To(BeZero(), a.errOut)
		Expect(a.errOut).To(ContainSubstring("Warning: a cluster keeps no reason of a revocation"))
		Expect(get()).To(Equal(404))
		Expect(c.cli(carol, "revoke", "--all", "-n", tenants).out).To(Equal("Nothing is open.\n"))
		Expect(c.cli(carol, "revoke", "payments/cli-1").code).To(BeZero()) // it has ended
	})

	It("says what to do without a serve and without a kubeconfig", func() {
		a := c.cli("/nonexistent", "status")
		Expect(a.code).To(Equal(1))
		Expect(a.errOut).To(MatchRegexp(`^Error: there is nobody to ask: .*: name a serve with --data-dir, or a cluster with --kubeconfig\n$`))
		Expect(c.cli(admin, "status", "--context", "none").errOut).To(ContainSubstring(`context "none" does not exist`))
		Expect(c.cli(admin, "status", "--context", "none", "--data-dir", "/x").code).To(Equal(2))
	})

	It("says that the API server is down", func() {
		cfg, err := clientcmd.LoadFromFile(admin)
		Expect(err).NotTo(HaveOccurred())
		for _, known := range cfg.Clusters {
			known.Server = "https://127.0.0.1:1"
		}
		Expect(clientcmd.WriteToFile(*cfg, c.file("down.kubeconfig"))).To(Succeed())
		a := c.cli(c.file("down.kubeconfig"), "activate", "payments/db", "--role", "db", "--drill", "--reason", "x")
		Expect(a.code).To(Equal(1))
		Expect(a.errOut).To(MatchRegexp(`the API server https://127.0.0.1:1 .*cannot be reached: .*connection refused: name another --context; if it is down, the way in is a jump host`))
	})
})
