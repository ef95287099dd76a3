package translator

import (
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// rewriteTo applies URLRewrite to a forwarding action.
func (f filters) rewriteTo(a *routev3.RouteAction, m match) {
	if f.rewrite == nil {
		return
	}
	if h := f.rewrite.Hostname; h != nil {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: string(*h)}
	}
	p := f.rewrite.Path
	if p == nil {
		return
	}
	switch {
	case p.Type == gwv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
		a.RegexRewrite = wholePath(*p.ReplaceFullPath)
	case p.Type == gwv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
		a.PrefixRewrite, a.RegexRewrite = prefixPath(m, *p.ReplacePrefixMatch)
	}
}

// wholePath replaces the path; Envoy keeps the query apart.
func wholePath(path string) *matcherv3.RegexMatchAndSubstitute {
	if path == "" {
		path = "/"
	}
	return &matcherv3.RegexMatchAndSubstitute{Pattern: regex(`^/.*$`), Substitution: escapeSubstitution(path)}
}

// prefixPath replaces the matched prefix on whole path elements: /foo by /bar
// makes /foo/x into /bar/x and /foo into /bar, and by / makes them /x, never //x,
// and /.
//
// It is one of the two that Envoy knows.
func prefixPath(m match, replacement string) (plain string, expr *matcherv3.RegexMatchAndSubstitute) {
	prefix := strings.TrimRight(m.path, "/")
	replacement = strings.TrimRight(replacement, "/")
	if prefix != "" && replacement != "" {
		return replacement, nil // the prefix is matched without a slash at its end
	}
	return "", &matcherv3.RegexMatchAndSubstitute{
		Pattern:      regex(`^` + regexp.QuoteMeta(prefix) + `/*(.*)$`),
		Substitution: escapeSubstitution(replacement) + `/\1`,
	}
}

// escapeSubstitution keeps a backslash from naming a capture group.
func escapeSubstitution(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }
