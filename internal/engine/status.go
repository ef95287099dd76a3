package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// Status of everything.
func (b backend) Status(context.Context) (*control.Status, error) {
	s := &control.Status{Version: version.Version, Now: b.now(), NotReady: b.notReady()}
	s.Ready = len(s.NotReady) == 0
	if d := b.behindNow(); d > 0 {
		s.ClockBehind = d.String()
	}
	v := b.view.Load()
	if v == nil {
		return s, nil
	}
	s.Objects = map[string]int{
		"Gateway": len(v.set.Gateways), "HTTPRoute": len(v.set.HTTPRoutes), "EmergencyPolicy": len(v.set.Policies),
		"Activation": len(v.activations), "Service": len(v.set.Services), "EndpointSlice": len(v.set.EndpointSlices),
	}
	for _, key := range sorted(v.result.Statuses.Gateways) {
		s.Gateways = append(s.Gateways, b.gatewayStatus(v, key))
	}
	for _, key := range sorted(v.result.Statuses.HTTPRoutes) {
		s.Routes = append(s.Routes, routeStatus(v, key))
	}
	for _, key := range sorted(v.activations) {
		s.Activations = append(s.Activations, *v.activations[key])
	}
	for _, name := range slices.Sorted(maps.Keys(v.set.Policies)) {
		s.Policies = append(s.Policies, policyStatus(v, name))
	}
	for _, p := range v.set.Problems {
		s.Problems = append(s.Problems, control.Problem{File: p.File, Line: p.Line, Object: p.Object, Field: p.Field, Message: p.Message, Remedy: p.Remedy, LastGood: p.LastGood})
	}
	s.Problems = append(s.Problems, unserved(v)...)
	return s, nil
}

