//go:build apiserver

package controller_test

import (
	"context"
	"fmt"
	"os"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// grpcRouteOf serves one method on the host grpc-NAME.
func grpcRouteOf(name string) *gwv1.GRPCRoute {
	as, service, method := routeOf(name), testbed.EchoService, "Once"
	as.Spec.Rules[0].BackendRefs[0].Name = "grpc"
	return &gwv1.GRPCRoute{
		ObjectMeta: as.ObjectMeta,
		Spec: gwv1.GRPCRouteSpec{
			CommonRouteSpec: as.Spec.CommonRouteSpec, Hostnames: []gwv1.Hostname{"grpc-" + as.Spec.Hostnames[0]},
			Rules: []gwv1.GRPCRouteRule{{
				Matches:     []gwv1.GRPCRouteMatch{{Method: &gwv1.GRPCMethodMatch{Service: &service, Method: &method}}},
				BackendRefs: []gwv1.GRPCBackendRef{{BackendRef: as.Spec.Rules[0].BackendRefs[0].BackendRef}},
			}},
		},
	}
}

// conditions of a GRPCRoute, as the controller tells them.
func (c *cluster) conditions(name string) func() (string, error) {
	return func() (text string, err error) {
		var r gwv1.GRPCRoute
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, &r); err != nil {
			return "", err
		}
		for _, p := range r.Status.Parents {
			for _, cond := range p.Conditions {
				text += fmt.Sprintf("%s=%s/%s ", cond.Type, cond.Status, cond.Reason)
				if cond.ObservedGeneration != r.Generation {
					text += "stale "
				}
			}
		}
		return text, nil
	}
}

var _ = Describe("A GRPCRoute", func() {
	It("is told and opened, and an API server may do without the kind until then", func() {
		c, ctx := newCluster(), context.Background()
		text, err := os.ReadFile("../../api/crds/gateway.networking.k8s.io_grpcroutes.yaml")
		Expect(err).NotTo(HaveOccurred())
		var crd apiextensionsv1.CustomResourceDefinition
		Expect(yaml.Unmarshal(text, &crd)).To(Succeed())
		Expect(apiextensionsv1.AddToScheme(c.admin.Scheme())).To(Succeed())
		Expect(c.admin.Delete(ctx, crd.DeepCopy())).To(Succeed())
		Eventually(func() error { return c.admin.List(ctx, &gwv1.GRPCRouteList{}) }).ShouldNot(Succeed())

		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		Eventually(r.ready).Should(BeEmpty())
		c.route("db")
		c.service("grpc", testbed.StartGRPCBackend(podIP))
		c.activate("web", "db", "10m")
		Eventually(p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))).Should(Equal(200))
		Expect(c.cli(c.file("admin.kubeconfig"), "status").out).To(ContainSubstring("payments/db"), "the CLI does without the kind too")

		Expect(c.admin.Create(ctx, &crd)).To(Succeed())
		Eventually(func() error { return c.admin.Create(ctx, grpcRouteOf("db")) }).Should(Succeed())
		Eventually(c.conditions("db")).Should(Equal("Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs breakglass.dev/Live=False/Dormant "))
		call := func(token string) func() codes.Code {
			client := testbed.GRPCAt(p.address, "grpc-"+testbed.Host("db"), insecure.NewCredentials())
			return func() codes.Code {
				code, _ := client.Once("/"+testbed.EchoService+"/Once", token)
				return code
			}
		}
		Expect(call(c.issuer.Token("sre"))()).To(Equal(codes.Unimplemented), "the HTTPRoute of its name is open")

		a := activationOf("grpc", "db", "10m")
		a.Spec.TargetRefs[0].Kind = v1alpha1.KindGRPCRoute
		Expect(c.alice.Create(ctx, a)).To(Succeed())
		Eventually(c.phase("grpc")).Should(Equal("Live Live"))
		Eventually(c.conditions("db")).Should(HaveSuffix("breakglass.dev/Live=True/Live "))
		Eventually(call(c.issuer.Token("sre"))).Should(Equal(codes.OK))
		Expect(call("")()).To(Equal(codes.Unauthenticated))
		Expect(call(c.issuer.Token("others"))()).To(Equal(codes.PermissionDenied))
		Expect(c.cli(c.file("admin.kubeconfig"), "status").out).To(MatchRegexp(`(?m)^grpcroute/payments/db .*Live`))

		// Of two kinds the older has a hostname.
		clash := grpcRouteOf("clash")
		clash.ObjectMeta = metav1.ObjectMeta{Namespace: tenants, Name: "clash", Labels: clash.Labels}
		clash.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(testbed.Host("db"))}
		Expect(c.admin.Create(ctx, clash)).To(Succeed())
		Eventually(c.conditions("clash")).Should(HavePrefix("Accepted=False/HostnameConflict ResolvedRefs=True"))
		Expect(p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))()).To(Equal(200))

		Expect(c.admin.Delete(ctx, grpcRouteOf("db"))).To(Succeed())
		Eventually(c.phase("grpc")).Should(Equal("Revoked RouteDeleted"))
		Eventually(call(c.issuer.Token("sre"))).Should(Equal(codes.Unimplemented))
		Expect(c.phase("web")()).To(Equal("Live Live"))
	})
})
