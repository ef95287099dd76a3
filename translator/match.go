package translator

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// match is one match of a route with its defaults filled in.
type match struct {
	kind    gwv1.PathMatchType
	path    string
	method  string
	headers []gwv1.HTTPHeaderMatch
	query   []gwv1.HTTPQueryParamMatch
	grpc    *grpcMatch // of a GRPCRoute
	// invalid: Envoy would reject it, so it cannot even hold its place.
	invalid error
}

func readMatches(specs []gwv1.HTTPRouteMatch) []match {
	if len(specs) == 0 {
		specs = []gwv1.HTTPRouteMatch{{}}
	}
	out := make([]match, 0, len(specs))
	for _, spec := range specs {
		m := match{kind: gwv1.PathMatchPathPrefix, path: "/", headers: spec.Headers, query: spec.QueryParams}
		if p := spec.Path; p != nil {
			if p.Type != nil {
				m.kind = *p.Type
			}
			if p.Value != nil {
				m.path = *p.Value
			}
		}
		if spec.Method != nil {
			m.method = string(*spec.Method)
		}
		if m.invalid = checkMatch(spec); m.invalid == nil {
			m.invalid = m.envoy().ValidateAll()
		}
		out = append(out, m)
	}
	return out
}

// identity is what makes two matches the same.
func (m match) identity() any {
	return struct {
		Kind, Path, Method string
		Headers            []gwv1.HTTPHeaderMatch
		Query              []gwv1.HTTPQueryParamMatch
	}{string(m.kind), m.path, m.method, m.headers, m.query}
}

// catchAll reports whether the match covers every path.
func (m match) catchAll() bool {
	switch m.kind {
	case gwv1.PathMatchPathPrefix:
		return strings.Trim(m.path, "/") == ""
	case gwv1.PathMatchRegularExpression:
		re, err := regexp.Compile(`^(?:` + m.path + `)$`)
		// No regular expression of a narrow route fits both of these.
		if m.grpc != nil { // no name has more than letters, digits, dots and underscores
			return err != nil || re.MatchString("/a1.Z9_break/Glass") && re.MatchString("/Q7/x_y")
		}
		return err != nil || re.MatchString("/a1/Z9~breakglass") && re.MatchString("/q_0.7@-/x")
	}
	return false
}

// checkMatch refuses what would match on our own headers, and expressions that
// are none.
func checkMatch(spec gwv1.HTTPRouteMatch) error {
	if p := spec.Path; p != nil && p.Type != nil && *p.Type == gwv1.PathMatchRegularExpression {
		if err := checkRegex(deref(p.Value)); err != nil {
			return fmt.Errorf("path.value: %w", err)
		}
	}
	for j, h := range spec.Headers {
		if lock.Reserved(string(h.Name)) && !strings.EqualFold(string(h.Name), "host") {
			return fmt.Errorf("headers[%d].name: %q is reserved: match on another header", j, h.Name)
		}
		if deref(h.Type) == gwv1.HeaderMatchRegularExpression {
			if err := checkRegex(h.Value); err != nil {
				return fmt.Errorf("headers[%d].value: %w", j, err)
			}
		}
	}
	for j, q := range spec.QueryParams {
		if deref(q.Type) == gwv1.QueryParamMatchRegularExpression {
			if err := checkRegex(q.Value); err != nil {
				return fmt.Errorf("queryParams[%d].value: %w", j, err)
			}
		}
	}
	return nil
}

// maxRegexProgram bounds a regular expression as compiled, in instructions. It
// is far below the bound in Envoy's bootstrap, which counts a little differently.
const maxRegexProgram = 2000

// checkRegex accepts what Go's regexp accepts: it and Envoy's engine are both RE2.
func checkRegex(expr string) error {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return fmt.Errorf("not an RE2 regular expression: %w", err)
	}
	if class := unknownClass(expr); class != "" {
		return fmt.Errorf("the class %s is not known to every RE2: write it as [...] or with a general category such as \\p{L}", class)
	}
	if wide := wideRune.FindString(expr); wide != "" {
		return fmt.Errorf("%s is beyond one byte, and requests are matched byte by byte: leave it out", wide)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("not an RE2 regular expression: %w", err)
	}
	size := len(program.Inst)
	for _, inst := range program.Inst {
		size += len(inst.Rune) / 2 // a class of many ranges is many instructions in UTF-8
	}
	if size > maxRegexProgram {
		return fmt.Errorf("the regular expression is too large (%d instructions, at most %d): shorten it or split the rule", size, maxRegexProgram)
	}
	return nil
}

