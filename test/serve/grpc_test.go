//go:build envoy

package serve

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc/codes"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// grpcRoute serves the methods of EchoService on the host of its name. The Service is
// that of grpcService.
func grpcRoute(name string) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: %[1]s, namespace: %[2]s, labels: {breakglass.dev/role: db}}
spec:
  parentRefs: [{name: door}]
  hostnames: ['%[3]s']
  rules:
  - name: once
    matches: [{method: {service: %[4]s, method: Once}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: db}]}}]
    backendRefs: [{name: grpc, port: 80}]
  - matches: [{method: {service: %[4]s, method: Watch}}, {method: {type: RegularExpression, service: 'test\.v1\..*', method: Ch.t}}]
    backendRefs: [{name: grpc, port: 80}]
  - matches: [{method: {service: test.v1.Missing}}]
    backendRefs: [{name: nowhere, port: 80}]
`, name, testbed.Namespace, testbed.Host(name), testbed.EchoService)
}

const once = "/" + testbed.EchoService + "/Once"

var _ = Describe("A GRPCRoute", Ordered, ContinueOnFailure, func() {
	BeforeAll(func() {
		shared.Write("grpc-service.yaml", testbed.Service("grpc", testbed.StartGRPCBackend("127.0.0.1")))
	})
	code := func(c *testbed.GRPCClient, path, token string) codes.Code {
		got, _ := c.Once(path, token)
		return got
	}
	// open writes a route and opens it.
	open := func(d string) (name string, deadline time.Time) {
		GinkgoHelper()
		name = shared.Unique()
		shared.Write(name+"-route.yaml", grpcRoute(name))
		return name, shared.Activate(testbed.Activation{Name: name, Routes: []string{"grpcroute/" + name}, Duration: d})
	}

	It("is answered as gRPC wants it, whoever asks", func() {
		name, _ := open("10m")
		for _, secure := range []bool{false, true} {
			c := shared.GRPC(testbed.Host(name), secure)
			got, header := c.Once(once, shared.Token())
			Expect(got).To(Equal(codes.OK))
			Expect(header["saw-authorization"]).To(Equal([]string{"0"}), "the backend has seen the token")
			Expect(header["saw-team"]).To(Equal([]string{"[db]"}))
			Expect(code(c, once, "")).To(Equal(codes.Unauthenticated))
			Expect(code(c, once, shared.Issuer.Token("web"))).To(Equal(codes.PermissionDenied))
			Expect(code(c, "/"+testbed.EchoService+"/Twice", shared.Token())).To(Equal(codes.Unimplemented), "a method that no rule names")
			Expect(code(c, "/test.v2.Echo/Once", shared.Token())).To(Equal(codes.Unimplemented), "a service that no rule names")
			Expect(code(c, "/test.v1.Missing/Any", shared.Token())).To(Equal(codes.Unavailable), "a backend that is not there")
			Expect(code(c, "/test.v1.Missing/Any", "")).To(Equal(codes.Unauthenticated), "the same without a token")
		}
		Expect(shared.H2C().Get(testbed.Host(name), once, shared.Token())).To(haveStatus(404), "a request that is not gRPC")
	})

	It("is closed until it is opened, and after it", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", grpcRoute(name))
		c := shared.GRPC(testbed.Host(name), false)
		Eventually(told(shared)).Should(line("route "+name, "accepted true"))
		Expect(code(c, once, shared.Token())).To(Equal(codes.Unimplemented))
		shared.Activate(testbed.Activation{Name: name, Routes: []string{"grpcroute/" + name + ":once"}, Duration: "10m"})
		Expect(code(c, once, shared.Token())).To(Equal(codes.OK))
		Expect(code(c, "/"+testbed.EchoService+"/Watch", shared.Token())).To(Equal(codes.Unimplemented), "a rule that was not opened")
		shared.Revoke(name)
		Eventually(func() codes.Code { return code(c, once, shared.Token()) }, revocation).Should(Equal(codes.Unimplemented))
	})

	It("is not opened by what opens the HTTPRoute of its name", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", grpcRoute(name), testbed.Route{Name: name, Hosts: []string{"web-" + testbed.Host(name)}}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		Expect(shared.H1().Get("web-"+testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(200))
		Expect(code(shared.GRPC(testbed.Host(name), false), once, shared.Token())).To(Equal(codes.Unimplemented))
		var kinds []string
		for _, r := range shared.Status().Routes {
			if r.Name == name {
				kinds = append(kinds, fmt.Sprint(r.Kind, " live ", r.Live))
			}
		}
		Expect(kinds).To(Equal([]string{"HTTPRoute live true", "GRPCRoute live false"}))
	})

	It("does not share a hostname with an HTTPRoute", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", grpcRoute(name), testbed.Route{Name: name}.YAML())
		message := func() string {
			for _, r := range shared.Status().Routes {
				if r.Name == name && r.Kind == "GRPCRoute" && !r.Accepted {
					return r.Reason + ": " + r.Message
				}
			}
			return ""
		}
		Eventually(message).Should(ContainSubstring("HostnameConflict: HTTPRoute pay/" + name + " has hostname " + testbed.Host(name)))
	})

	It("has its calls in the log", func() {
		name, _ := open("10m")
		Expect(code(shared.GRPC(testbed.Host(name), false), once, shared.Token())).To(Equal(codes.OK))
		Eventually(func() []string {
			var out []string
			for _, r := range shared.Logged(audit.TypeEnd, once)[once] {
				if r.Host == testbed.Host(name) {
					out = append(out, fmt.Sprint(r.Route, " ", r.Rule, " ", r.Method, " ", r.Path, " ", r.Status))
				}
			}
			return out
		}).Should(Equal([]string{"GRPCRoute pay/" + name + " once POST " + once + " 200"}))
	})

	for _, method := range []string{"Watch", "Chat"} {
		cut := func(figure string, s *testbed.GRPCStream, instant time.Time, tolerance time.Duration) {
			GinkgoHelper()
			Eventually(s.Done(), time.Until(instant)+2*time.Second).Should(BeClosed(), "still open: %s", s)
			notAfter(s.Last(), instant, tolerance, "the last message of ", s)
			Expect(s.Last()).To(BeTemporally(">", instant.Add(-300*time.Millisecond-testbed.Stalled(s.Last(), instant))), "cut too early: %s", s)
			notAfter(s.End(), instant, tolerance+150*time.Millisecond, "the end of ", s)
			testbed.Figure("gRPC "+method+" at "+figure+": end as the client sees it", s.End().Sub(instant))
		}
		It("has its streams cut at the deadline: "+method, func() {
			name, deadline := open("3s")
			c := shared.GRPC(testbed.Host(name), true)
			cut("the deadline", c.Stream(method, shared.Token()), deadline, late)
			Expect(code(c, once, shared.Token())).To(Equal(codes.Unimplemented))
		})
		It("has its streams cut at the end of their token: "+method, func() {
			name, _ := open("10m")
			exp, token := shortToken(shared)
			c := shared.GRPC(testbed.Host(name), true)
			other := c.Stream(method, shared.Token())
			cut("the end of the token", c.Stream(method, token), exp, late)
			Expect(other.Done()).NotTo(BeClosed())
		})
		It("has its streams cut when it is revoked: "+method, func() {
			name, _ := open("10m")
			s := shared.GRPC(testbed.Host(name), false).Stream(method, shared.Token())
			cut("a revocation", s, shared.Revoke(name), revocation)
		})
	}
})
