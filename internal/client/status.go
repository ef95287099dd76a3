package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/grpcroute"
)

// versionLabel is on everything that the Helm chart installs.
const versionLabel = "app.kubernetes.io/version"

// seen is what of a cluster may be seen, and in words what may not.
type seen struct {
	cluster     *Cluster
	classes     gwv1.GatewayClassList
	gateways    gwv1.GatewayList
	sets        gwv1.ListenerSetList
	routes      gwv1.HTTPRouteList
	grpcRoutes  gwv1.GRPCRouteList
	policies    v1alpha1.EmergencyPolicyList
	activations v1alpha1.ActivationList
	hidden      []control.Problem
}

// Status is what the objects' own statuses say: the controller writes them. What
// the caller may not see is told as a problem.
func (c *Cluster) Status(ctx context.Context, namespace string) (*control.Status, error) {
	v := &seen{cluster: c}
	for _, read := range []struct {
		list      client.ObjectList
		what      string
		namespace string
	}{
		// First what everybody may see that may see anything.
		{&v.activations, "Activations", namespace},
		{&v.routes, "HTTPRoutes", namespace},
		{&v.grpcRoutes, "GRPCRoutes", namespace},
		{&v.classes, "GatewayClasses", ""},
		{&v.gateways, "Gateways", ""},
		{&v.policies, "EmergencyPolicies", ""},
	} {
		if err := v.read(ctx, read.list, read.what, read.namespace, namespace == ""); err != nil {
			return nil, err
		}
	}
	// Not every cluster has them, and who may not see them sees the Gateways.
	if err := c.list(ctx, &v.sets, ""); err != nil && !apierrors.IsForbidden(err) && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return nil, c.explain(err, "see ListenerSets", "", "breakglass-reviewer")
	}
	return v.status(), nil
}

// read lists a kind, of one namespace if all are not allowed.
func (v *seen) read(ctx context.Context, list client.ObjectList, what, namespace string, fallback bool) error {
	err := v.cluster.list(ctx, list, namespace)
	own := v.cluster.info.Namespace
	if apierrors.IsForbidden(err) && fallback && own != "" && namespaced(what) {
		err = v.cluster.list(ctx, list, own)
		if err == nil {
			v.hidden = append(v.hidden, control.Problem{Object: what, Message: "only those of namespace " + own + " are shown: you may not see others",
				Remedy: "name a namespace with -n, or ask for a ClusterRoleBinding to the ClusterRole breakglass-reviewer"})
		}
	}
	switch {
	case err == nil, what == "GRPCRoutes" && apierrors.IsNotFound(err): // a cluster may do without
		return nil
	case apierrors.IsForbidden(err):
		remedy := "ask for a ClusterRoleBinding to the ClusterRole breakglass-reviewer"
		if fallback && namespaced(what) {
			remedy = "name a namespace with -n, or " + remedy
		}
		v.hidden = append(v.hidden, control.Problem{Object: what, Message: "you may not see them" + inNamespace(namespace), Remedy: remedy})
		return nil
	}
	return v.cluster.explain(err, "see "+what, namespace, "breakglass-reviewer")
}

// namespaced reports whether -n says which of a kind are shown.
func namespaced(what string) bool {
	return what == "Activations" || what == "HTTPRoutes" || what == "GRPCRoutes"
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " in namespace " + namespace
}

// hides reports whether a kind could not be read.
func (v *seen) hides(what string) bool {
	return slices.ContainsFunc(v.hidden, func(p control.Problem) bool { return p.Object == what })
}

// together tells of kinds in one line of which the same is to be told.
func together(hidden []control.Problem) []control.Problem {
	out := []control.Problem{}
	for _, p := range hidden {
		if last := len(out) - 1; last >= 0 && out[last].Message == p.Message && out[last].Remedy == p.Remedy {
			out[last].Object += ", " + p.Object
			continue
		}
		out = append(out, p)
	}
	return out
}

