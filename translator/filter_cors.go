package translator

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// defaultMaxAge of the answer to a preflight, in seconds (Gateway API,
// HTTPCORSFilter.maxAge).
const defaultMaxAge = 5

// corsPolicy is what browsers are told. translator/lock says when.
func corsPolicy(spec *gwv1.HTTPCORSFilter) (*corsv3.CorsPolicy, error) {
	if spec == nil {
		return nil, fmt.Errorf("cors: missing")
	}
	credentials := deref(spec.AllowCredentials)
	p := &corsv3.CorsPolicy{
		AllowMethods:  join(spec.AllowMethods),
		AllowHeaders:  join(spec.AllowHeaders),
		ExposeHeaders: join(spec.ExposeHeaders),
		MaxAge:        strconv.Itoa(int(max(spec.MaxAge, 0))),
	}
	if spec.MaxAge <= 0 {
		p.MaxAge = strconv.Itoa(defaultMaxAge)
	}
	if credentials {
		p.AllowCredentials = wrapperspb.Bool(true)
		if slices.Contains(spec.ExposeHeaders, "*") {
			// Browsers would take it for the name of a header, and a gateway must not say it.
			p.ExposeHeaders = join(slices.DeleteFunc(slices.Clone(spec.ExposeHeaders), func(h gwv1.HTTPHeaderName) bool { return h == "*" }))
		}
	}
	for _, o := range spec.AllowOrigins {
		p.AllowOriginStringMatch = append(p.AllowOriginStringMatch, originMatcher(string(o)))
	}
	return p, nil
}

// originMatcher: "*" is every origin, and within a host any number of labels.
// Browsers write scheme and host in lower case, and leave out a port that goes
// without saying.
func originMatcher(origin string) *matcherv3.StringMatcher {
	if origin == "*" {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(".*")}}
	}
	origin = strings.ToLower(origin)
	if scheme, rest, ok := strings.Cut(origin, "://"); ok {
		standard := map[string]string{"http": ":80", "https": ":443"}[scheme]
		origin = scheme + "://" + strings.TrimSuffix(rest, standard)
	}
	before, after, wildcard := strings.Cut(origin, "*")
	if !wildcard {
		return exact(origin)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(regexp.QuoteMeta(before) + anyHost + regexp.QuoteMeta(after))}}
}

// anyHost is any number of labels, or an address.
const anyHost = `(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])`

func join[S ~string](list []S) string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ",")
}
