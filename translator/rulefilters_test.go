package translator

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func headerFilter(set, add, remove string) headerEdits {
	spec := &gwv1.HTTPHeaderFilter{}
	list := func(text string) (out []gwv1.HTTPHeader) {
		for kv := range strings.FieldsSeq(text) {
			k, v, _ := strings.Cut(kv, "=")
			out = append(out, gwv1.HTTPHeader{Name: gwv1.HTTPHeaderName(k), Value: v})
		}
		return out
	}
	spec.Set, spec.Add, spec.Remove = list(set), list(add), strings.Fields(remove)
	edits, err := headerModifier("f", spec)
	if err != nil {
		panic(err)
	}
	return edits
}

// Envoy removes, then overwrites, then adds. Whatever comes after what, the backend
// must get what the filters say in their order.
func TestHeaderFiltersOfARuleAndThenOfItsBackend(t *testing.T) {
	for name, c := range map[string]struct {
		rule, backend headerEdits
		want          string
	}{
		"the backend sets what the rule added":   {headerFilter("", "X=rule", ""), headerFilter("x=backend", "", ""), "backend"},
		"the backend adds to what the rule set":  {headerFilter("X=rule", "", ""), headerFilter("", "X=backend", ""), "rule,backend"},
		"both add":                               {headerFilter("", "X=rule", ""), headerFilter("", "X=backend", ""), "client,rule,backend"},
		"the backend removes what the rule set":  {headerFilter("X=rule", "", ""), headerFilter("", "", "x"), ""},
		"the backend sets what the rule removed": {headerFilter("", "", "X"), headerFilter("X=backend", "", ""), "backend"},
		"the backend adds to what was removed":   {headerFilter("", "", "X"), headerFilter("", "X=backend", ""), "backend"},
		"one filter does all":                    {headerFilter("X=set", "X=add", "X"), nil, "set,add"},
		"nothing":                                {nil, nil, "client"},
		"a percent sign":                         {headerFilter("X=%REQ(x)%", "", ""), nil, "%REQ(x)%"},
	} {
		h := http.Header{"X": {"client"}}
		add, remove := c.rule.then(c.backend).envoy()
		editHeaders(h, add, remove)
		if got := strings.Join(h.Values("X"), ","); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAMirrorGetsItsShare(t *testing.T) {
	share := func(n uint32, d typev3.FractionalPercent_DenominatorType) *typev3.FractionalPercent {
		return &typev3.FractionalPercent{Numerator: n, Denominator: d}
	}
	for name, c := range map[string]struct {
		spec gwv1.HTTPRequestMirrorFilter
		want *typev3.FractionalPercent
	}{
		"all":            {gwv1.HTTPRequestMirrorFilter{}, share(100, typev3.FractionalPercent_HUNDRED)},
		"percent":        {gwv1.HTTPRequestMirrorFilter{Percent: ptr(int32(35))}, share(35, typev3.FractionalPercent_HUNDRED)},
		"none":           {gwv1.HTTPRequestMirrorFilter{Percent: ptr(int32(0))}, share(0, typev3.FractionalPercent_HUNDRED)},
		"hundredths":     {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 5}}, share(5, typev3.FractionalPercent_HUNDRED)},
		"a half":         {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 25, Denominator: ptr(int32(50))}}, share(500_000, typev3.FractionalPercent_MILLION)},
		"two thirds":     {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 2, Denominator: ptr(int32(3))}}, share(666_667, typev3.FractionalPercent_MILLION)},
		"large":          {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 1 << 30, Denominator: ptr(int32(1 << 30))}}, share(1_000_000, typev3.FractionalPercent_MILLION)},
		"more than all":  {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 4, Denominator: ptr(int32(3))}}, nil},
		"of nothing":     {gwv1.HTTPRequestMirrorFilter{Fraction: &gwv1.Fraction{Numerator: 0, Denominator: ptr(int32(0))}}, nil},
		"less than none": {gwv1.HTTPRequestMirrorFilter{Percent: ptr(int32(-1))}, nil},
		"both":           {gwv1.HTTPRequestMirrorFilter{Percent: ptr(int32(1)), Fraction: &gwv1.Fraction{Numerator: 1}}, nil},
	} {
		got, err := mirrorShare(&c.spec)
		if (err != nil) != (c.want == nil) || !reflect.DeepEqual(got.GetNumerator(), c.want.GetNumerator()) || got.GetDenominator() != c.want.GetDenominator() {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func TestAnOriginIsAllowedAsBrowsersWriteIt(t *testing.T) {
	for allowed, origins := range map[string]struct{ yes, no []string }{
		"*":                  {[]string{"https://a.test", "http://b:1", "null"}, nil},
		"https://a.test":     {[]string{"https://a.test"}, []string{"http://a.test", "https://a.test:444", "https://xa.test", "https://a.test.evil"}},
		"https://A.test:443": {[]string{"https://a.test"}, []string{"https://a.test:80"}},
		"http://a.test:80":   {[]string{"http://a.test"}, nil},
		"http://a.test:443":  {[]string{"http://a.test:443"}, []string{"http://a.test"}},
		"https://*.a.test":   {[]string{"https://x.a.test", "https://x.y.a.test"}, []string{"https://a.test", "https://xa.test", "https://evil/.a.test", "https://x.a.test:8443", "https://xxaxtest"}},
		"https://*":          {[]string{"https://x", "https://[::1]"}, []string{"http://x", "https://x:8443", "null"}},
		"https://*:8443":     {[]string{"https://x.y:8443"}, []string{"https://x", "https://x:18443"}},
		"http://*.a.test:80": {[]string{"http://x.a.test"}, []string{"http://x.a.test:8080"}},
	} {
		m := originMatcher(allowed)
		for _, o := range origins.yes {
			if !fits(m, o) {
				t.Errorf("%s does not allow %s", allowed, o)
			}
		}
		for _, o := range origins.no {
			if fits(m, o) {
				t.Errorf("%s allows %s", allowed, o)
			}
		}
	}
}

func TestARequestIsTriedAgainAsTheRuleSays(t *testing.T) {
	duration := func(d string) *gwv1.Duration { return ptr(gwv1.Duration(d)) }
	for name, c := range map[string]struct {
		retry    *gwv1.HTTPRouteRetry
		timeouts *gwv1.HTTPRouteTimeouts
		want     string // of the policy, as JSON of what matters
		request  string
	}{
		"nothing":                 {nil, nil, "<nil>", "0s"},
		"a timeout of each try":   {nil, &gwv1.HTTPRouteTimeouts{BackendRequest: duration("2s")}, "try 2s", "0s"},
		"both timeouts":           {nil, &gwv1.HTTPRouteTimeouts{Request: duration("5s"), BackendRequest: duration("2s")}, "try 2s", "5s"},
		"timeouts that are none":  {nil, &gwv1.HTTPRouteTimeouts{Request: duration("0s"), BackendRequest: duration("0s")}, "<nil>", "0s"},
		"codes and attempts":      {&gwv1.HTTPRouteRetry{Codes: []gwv1.HTTPRouteRetryStatusCode{500, 503}, Attempts: ptr(3)}, nil, "on reset,retriable-status-codes [500 503] 3", "0s"},
		"once if nothing is said": {&gwv1.HTTPRouteRetry{}, nil, "on reset,retriable-status-codes [] 1", "0s"},
		"backoff":                 {&gwv1.HTTPRouteRetry{Backoff: duration("100ms")}, &gwv1.HTTPRouteTimeouts{BackendRequest: duration("1s")}, "try 1s on reset,retriable-status-codes [] 1 after 100ms", "0s"},
		"a backoff of none":       {&gwv1.HTTPRouteRetry{Backoff: duration("0s")}, nil, "on reset,retriable-status-codes [] 1 after 1ms", "0s"},
	} {
		ru := &rule{spec: &gwv1.HTTPRouteRule{Retry: c.retry, Timeouts: c.timeouts}}
		if got := describeRetry(ru.retryPolicy()); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := ru.timeout().AsDuration().String(); got != c.request {
			t.Errorf("%s: timeout %s, want %s", name, got, c.request)
		}
		if p := ru.retryPolicy(); p != nil {
			if err := p.ValidateAll(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, bad := range []*gwv1.HTTPRouteRetry{{Attempts: ptr(0)}, {Codes: []gwv1.HTTPRouteRetryStatusCode{200}}} {
		if checkRetry(bad) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func describeRetry(p *routev3.RetryPolicy) string {
	if p == nil {
		return "<nil>"
	}
	var out []string
	if p.GetPerTryTimeout() != nil {
		out = append(out, "try "+p.GetPerTryTimeout().AsDuration().String())
	}
	if p.GetRetryOn() != "" {
		out = append(out, fmt.Sprintf("on %s %v %d", p.GetRetryOn(), p.GetRetriableStatusCodes(), p.GetNumRetries().GetValue()))
	}
	if p.GetRetryBackOff() != nil {
		out = append(out, "after "+p.GetRetryBackOff().GetBaseInterval().AsDuration().String())
	}
	return strings.Join(out, " ")
}