func (v *seen) status() *control.Status {
	s := &control.Status{
		Cluster: v.cluster.info.Where, Now: time.Now().UTC(), Gateways: []control.GatewayStatus{}, Routes: []control.RouteStatus{},
		Activations: []v1alpha1.Activation{}, Policies: []control.PolicyStatus{}, Problems: together(v.hidden),
	}
	classes := v.ourClasses(s)
	sets := map[types.NamespacedName]*gwv1.ListenerSet{}
	for i := range v.sets.Items {
		sets[client.ObjectKeyFromObject(&v.sets.Items[i])] = &v.sets.Items[i]
	}
	named := map[string]bool{}
	route := func(kind string, r *gwv1.HTTPRoute, told []gwv1.RouteParentStatus) {
		if parents := ourParents(told); len(parents) > 0 {
			st := control.DescribeRoute(kind, r, parents, sets)
			s.Routes = append(s.Routes, st)
			for _, g := range st.Gateways {
				named[g] = true
			}
		}
	}
	for i := range v.routes.Items {
		route(v1alpha1.KindHTTPRoute, &v.routes.Items[i], v.routes.Items[i].Status.Parents)
	}
	for i := range v.grpcRoutes.Items {
		route(v1alpha1.KindGRPCRoute, grpcroute.HTTP(&v.grpcRoutes.Items[i]), v.grpcRoutes.Items[i].Status.Parents)
	}
	v.addGateways(s, classes, named)
	for i := range v.policies.Items {
		p := &v.policies.Items[i]
		st := control.DescribePolicy(p, &p.Status)
		if told := control.Condition(p.Status.Conditions, v1alpha1.ConditionAlarmsDelivered); told.Status == metav1.ConditionFalse {
			s.Alarms = &control.AlarmStatus{Problem: told.Message}
		}
		for _, issuer := range p.Spec.Issuers {
			st.Issuers = append(st.Issuers, control.IssuerStatus{Name: issuer.Name, Keys: -1, Offline: issuer.Offline})
		}
		s.Policies = append(s.Policies, st)
	}
	s.Activations = append(s.Activations, v.activations.Items...)
	if v.hides("GatewayClasses") || v.hides("Gateways") {
		s.NotReady = append(s.NotReady, "whether everything is served is not known: you may not see all GatewayClasses and Gateways")
	}
	s.Ready = len(s.NotReady) == 0
	s.Objects = map[string]int{"Gateway": len(s.Gateways), "HTTPRoute": count(s.Routes, v1alpha1.KindHTTPRoute), "GRPCRoute": count(s.Routes, v1alpha1.KindGRPCRoute), "EmergencyPolicy": len(s.Policies), "Activation": len(s.Activations)}
	v.sort(s)
	return s
}

// addGateways adds those of the classes. Routes of ours have the named ones.
func (v *seen) addGateways(s *control.Status, classes map[string]*gwv1.GatewayClass, named map[string]bool) {
	for i := range v.gateways.Items {
		g := &v.gateways.Items[i]
		class := classes[string(g.Spec.GatewayClassName)]
		// Who may not see the classes still sees the Gateways that have routes of ours.
		if class == nil && (!v.hides("GatewayClasses") || !named[g.Namespace+"/"+g.Name]) {
			continue
		}
		st := describeGateway(g, class)
		for i := range v.sets.Items {
			if set := &v.sets.Items[i]; control.SetParent(set) == (types.NamespacedName{Namespace: g.Namespace, Name: g.Name}) {
				st.AddSet(set, &set.Status)
			}
		}
		s.Gateways = append(s.Gateways, st)
		s.NotReady = append(s.NotReady, control.GatewayNotServed("Gateway "+g.Namespace+"/"+g.Name, &g.Status)...)
	}
}

// ourClasses by name. It notes what is wrong with them.
func (v *seen) ourClasses(s *control.Status) map[string]*gwv1.GatewayClass {
	out := map[string]*gwv1.GatewayClass{}
	for i := range v.classes.Items {
		class := &v.classes.Items[i]
		if class.Spec.ControllerName != v1alpha1.ControllerName {
			continue
		}
		out[class.Name] = class
		s.Version = cmp.Or(s.Version, class.Labels[versionLabel])
		if no := control.NotServed("GatewayClass "+class.Name, class.Status.Conditions, string(gwv1.GatewayClassConditionStatusAccepted)); no != "" {
			s.NotReady = append(s.NotReady, no)
		}
	}
	if len(out) == 0 && !v.hides("GatewayClasses") {
		s.NotReady = append(s.NotReady, fmt.Sprintf("no GatewayClass has the controller %s: install the Helm chart of breakglass, or name another --context", v1alpha1.ControllerName))
	}
	return out
}

// describeGateway has of the Envoys what the Gateway's own conditions tell of them.
func describeGateway(g *gwv1.Gateway, class *gwv1.GatewayClass) control.GatewayStatus {
	out := control.DescribeGateway(g, class, &g.Status)
	c := control.Condition(g.Status.Conditions, string(gwv1.GatewayConditionProgrammed))
	out.Envoy.Ready = c.Status == metav1.ConditionTrue || c.Reason == string(gwv1.GatewayReasonAddressNotAssigned)
	out.Envoy.Connected = out.Envoy.Ready
	if c.Status != metav1.ConditionTrue {
		out.Envoy.LastError = c.Message
	}
	return out
}

// ourParents are the parents that our controller has judged.
func ourParents(told []gwv1.RouteParentStatus) (out []gwv1.RouteParentStatus) {
	for _, p := range told {
		if p.ControllerName == v1alpha1.ControllerName {
			out = append(out, p)
		}
	}
	return out
}

func count(routes []control.RouteStatus, kind string) (n int) {
	for _, r := range routes {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

func (v *seen) sort(s *control.Status) {
	slices.SortFunc(s.Gateways, func(a, b control.GatewayStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Routes, func(a, b control.RouteStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(b.Kind, a.Kind))
	})
	slices.SortFunc(s.Activations, func(a, b v1alpha1.Activation) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Policies, func(a, b control.PolicyStatus) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.Activations {
		s.Activations[i].ManagedFields = nil
	}
}
