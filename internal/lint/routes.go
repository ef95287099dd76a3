package lint

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

var routeRules = []Rule{
	{ID: "BG010", Name: "wildcard-hostname", Severity: Warning, Summary: "A route serves wildcard hostnames, or all of a listener's.",
		Remedy: "name the exact hostnames that an incident needs", check: eachRoute(wildcardHostname)},
	{ID: "BG011", Name: "catch-all-path", Severity: Warning, Summary: "A match covers every path.",
		Remedy: "name the paths that an incident needs", check: eachMatch(catchAllPath)},
	{ID: "BG012", Name: "regex-path", Severity: Warning, Summary: "A path is matched by a regular expression, which is easy to read too narrowly.",
		Remedy: "use Exact or PathPrefix, one match per path", check: eachMatch(regexPath)},
	{ID: "BG013", Name: "any-method", Severity: Warning, Summary: "A match names no method, so that reading includes deleting.",
		Remedy: "name the method, one match per method", check: eachMatch(anyMethod)},
	{ID: "BG014", Name: "no-role-label", Severity: Warning, Summary: "A route without the label breakglass.dev/role may be opened by every role that covers it.",
		Remedy: "add the label breakglass.dev/role: ROLE", check: eachRoute(noRoleLabel)},
	{ID: "BG015", Name: "rewrite-drops-path", Severity: Warning, Summary: "A rewrite replaces the matched prefix by the root or by one above it, so that the backend sees paths nobody reviewed.",
		Remedy: "rewrite to a prefix as narrow as the one that is matched", check: eachRule(rewriteDropsPath)},
	{ID: "BG016", Name: "shadowed-match", Severity: Warning, Summary: "Two rules have the same match on the same hostname, so that one is never reached.",
		Remedy: "remove one of the two, or tell them apart", check: shadowedMatches},
	{ID: "BG017", Name: "also-elsewhere", Severity: Error, Summary: "A route is attached to an emergency Gateway and to another Gateway, which serves it all the time and without any lock.",
		Remedy: "make a route of its own for the emergency Gateway", check: eachRoute(alsoElsewhere)},
	{ID: "BG018", Name: "nobody-can-open", Severity: Error, Summary: "No role may open a route: its label, or the namespaces and hostnames of the roles, keep all out.",
		Remedy: "correct the label breakglass.dev/role of the route, or hostnames and namespaces of the role", check: eachRoute(nobodyCanOpen)},
	{ID: "BG019", Name: "pointless-timeout", Severity: Info, Summary: "A timeout is longer than any window of the route, so that the deadline cuts what it would allow.",
		Remedy: "shorten timeouts.request, or lengthen the role's maxDuration on purpose", check: eachRule(pointlessTimeout)},
}

func routeKey(rt *posture.Route) source.ObjectKey {
	return objectKey(rt.Key.Kind, rt.Key.NamespacedName)
}

func eachRoute(check func(*run, *posture.Route)) func(*run) {
	return func(r *run) {
		for _, rt := range r.Routes {
			check(r, rt)
		}
	}
}

func eachRule(check func(r *run, rt *posture.Route, field string, rule *gwv1.HTTPRouteRule)) func(*run) {
	return eachRoute(func(r *run, rt *posture.Route) {
		for i := range rt.Object.Spec.Rules {
			check(r, rt, fmt.Sprintf("spec.rules[%d]", i), &rt.Object.Spec.Rules[i])
		}
	})
}

func eachMatch(check func(r *run, rt *posture.Route, field string, m gwv1.HTTPRouteMatch)) func(*run) {
	return eachRule(func(r *run, rt *posture.Route, field string, rule *gwv1.HTTPRouteRule) {
		for j, m := range rule.Matches {
			check(r, rt, fmt.Sprintf("%s.matches[%d]", field, j), m)
		}
	})
}

func wildcardHostname(r *run, rt *posture.Route) {
	if len(rt.Object.Spec.Hostnames) == 0 {
		r.add(routeKey(rt), "spec.hostnames", "names no hostname, so that it serves all of its listeners'")
	}
	for i, h := range rt.Object.Spec.Hostnames {
		if strings.HasPrefix(string(h), "*") {
			r.add(routeKey(rt), fmt.Sprintf("spec.hostnames[%d]", i), "%s is a wildcard", h)
		}
	}
}

// path of a match, as Gateway API defaults it.
func path(m gwv1.HTTPRouteMatch) (gwv1.PathMatchType, string) {
	kind, value := gwv1.PathMatchPathPrefix, "/"
	if m.Path != nil {
		if m.Path.Type != nil {
			kind = *m.Path.Type
		}
		if m.Path.Value != nil {
			value = *m.Path.Value
		}
	}
	return kind, value
}

func isGRPC(rt *posture.Route) bool { return rt.Key.Kind == v1alpha1.KindGRPCRoute }

// pathField is where a match says the path: of a GRPCRoute it is /SERVICE/METHOD.
func pathField(rt *posture.Route) string {
	if isGRPC(rt) {
		return ".method"
	}
	return ".path"
}

func catchAllPath(r *run, rt *posture.Route, field string, m gwv1.HTTPRouteMatch) {
	kind, value := path(m)
	all := kind == gwv1.PathMatchPathPrefix && strings.Trim(value, "/") == ""
	if kind == gwv1.PathMatchRegularExpression {
		re, err := regexp.Compile(`^(?:` + value + `)$`)
		// No expression of a narrow route fits both of these. Names of gRPC have no more
		// than letters, digits, dots and underscores.
		all = err == nil && isGRPC(rt) && re.MatchString("/a1.Z9_break/Glass") && re.MatchString("/Q7/x_y") ||
			err == nil && re.MatchString("/a1/Z9~breakglass") && re.MatchString("/q_0.7@-/x")
	}
	if all {
		r.add(routeKey(rt), field+pathField(rt), "%s covers every path", value)
	}
}