func sorted[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// notReady lists what should be served and cannot be.
func (l *Engine) notReady() []string {
	v := l.view.Load()
	if v == nil {
		return []string{"the manifests are not loaded yet"}
	}
	var out []string
	if v.journalErr != nil {
		out = append(out, fmt.Sprintf("nothing can be opened, because nothing can be recorded: %v", v.journalErr))
	}
	if problem, opening := l.recorder.State(); opening {
		out = append(out, "nothing can be opened yet: "+problem)
	} else if problem != "" {
		out = append(out, "nothing can be opened, because the audit log is not sure to be complete: "+problem)
	}
	if err := l.clock.Problem(); err != nil {
		out = append(out, err.Error())
	}
	if l.opts.ReadyAlone {
		return append(out, l.world.NotReady()...)
	}
	out = append(out, openAndNotServed(v, l.now())...)
	for _, name := range slices.Sorted(maps.Keys(v.result.Statuses.GatewayClasses)) {
		if c := condition(v.result.Statuses.GatewayClasses[name].Conditions, string(gwv1.GatewayClassConditionStatusAccepted)); c.Status != v1.ConditionTrue {
			out = append(out, fmt.Sprintf("GatewayClass %s: %s", name, c.Message))
		}
	}
	for _, key := range sorted(v.result.Statuses.Gateways) {
		if c := condition(v.result.Statuses.Gateways[key].Conditions, string(gwv1.GatewayConditionProgrammed)); c.Status != v1.ConditionTrue {
			out = append(out, fmt.Sprintf("Gateway %s: %s", key, c.Message))
		}
		if _, problem := l.world.Envoy(key); problem != "" {
			out = append(out, fmt.Sprintf("Gateway %s: %s", key, problem))
		}
	}
	return append(out, l.world.NotReady()...)
}

func condition(cs []v1.Condition, kind string) v1.Condition {
	for _, c := range cs {
		if c.Type == kind {
			return c
		}
	}
	return v1.Condition{Type: kind, Status: v1.ConditionUnknown}
}

func (l *Engine) gatewayStatus(v *view, key types.NamespacedName) control.GatewayStatus {
	obj, st := v.set.Gateways[key], v.result.Statuses.Gateways[key]
	out := control.GatewayStatus{Namespace: key.Namespace, Name: key.Name, Class: string(obj.Spec.GatewayClassName)}
	if c := v.set.GatewayClasses[out.Class]; c != nil && c.Spec.ParametersRef != nil {
		out.Policy = c.Spec.ParametersRef.Name
	}
	for _, a := range st.Addresses {
		out.Addresses = append(out.Addresses, a.Value)
	}
	for i, ls := range st.Listeners {
		spec := obj.Spec.Listeners[i]
		p := condition(ls.Conditions, string(gwv1.ListenerConditionProgrammed))
		item := control.ListenerStatus{
			Name: string(ls.Name), Protocol: string(spec.Protocol), Port: int32(spec.Port),
			Programmed: p.Status == v1.ConditionTrue, AttachedRoutes: ls.AttachedRoutes, Message: complaint(ls.Conditions),
		}
		if spec.Hostname != nil {
			item.Hostname = string(*spec.Hostname)
		}
		if len(out.Addresses) > 0 {
			item.Address = out.Addresses[0]
		}
		out.Listeners = append(out.Listeners, item)
	}
	out.Envoy, _ = l.world.Envoy(key)
	return out
}

// complaint is the first thing that conditions complain about.
func complaint(cs []v1.Condition) string {
	for _, c := range cs {
		bad := c.Status == v1.ConditionFalse
		if c.Type == string(gwv1.ListenerConditionConflicted) {
			bad = c.Status == v1.ConditionTrue
		}
		if bad {
			return fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
	}
	return ""
}

func routeStatus(v *view, key types.NamespacedName) control.RouteStatus {
	obj := v.set.HTTPRoutes[key]
	out := control.RouteStatus{Namespace: key.Namespace, Name: key.Name, Role: obj.Labels[v1alpha1.RoleLabel], Accepted: true}
	for _, h := range obj.Spec.Hostnames {
		out.Hostnames = append(out.Hostnames, string(h))
	}
	for _, r := range obj.Spec.Rules {
		for _, m := range r.Matches {
			item := control.MatchStatus{}
			if m.Method != nil {
				item.Method = string(*m.Method)
			}
			if m.Path != nil && m.Path.Value != nil {
				item.Path = *m.Path.Value
			}
			out.Matches = append(out.Matches, item)
		}
	}
	for _, p := range v.result.Statuses.HTTPRoutes[key].Parents {
		out.Gateways = append(out.Gateways, strings.TrimPrefix(parentName(p, key.Namespace), "/"))
		live := condition(p.Conditions, v1alpha1.ConditionRouteLive)
		out.Live = out.Live || live.Status == v1.ConditionTrue
		out.Reason, out.Message = live.Reason, live.Message
		for _, kind := range []gwv1.RouteConditionType{gwv1.RouteConditionResolvedRefs, gwv1.RouteConditionAccepted} {
			if c := condition(p.Conditions, string(kind)); c.Status != v1.ConditionTrue {
				out.Accepted = out.Accepted && kind != gwv1.RouteConditionAccepted
				out.Reason, out.Message = c.Reason, c.Message
			}
		}
	}
	return out
}

func parentName(p gwv1.RouteParentStatus, namespace string) string {
	if p.ParentRef.Namespace != nil {
		namespace = string(*p.ParentRef.Namespace)
	}
	return namespace + "/" + string(p.ParentRef.Name)
}

func policyStatus(v *view, name string) control.PolicyStatus {
	st := v.result.Statuses.Policies[name]
	out := control.PolicyStatus{Name: name, Suspended: v.set.Policies[name].Spec.Suspended}
	accepted := condition(st.Conditions, v1alpha1.ConditionAccepted)
	out.Accepted, out.Message = accepted.Status == v1.ConditionTrue, accepted.Message
	if refs := condition(st.Conditions, v1alpha1.ConditionResolvedRefs); refs.Status != v1.ConditionTrue {
		out.Message = refs.Message
	}
	for _, i := range v.result.Issuers[name] {
		out.Issuers = append(out.Issuers, control.IssuerStatus{Name: i.Name, Keys: i.Keys, Error: i.Error, Offline: i.Offline, Stale: i.Stale})
	}
	return out
}
