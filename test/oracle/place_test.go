//go:build envoy

package oracle

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// This file says which rule a request belongs to: Gateway API, the comments of
// HTTPRouteSpec, HTTPRouteRule and ListenerSpec, and of this project that a rule
// which is not open keeps its place, that a host's own routes are all it has, and
// that regular expressions stand between exact paths and prefixes.

// place is a match of a rule in its place.
type place struct {
	route *route
	rule  *rule
	match match
	// index of the rule in its route, and of the match in its rule.
	at, in int
}

// hostOf is a request's host without its port, trailing dot and case.
func hostOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// covers reports whether a hostname, "*.example.test" or "" for all, covers a
// host or a narrower hostname. A wildcard stands for one label or more.
func covers(hostname, host string) bool {
	suffix, wildcard := strings.CutPrefix(hostname, "*")
	switch {
	case hostname == "" || hostname == host:
		return true
	case !wildcard || host == "":
		return false
	}
	rest := strings.TrimPrefix(host, "*")
	return strings.HasSuffix(rest, suffix) && len(rest) > len(suffix)
}

// narrower is the precedence among hostnames that all cover one host: exact ones
// first, then the longest.
func narrower(a, b string) int {
	exact := func(h string) int {
		if h == "" || h[0] == '*' {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(exact(a), exact(b)), cmp.Compare(len(a), len(b)))
}

// both is what two hostnames have in common; false if nothing.
func both(a, b string) (string, bool) {
	switch {
	case covers(a, b):
		return b, true
	case covers(b, a):
		return a, true
	}
	return "", false
}

// hostnames of a route on a listener.
func (r *route) hostnames(l *listener) []string {
	if !l.All && r.Namespace != gatewayNamespace || r.Section != "" && r.Section != l.Name {
		return nil
	}
	if len(r.Hosts) == 0 {
		return []string{l.Hostname}
	}
	var out []string
	for _, h := range r.Hosts {
		if common, some := both(l.Hostname, h); some && !slices.Contains(out, common) {
			out = append(out, common)
		}
	}
	return out
}

// find the rule that a request belongs to; nil: none, a 404.
func (w *world) find(q request) *place {
	host := hostOf(q.Host)
	var l *listener
	for i := range w.Listeners {
		c := &w.Listeners[i]
		if c.Port == q.Port && covers(c.Hostname, host) && (l == nil || narrower(c.Hostname, l.Hostname) > 0) {
			l = c
		}
	}
	if l == nil {
		return nil
	}
	// Only the routes with the narrowest hostname count.
	narrowest, routes := "", []*route(nil)
	for _, r := range w.Routes {
		for _, h := range r.hostnames(l) {
			if r.Deleted || !covers(h, host) {
				continue
			}
			if c := narrower(h, narrowest); len(routes) == 0 || c > 0 {
				narrowest, routes = h, []*route{r}
			} else if c == 0 {
				routes = append(routes, r)
			}
		}
	}
	var winner *place
	for _, r := range routes {
		for i := range r.Rules {
			for j, m := range r.Rules[i].Matches {
				p := &place{r, &r.Rules[i], m, i, j}
				if m.fits(q) && (winner == nil || p.before(winner)) {
					winner = p
				}
			}
		}
	}
	return winner
}

// before is the precedence among matches that all fit one request.
func (p *place) before(o *place) bool {
	rank := map[string]int{"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}
	without := func(method string) int {
		if method == "" {
			return 1
		}
		return 0
	}
	a, b := p.match, o.match
	return cmp.Or(
		cmp.Compare(rank[a.Kind], rank[b.Kind]),
		-cmp.Compare(len(a.Path), len(b.Path)),
		cmp.Compare(without(a.Method), without(b.Method)),
		-cmp.Compare(len(a.Headers), len(b.Headers)),
		-cmp.Compare(len(a.Queries), len(b.Queries)),
		// All files are of one age.
		cmp.Compare(p.route.Namespace+"/"+p.route.Name, o.route.Namespace+"/"+o.route.Name),
		cmp.Compare(p.at, o.at),
		cmp.Compare(p.in, o.in),
	) < 0
}

func (m match) fits(q request) bool {
	if m.Method != "" && m.Method != q.Method || !m.fitsPath(q.path()) {
		return false
	}
	for _, h := range m.Headers {
		if v, some := q.Header[h.Name]; !some || !h.fits(v) {
			return false
		}
	}
	// Envoy and Gateway API compare query parameters as they are written.
	query, err := url.ParseQuery(q.Query)
	for _, p := range m.Queries {
		if err != nil || !query.Has(p.Name) || !p.fits(query.Get(p.Name)) {
			return false
		}
	}
	return true
}

func (m match) fitsPath(path string) bool {
	switch m.Kind {
	case "Exact":
		return path == m.Path
	case "RegularExpression":
		return fitsAll(m.Path, path)
	}
	// "a trailing / is ignored", and a prefix is made of whole elements.
	prefix := strings.TrimSuffix(m.Path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func (p pair) fits(value string) bool {
	if p.Regex {
		return fitsAll(p.Value, value)
	}
	return p.Value == value
}

func fitsAll(expr, s string) bool { return regexp.MustCompile(`^(?:` + expr + `)$`).MatchString(s) }

// path is the request's path as the policy sees it: normalised, RFC 3986 sections
// 6.2.2 and 5.2.4, with slashes merged.
func (q request) path() string {
	var plain strings.Builder
	for i := 0; i < len(q.Path); i++ {
		c := q.Path[i]
		if c == '%' && i+2 < len(q.Path) {
			if v, err := url.PathUnescape(q.Path[i : i+3]); err == nil && unreserved(v[0]) {
				plain.WriteString(v)
				i += 2
				continue
			}
		}
		plain.WriteByte(c)
	}
	// Dots first: an empty segment is one that ".." takes away.
	var out []string
	segments := strings.Split(strings.TrimPrefix(plain.String(), "/"), "/")
	for i, s := range segments {
		// "..;x" is a ".." too, as the servers read it for which ";" is forbidden.
		dots, _, _ := strings.Cut(s, ";")
		switch {
		case dots == "..":
			out = out[:max(len(out)-1, 0)]
		case dots != ".":
			out = append(out, s)
			continue
		}
		if i == len(segments)-1 {
			out = append(out, "")
		}
	}
	merged := "/" + strings.Join(out, "/")
	for strings.Contains(merged, "//") {
		merged = strings.ReplaceAll(merged, "//", "/")
	}
	return merged
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// forbidden reports whether the path is one that is refused as it is, whatever it
// leads to: backends disagree about it.
func (q request) forbidden() bool {
	p := strings.ToLower(q.Path)
	return strings.Contains(q.path(), ";") || strings.Contains(p, "%2f") || strings.Contains(p, "%5c")
}

// rewritten are the paths that the backend may see: the table of HTTPPathModifier.
func (p *place) rewritten(path string) []string {
	rw := p.rule.Rewrite
	switch {
	case rw == nil:
		return []string{path}
	case !rw.Prefix:
		return []string{rw.To}
	}
	rest := strings.TrimPrefix(path, strings.TrimSuffix(p.match.Path, "/"))
	out := []string{cmp.Or(strings.TrimSuffix(rw.To, "/")+rest, "/")}
	return out
}
