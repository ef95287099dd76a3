package main

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// subject is the policy and the role that a token is checked against.
func (o *tokenCheckOptions) subject(set *source.Set, args []string) (*v1alpha1.EmergencyPolicy, string, error) {
	role := o.role
	var candidates []string
	if len(args) > 0 {
		key, route, err := o.findRoute(set, args[0])
		if err != nil {
			return nil, "", err
		}
		label := route.Labels[v1alpha1.RoleLabel]
		switch {
		case role == "" && label == "":
			return nil, "", usagef("%s has no label %s: name the role with --role", key, v1alpha1.RoleLabel)
		case role == "":
			role = label
		case label != "" && label != role:
			return nil, "", fmt.Errorf("%s is labelled %s=%s: only that role opens it, and %s never does", key, v1alpha1.RoleLabel, label, role)
		}
		if candidates = routePolicies(set, route); len(candidates) == 0 && o.policy == "" {
			return nil, "", fmt.Errorf("%s is attached to no Gateway whose class names an EmergencyPolicy that is there: correct its parentRefs, or choose a policy with --policy", key)
		}
	} else {
		for name := range set.Policies {
			candidates = append(candidates, name)
		}
	}
	if role == "" {
		return nil, "", usagef("name the role with --role, or a ROUTE that has one")
	}
	policy, err := o.choosePolicy(set, candidates)
	return policy, role, err
}

func (o *tokenCheckOptions) choosePolicy(set *source.Set, candidates []string) (*v1alpha1.EmergencyPolicy, error) {
	name := o.policy
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	switch {
	case name != "" && set.Policies[name] == nil:
		return nil, fmt.Errorf("there is no EmergencyPolicy %q in %s", name, o.where)
	case name != "":
		return set.Policies[name], nil
	case len(candidates) == 0:
		return nil, fmt.Errorf("there is no EmergencyPolicy in %s", o.where)
	case len(candidates) > 1:
		return nil, usagef("there are EmergencyPolicies %s: choose one with --policy", strings.Join(candidates, ", "))
	}
	return set.Policies[candidates[0]], nil
}

// findRoute takes NAME, too, where it is the only one.
func (o *tokenCheckOptions) findRoute(set *source.Set, arg string) (key activation.RouteKey, route *gwv1.HTTPRoute, err error) {
	t, err := parseTarget(arg)
	if err != nil {
		return key, nil, err
	}
	var found []activation.RouteKey
	for k := range translator.RoutesOf(&set.Objects) {
		if k.Kind == t.kind && k.Name == t.name && (t.namespace == "" || k.Namespace == t.namespace) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return key, nil, fmt.Errorf("there is no %s %q in %s", t.kind, arg, o.where)
	case 1:
		return found[0], translator.RouteOf(&set.Objects, found[0]), nil
	}
	return key, nil, usagef("several namespaces have the %s %q: write NAMESPACE/NAME", t.kind, arg)
}

// routePolicies are the policies of the classes of the Gateways that a route
// names as its parents.
func routePolicies(set *source.Set, route *gwv1.HTTPRoute) []string {
	var names []string
	for _, ref := range route.Spec.ParentRefs {
		key := translator.Named(route.Namespace, ref.Namespace, ref.Name)
		switch {
		case ref.Kind == nil || *ref.Kind == "Gateway":
		case *ref.Kind == "ListenerSet" && set.ListenerSets[key] != nil:
			key = control.SetParent(set.ListenerSets[key])
		default:
			continue
		}
		gateway := set.Gateways[key]
		if gateway == nil {
			continue
		}
		class := set.GatewayClasses[string(gateway.Spec.GatewayClassName)]
		if class == nil || class.Spec.ControllerName != v1alpha1.ControllerName || class.Spec.ParametersRef == nil {
			continue
		}
		if p := class.Spec.ParametersRef; p.Kind == "EmergencyPolicy" && set.Policies[p.Name] != nil {
			names = append(names, p.Name)
		}
	}
	return names
}