// wideRune is an escape of a character beyond one byte; Envoy's engine reads
// bytes and refuses it.
var wideRune = regexp.MustCompile(`\\x\{0*[1-9A-Fa-f][0-9A-Fa-f]{2,}\}`)

// unicodeClass is \p or \P with its name; the first alternative steps over what
// is escaped or is no class.
var unicodeClass = regexp.MustCompile(`\\(?:[^pP]|[pP](\{\^?([^}]*)\}|.))`)

// unknownClass finds a Unicode class beyond the general categories: Go knows
// more of them than Envoy's engine, which would refuse a whole hostname for one.
func unknownClass(expr string) string {
	const categories = " C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs "
	for _, m := range unicodeClass.FindAllStringSubmatch(expr, -1) {
		name := m[2]
		if m[1] == "" {
			continue
		}
		if m[1][0] != '{' {
			name = m[1]
		}
		if name == "" || !strings.Contains(categories, " "+name+" ") {
			return m[0]
		}
	}
	return ""
}

// envoy is the match as Envoy reads it.
func (m match) envoy() *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch m.kind {
	case gwv1.PathMatchExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.path}
	case gwv1.PathMatchRegularExpression:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.path)}
	default:
		if prefix := strings.TrimRight(m.path, "/"); prefix != "" {
			out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: prefix}
		} else {
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
		}
	}
	if m.grpc != nil {
		out.Grpc = &routev3.RouteMatch_GrpcRouteMatchOptions{} // by its content-type
	}
	if m.method != "" {
		out.Headers = append(out.Headers, headerMatcher(":method", exact(m.method)))
	}
	seen := map[string]bool{}
	for _, h := range m.headers {
		name := strings.ToLower(string(h.Name))
		if seen[name] {
			continue // only the first of equal names counts (Gateway API)
		}
		seen[name] = true
		value := exact(h.Value)
		if h.Type != nil && *h.Type == gwv1.HeaderMatchRegularExpression {
			value = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(h.Value)}}
		}
		out.Headers = append(out.Headers, headerMatcher(name, value))
	}
	for _, q := range m.firstQueries() {
		value := exact(q.Value)
		if q.Type != nil && *q.Type == gwv1.QueryParamMatchRegularExpression {
			value = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(q.Value)}}
		}
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name:                         string(q.Name),
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: value},
		})
	}
	return out
}

func (m match) firstQueries() []gwv1.HTTPQueryParamMatch {
	var out []gwv1.HTTPQueryParamMatch
	for _, q := range m.query {
		if !slices.ContainsFunc(out, func(o gwv1.HTTPQueryParamMatch) bool { return o.Name == q.Name }) {
			out = append(out, q)
		}
	}
	return out
}

func headerMatcher(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value}}
}

func exact(v string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v}}
}

func regex(expr string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: expr} }

// precedes orders matches as Gateway API does: exact path, then (ours: regular
// expression, then) the longest prefix, a method, more headers, more query
// parameters. Equal ones keep the order of their routes and rules.
func precedes(a, b match) int {
	if a.grpc != nil && b.grpc != nil {
		return cmp.Or(a.grpc.precedes(b.grpc), cmp.Compare(len(b.headers), len(a.headers)))
	}
	return cmp.Or(
		cmp.Compare(pathRank(a.kind), pathRank(b.kind)),
		cmp.Compare(b.pathLength(), a.pathLength()),
		cmp.Compare(absent(a.method), absent(b.method)),
		cmp.Compare(len(b.headers), len(a.headers)),
		cmp.Compare(len(b.query), len(a.query)),
	)
}

// pathLength: a slash at the end of a prefix says nothing.
func (m match) pathLength() int {
	if m.kind == gwv1.PathMatchPathPrefix {
		return len(strings.TrimRight(m.path, "/"))
	}
	return len(m.path)
}

func pathRank(kind gwv1.PathMatchType) int {
	switch kind {
	case gwv1.PathMatchExact:
		return 0
	case gwv1.PathMatchRegularExpression:
		return 1
	}
	return 2
}

func absent(method string) int {
	if method == "" {
		return 1
	}
	return 0
}
