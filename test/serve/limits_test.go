//go:build envoy

package serve

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// What policy, role and route allow an activation to be.
var _ = Describe("An activation", func() {
	It("is refused for a second role, naming who holds the route", func() {
		name := shared.Unique()
		// Two roles may open it, because it carries no label.
		route := strings.Replace(testbed.Route{Name: name, Gateway: "free"}.YAML(), ", labels: {breakglass.dev/role: db}", "", 1)
		w := shared
		free := w.Policy
		free.Name, free.Scope = "free", "{allowUnlabelled: true}"
		w.Write(name+"-free.yaml", free.YAML(), testbed.Class("free", "free"),
			testbed.Gateway("free", "free", testbed.Listener("http", testbed.FreePort(), "*.example.test")), route)
		w.Activate(testbed.Activation{Name: name + "-db", Routes: []string{name}, Duration: "10m"})
		w.Write(name+"-web.yaml", testbed.Activation{Name: name + "-web", Role: "web", Routes: []string{name}, Duration: "10m"}.YAML())
		w.AwaitPhase(name+"-web", "Refused HeldByAnotherRole")
		Expect(w.Message(name + "-web")).To(And(ContainSubstring("db"), ContainSubstring("pay/"+name+"-db")))
		Expect(w.Phase(name + "-db")()).To(Equal("Live"))
		w.Remove(name + "-free.yaml")
		w.AwaitPhase(name+"-db", "Revoked RouteDeleted")
	})

	It("is refused for a role that the route's label does not name, or that nobody defined", func() {
		name := shared.Unique()
		shared.Write(name+".yaml", testbed.Route{Name: name}.YAML(),
			testbed.Activation{Name: name + "-web", Role: "web", Routes: []string{name}, Duration: "10m"}.YAML(),
			testbed.Activation{Name: name + "-root", Role: "root", Routes: []string{name}, Duration: "10m"}.YAML())
		shared.AwaitPhase(name+"-web", "Refused RoleMismatch")
		shared.AwaitPhase(name+"-root", "Refused RoleNotFound")
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Issuer.Token("web"))).To(haveStatus(404))
	})

	It("opens only the rule that is named", func() {
		name := shared.Unique()
		shared.Write(name+".yaml", testbed.Route{Name: name, Rules: []testbed.Rule{
			{Name: "read", Matches: []string{testbed.Match("GET", "PathPrefix", "/api/read", "")}},
			{Name: "write", Matches: []string{testbed.Match("GET", "PathPrefix", "/api/write", "")}},
		}}.YAML(), testbed.Activation{Name: name, Routes: []string{name + ":read"}, Duration: "10m"}.YAML())
		shared.AwaitPhase(name, "Live")
		Expect(shared.H1().Get(testbed.Host(name), "/api/read", shared.Token())).To(haveStatus(200))
		Expect(shared.H1().Get(testbed.Host(name), "/api/write", shared.Token())).To(haveStatus(404))
	})

	It("is cut to what policy, role and notAfter allow, and a lower limit shortens what is open", func() {
		w := testbed.New()
		w.Policy.Roles = append(w.Policy.Roles, testbed.Role{Name: "brief", Group: "brief", MaxDuration: "90s"})
		w.Policy.Limits = "{maxDuration: 1h, defaultDuration: 5m, drillMaxDuration: 2m}"
		w.WritePolicy()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "brief", Role: "brief"}.YAML())
		w.Start()
		within := func(a testbed.Activation, want time.Duration) {
			GinkgoHelper()
			Expect(time.Until(w.Activate(a))).To(BeNumerically("~", want, 3*time.Second), a.Name)
		}
		within(testbed.Activation{Name: "long", Routes: []string{"r"}, Duration: "24h"}, time.Hour)
		within(testbed.Activation{Name: "unsaid", Routes: []string{"r"}}, 5*time.Minute)
		within(testbed.Activation{Name: "brief", Role: "brief", Routes: []string{"brief"}, Duration: "1h"}, 90*time.Second)
		within(testbed.Activation{Name: "drill", Routes: []string{"r"}, Duration: "1h", Drill: true}, 2*time.Minute)
		within(testbed.Activation{Name: "bounded", Routes: []string{"r"}, Duration: "1h", NotAfter: time.Now().Add(3 * time.Minute)}, 3*time.Minute)
		w.Policy.Limits = "{maxDuration: 10m, defaultDuration: 5m}"
		w.WritePolicy()
		Eventually(func() time.Duration { return time.Until(w.Deadline("long")) }).Should(BeNumerically("<=", 10*time.Minute))
		w.Policy.Limits = "{maxDuration: 2h, defaultDuration: 5m}"
		w.WritePolicy()
		Consistently(func() time.Duration { return time.Until(w.Deadline("long")) }, "100ms").Should(BeNumerically("<=", 10*time.Minute))
	})

	It("is refused beyond maxOpen and maxPerDay, and opens once there is room", func() {
		w := testbed.New()
		w.Policy.Limits = "{maxOpen: 2, maxPerDay: 3}"
		w.WritePolicy()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML())
		w.Start()
		open := func(name, route string) testbed.Activation {
			return testbed.Activation{Name: name, Routes: []string{route}, Duration: "10m"}
		}
		w.Activate(open("a", "r"))
		w.Activate(open("b", "r"))
		w.Write("c.yaml", open("c", "r").YAML())
		w.AwaitPhase("c", "Refused TooManyOpen")
		w.Revoke("a")
		w.Activate(open("d", "r"))
		w.Revoke("b")
		w.Write("e.yaml", open("e", "r").YAML())
		w.AwaitPhase("e", "Refused TooManyPerDay")
		Expect(w.Message("e")).To(ContainSubstring("limits.maxPerDay"))
		w.Activate(open("f", "s"))
	})

	It("needs an incident, unless it is a drill", func() {
		name := shared.Unique()
		a := testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}
		shared.Write(name+".yaml", testbed.Route{Name: name}.YAML(), strings.Replace(a.YAML(), "  incident: INC-1\n", "", 1))
		Eventually(shared.Problems).Should(ContainElement(And(ContainSubstring(name+".yaml"), ContainSubstring("spec.incident is required"))))
		staysClosed(shared, name)
		a.Drill = true
		shared.Write(name+".yaml", testbed.Route{Name: name}.YAML(), a.YAML())
		shared.AwaitPhase(name, "Live")
	})
})