func regexPath(r *run, rt *posture.Route, field string, m gwv1.HTTPRouteMatch) {
	if kind, value := path(m); kind == gwv1.PathMatchRegularExpression {
		r.add(routeKey(rt), field+pathField(rt), "%s is a regular expression", value)
	}
}

func anyMethod(r *run, rt *posture.Route, field string, m gwv1.HTTPRouteMatch) {
	if m.Method == nil {
		_, value := path(m)
		r.add(routeKey(rt), field, "any method of %s is let through", value)
	}
}

func noRoleLabel(r *run, rt *posture.Route) {
	if rt.Role == "" {
		r.add(routeKey(rt), "metadata.labels", "has no role of its own: %s may open it", roleNames(rt))
	}
}

func roleNames(rt *posture.Route) string {
	var names []string
	for _, o := range rt.Openers {
		names = append(names, o.Role.Name)
	}
	if len(names) == 0 {
		return "no role now, and any that is added later,"
	}
	return strings.Join(names, ", ")
}

func rewriteDropsPath(r *run, rt *posture.Route, field string, rule *gwv1.HTTPRouteRule) {
	for i, f := range rule.Filters {
		if f.URLRewrite == nil || f.URLRewrite.Path == nil || f.URLRewrite.Path.ReplacePrefixMatch == nil {
			continue
		}
		to := strings.TrimRight(*f.URLRewrite.Path.ReplacePrefixMatch, "/")
		for _, m := range rule.Matches {
			kind, from := path(m)
			from = strings.TrimRight(from, "/")
			if kind == gwv1.PathMatchPathPrefix && from != "" && from != to && strings.HasPrefix(from+"/", to+"/") {
				r.add(routeKey(rt), fmt.Sprintf("%s.filters[%d].urlRewrite.path", field, i), "what is below %s reaches the backend below %s/, which holds more than was matched", from, to)
			}
		}
	}
}

func shadowedMatches(r *run) {
	first := map[string]string{}
	for _, rt := range r.Routes {
		for i, rule := range rt.Object.Spec.Rules {
			for j, m := range rule.Matches {
				here := fmt.Sprintf("spec.rules[%d].matches[%d]", i, j)
				r.shadowed(first, rt, here, m)
			}
		}
	}
}

func (r *run) shadowed(first map[string]string, rt *posture.Route, field string, m gwv1.HTTPRouteMatch) {
	for _, p := range rt.Places {
		id := fmt.Sprint(p.Gateway.Key, " ", p.URL(), " ", matchText(m))
		other, taken := first[id]
		if !taken {
			first[id] = fmt.Sprintf("%s %s", rt.Key, field)
			continue
		}
		r.add(routeKey(rt), field, "%s on %s is also matched by %s, which comes first", matchText(m), p.Host, other)
		return
	}
}

// matchText is a match in words; equal ones have equal words.
func matchText(m gwv1.HTTPRouteMatch) string {
	method := "any method of"
	if m.Method != nil {
		method = string(*m.Method)
	}
	kind, value := path(m)
	text := method + " " + value
	switch kind {
	case gwv1.PathMatchPathPrefix:
		text += " (prefix)"
	case gwv1.PathMatchRegularExpression:
		text += " (regular expression)"
	}
	for _, h := range m.Headers {
		text += fmt.Sprintf(", header %s=%s", h.Name, h.Value)
	}
	for _, q := range m.QueryParams {
		text += fmt.Sprintf(", query %s=%s", q.Name, q.Value)
	}
	return text
}

func alsoElsewhere(r *run, rt *posture.Route) {
	for i, ref := range rt.Object.Spec.ParentRefs {
		if g, _ := r.Parent(rt.Key.NamespacedName, ref); g == nil {
			r.add(routeKey(rt), fmt.Sprintf("spec.parentRefs[%d]", i), "%s is not an emergency Gateway: whatever it is, it serves this route without a window, a role or a record", ref.Name)
		}
	}
}

func nobodyCanOpen(r *run, rt *posture.Route) {
	if rt.Refused != "" || len(rt.Policies) != 1 || len(rt.Openers) > 0 {
		return // told by BG002, or somebody can
	}
	if rt.Role != "" {
		r.add(routeKey(rt), "metadata.labels[breakglass.dev/role]", "role %s is not in EmergencyPolicy %s, or may not open this namespace or hostname", rt.Role, rt.Policies[0].Name)
		return
	}
	r.add(routeKey(rt), "", "no role of EmergencyPolicy %s may open this namespace and these hostnames", rt.Policies[0].Name)
}

func pointlessTimeout(r *run, rt *posture.Route, field string, rule *gwv1.HTTPRouteRule) {
	if rule.Timeouts == nil || rule.Timeouts.Request == nil || len(rt.Openers) == 0 {
		return
	}
	asked, longest := v1alpha1.DurationOr(rule.Timeouts.Request, 0), time.Duration(0)
	for _, o := range rt.Openers {
		longest = max(longest, o.Longest)
	}
	if asked > longest {
		r.add(routeKey(rt), field+".timeouts.request", "%s is longer than the longest window, %s", posture.Short(asked), posture.Short(longest))
	}
}
