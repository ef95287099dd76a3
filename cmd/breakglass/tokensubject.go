package main

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// subject is the policy and the role that a token is checked against.
func (o *tokenCheckOptions) subject(set *source.Set, args []string) (*v1alpha1.EmergencyPolicy, string, error) {
	role := o.role
	var candidates []string
	if len(args) > 0 {
		route, err := o.findRoute(set, args[0])
		if err != nil {
			return nil, "", err
		}
		label := route.Labels[v1alpha1.RoleLabel]
		switch {
		case role == "" && label == "":
			return nil, "", usagef("HTTPRoute %s/%s has no label %s: name the role with --role", route.Namespace, route.Name, v1alpha1.RoleLabel)
		case role == "":
			role = label
		case label != "" && label != role:
			return nil, "", fmt.Errorf("HTTPRoute %s/%s is labelled %s=%s: only that role opens it, and %s never does", route.Namespace, route.Name, v1alpha1.RoleLabel, label, role)
		}
		if candidates = routePolicies(set, route); len(candidates) == 0 && o.policy == "" {
			return nil, "", fmt.Errorf("HTTPRoute %s/%s is attached to no Gateway whose class names an EmergencyPolicy that is there: correct its parentRefs, or choose a policy with --policy", route.Namespace, route.Name)
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
func (o *tokenCheckOptions) findRoute(set *source.Set, arg string) (*gwv1.HTTPRoute, error) {
	t, err := parseTarget(arg)
	if err != nil {
		return nil, err
	}
	var found []*gwv1.HTTPRoute
	for key, route := range set.HTTPRoutes {
		if key.Name == t.name && (t.namespace == "" || key.Namespace == t.namespace) {
			found = append(found, route)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no HTTPRoute %q in %s", arg, o.where)
	case 1:
		return found[0], nil
	}
	return nil, usagef("several namespaces have an HTTPRoute %q: write NAMESPACE/NAME", arg)
}

// routePolicies are the policies of the classes of the Gateways that a route
// names as its parents.
func routePolicies(set *source.Set, route *gwv1.HTTPRoute) []string {
	var names []string
	for _, ref := range route.Spec.ParentRefs {
		key := types.NamespacedName{Namespace: route.Namespace, Name: string(ref.Name)}
		if ref.Namespace != nil {
			key.Namespace = string(*ref.Namespace)
		}
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
