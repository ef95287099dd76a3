package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// target is a ROUTE of the command line. Namespace is empty if none was given.
type target struct {
	kind, namespace, name, section string
}

// is reports whether a route is what t names.
func (t target) is(r *control.RouteStatus) bool {
	return t.kind == cmp.Or(r.Kind, v1alpha1.KindHTTPRoute) && t.name == r.Name && (t.namespace == "" || t.namespace == r.Namespace)
}

// routeArg is a route as ROUTE has it.
func routeArg(kind, path string) string {
	if kind == v1alpha1.KindGRPCRoute {
		return "grpcroute/" + path
	}
	return path
}

// What Kubernetes says of a bad name is long; this is what it comes to.
const (
	labelForm = "use lower case letters, digits and '-'"
	nameForm  = "use lower case letters, digits, '-' and '.'"
)

const routeForms = "write NAME, NAMESPACE/NAME, httproute/NAME or grpcroute/NAME, with :RULE for one rule of it"

// parseTarget reads [httproute/|grpcroute/][NAMESPACE/]NAME[:RULE]. Without a kind it is
// an HTTPRoute, as in targetRefs.
func parseTarget(arg string) (target, error) {
	path, section, hasSection := strings.Cut(arg, ":")
	parts := strings.Split(path, "/")
	of := v1alpha1.KindHTTPRoute
	if kind := strings.ToLower(parts[0]); len(parts) > 1 {
		switch kind, _, _ := strings.Cut(kind, "."); kind {
		case "httproute", "httproutes":
			parts = parts[1:]
		case "grpcroute", "grpcroutes":
			parts, of = parts[1:], v1alpha1.KindGRPCRoute
		case "tcproute", "tcproutes", "tlsroute", "tlsroutes", "udproute", "udproutes":
			return target{}, usagef("route %q: only HTTPRoutes and GRPCRoutes can be opened", arg)
		}
	}
	t := target{kind: of, name: parts[len(parts)-1], section: section}
	switch len(parts) {
	case 1:
	case 2:
		t.namespace = parts[0]
		if len(validation.IsDNS1123Label(t.namespace)) > 0 {
			return target{}, usagef("route %q: %q is not the name of a namespace: %s", arg, t.namespace, routeForms)
		}
	default:
		return target{}, usagef("route %q: %s", arg, routeForms)
	}
	if len(validation.IsDNS1123Subdomain(t.name)) > 0 {
		return target{}, usagef("route %q: %q is not the name of a route: %s", arg, t.name, routeForms)
	}
	if hasSection {
		if len(validation.IsDNS1123Subdomain(section)) > 0 {
			return target{}, usagef("route %q: %q is not the name of a rule: %s", arg, section, routeForms)
		}
	}
	return t, nil
}

func (t target) reference() v1alpha1.TargetReference {
	ref := v1alpha1.TargetReference{Group: gwv1.GroupName, Kind: t.kind, Name: t.name}
	if t.section != "" {
		s := gwv1.SectionName(t.section)
		ref.SectionName = &s
	}
	return ref
}

// parseTargets reads all of them. The namespace is the one they agree on; empty
// if neither flag nor they name one.
func parseTargets(args []string, flag string) ([]target, string, error) {
	if flag != "" {
		if len(validation.IsDNS1123Label(flag)) > 0 {
			return nil, "", usagef("--namespace %q: %s", flag, labelForm)
		}
	}
	namespace := flag
	var targets []target
	for _, arg := range args {
		t, err := parseTarget(arg)
		if err != nil {
			return nil, "", err
		}
		switch {
		case t.namespace == "":
		case namespace == "":
			namespace = t.namespace
		case namespace != t.namespace:
			return nil, "", usagef("route %q is not in namespace %q: one activation opens routes of one namespace, so run activate once for each", arg, namespace)
		}
		if slices.ContainsFunc(targets, func(o target) bool { return o.kind == t.kind && o.name == t.name && o.section == t.section }) {
			return nil, "", usagef("route %q is named twice", arg)
		}
		targets = append(targets, t)
	}
	return targets, namespace, nil
}

// namespaceOf looks up in which namespace the targets are, when nobody said: at
// 3 a.m. the name of the route is what is on the wall.
func namespaceOf(ctx context.Context, c client.Client, targets []target) (string, error) {
	if namespace := c.Info().Namespace; namespace != "" {
		return namespace, nil
	}
	st, err := c.Status(ctx, "")
	if err != nil {
		return "", err
	}
	if len(st.Routes) == 0 && len(st.Problems) > 0 && c.Info().Cluster {
		return "", usagef("name the namespace of the routes with -n: they cannot be looked up, because %s: %s", st.Problems[0].Object, st.Problems[0].Message)
	}
	var common []string
	for i, t := range targets {
		var in []string
		for _, r := range st.Routes {
			if t.is(&r) && !slices.Contains(in, r.Namespace) {
				in = append(in, r.Namespace)
			}
		}
		if len(in) == 0 {
			return "", control.Errorf(control.NotFound, "there is no route %q: `breakglass status` lists them; to ask for one that is yet to come, name its namespace with -n", routeArg(t.kind, t.name))
		}
		if i == 0 {
			common = in
			continue
		}
		common = slices.DeleteFunc(common, func(ns string) bool { return !slices.Contains(in, ns) })
	}
	switch len(common) {
	case 0:
		return "", usagef("no namespace has all of these routes: one activation opens routes of one namespace, so run activate once for each")
	case 1:
		return common[0], nil
	}
	slices.Sort(common)
	return "", usagef("namespaces %s each have it: choose one with -n", strings.Join(common, ", "))
}

// parseName reads [NAMESPACE/]NAME of an activation.
func parseName(arg, namespace string) (types.NamespacedName, error) {
	key := types.NamespacedName{Namespace: namespace, Name: arg}
	if ns, name, ok := strings.Cut(arg, "/"); ok {
		if namespace != "" && namespace != ns {
			return key, usagef("%q is not in namespace %q", arg, namespace)
		}
		key = types.NamespacedName{Namespace: ns, Name: name}
		if len(validation.IsDNS1123Label(ns)) > 0 {
			return key, usagef("%q: namespace %q: %s", arg, ns, labelForm)
		}
	}
	if len(validation.IsDNS1123Subdomain(key.Name)) > 0 {
		return key, usagef("%q is not the name of an activation: %s", arg, nameForm)
	}
	return key, nil
}

// maxStem leaves room for the suffix within the 63 bytes of a DNS label.
const maxStem = 50

// newName makes a name that tells the incident and was not used before.
func newName(incident, route string, drill bool) string {
	stem := incident
	if stem == "" {
		stem = route
	}
	if drill {
		stem = "drill-" + strings.TrimPrefix(strings.ToLower(stem), "drill-")
	}
	var b strings.Builder
	for _, r := range strings.ToLower(stem) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxStem {
			break
		}
	}
	stem = strings.Trim(b.String(), "-")
	if stem == "" {
		stem = "activation"
	}
	return fmt.Sprintf("%s-%s", stem, suffix(6))
}

// suffix of letters that cannot be mistaken for each other, nor form words.
func suffix(n int) string {
	const letters = "bcdfghjkmnpqrstvwxz23456789"
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand ends the process instead
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}
