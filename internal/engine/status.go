package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// Status of everything.
func (b backend) Status(context.Context) (*control.Status, error) {
	s := &control.Status{Version: version.Version, Now: b.now(), NotReady: b.notReady(), Alarms: b.alarms.status()}
	s.Ready = len(s.NotReady) == 0
	if d := b.behindNow(); d > 0 {
		s.ClockBehind = d.String()
	}
	v := b.view.Load()
	if v == nil {
		return s, nil
	}
	s.Objects = map[string]int{
		"Gateway": len(v.set.Gateways), "HTTPRoute": len(v.set.HTTPRoutes), "GRPCRoute": len(v.set.GRPCRoutes), "EmergencyPolicy": len(v.set.Policies),
		"Activation": len(v.activations), "Service": len(v.set.Services), "EndpointSlice": len(v.set.EndpointSlices),
	}
	for _, key := range sorted(v.result.Statuses.Gateways) {
		s.Gateways = append(s.Gateways, b.gatewayStatus(v, key))
	}
	for _, key := range slices.SortedFunc(maps.Keys(v.result.Statuses.Routes), activation.RouteKey.Compare) {
		s.Routes = append(s.Routes, control.DescribeRoute(key.Kind, translator.RouteOf(&v.set.Objects, key), v.result.Statuses.Routes[key].Parents, v.set.ListenerSets))
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
		if no := control.NotServed("GatewayClass "+name, v.result.Statuses.GatewayClasses[name].Conditions, string(gwv1.GatewayClassConditionStatusAccepted)); no != "" {
			out = append(out, no)
		}
	}
	for _, key := range sorted(v.result.Statuses.Gateways) {
		st := v.result.Statuses.Gateways[key]
		out = append(out, control.GatewayNotServed("Gateway "+key.String(), &st)...)
		if _, problem := l.world.Envoy(key); problem != "" {
			out = append(out, fmt.Sprintf("Gateway %s: %s", key, problem))
		}
	}
	return append(out, l.world.NotReady()...)
}

func (l *Engine) gatewayStatus(v *view, key types.NamespacedName) control.GatewayStatus {
	obj, st := v.set.Gateways[key], v.result.Statuses.Gateways[key]
	out := control.DescribeGateway(obj, v.set.GatewayClasses[string(obj.Spec.GatewayClassName)], &st)
	for _, set := range sorted(v.result.Statuses.ListenerSets) {
		if obj := v.set.ListenerSets[set]; control.SetParent(obj) == key {
			st := v.result.Statuses.ListenerSets[set]
			out.AddSet(obj, &st)
		}
	}
	out.Envoy, _ = l.world.Envoy(key)
	return out
}

func policyStatus(v *view, name string) control.PolicyStatus {
	st := v.result.Statuses.Policies[name]
	out := control.DescribePolicy(v.set.Policies[name], &st)
	for _, i := range v.result.Issuers[name] {
		out.Issuers = append(out.Issuers, control.IssuerStatus{Name: i.Name, Keys: i.Keys, Error: i.Error, Offline: i.Offline, Stale: i.Stale})
	}
	return out
}
