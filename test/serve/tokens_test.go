//go:build envoy

package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// forgery makes a token that must not get in.
type forgery func(w *testbed.World) string

// claims of a good token, with some put over them.
func claims(over testbed.Claims) forgery {
	return func(w *testbed.World) string {
		return w.Issuer.TokenWith(w.Issuer.Claims("db-oncall", over))
	}
}

// extended is a token of the right key whose header says more.
func extended(header map[string]any) forgery {
	return func(w *testbed.World) string {
		return w.Issuer.Key.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), header)
	}
}

// at is an instant from now in seconds since 1970, as a token has it.
func at(d time.Duration) func() int64 {
	return func() int64 { return time.Now().Add(d).Unix() }
}

// times of a token, made when the spec runs.
func times(iat, exp any) forgery {
	return func(w *testbed.World) string {
		over := testbed.Claims{"iat": iat, "exp": exp}
		for k, v := range over {
			if f, ok := v.(func() int64); ok {
				over[k] = f()
			}
		}
		return claims(over)(w)
	}
}

var _ = Describe("Tokens", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var good string
	host := testbed.Host("tok")

	BeforeAll(func() {
		w = shared
		other := testbed.NewIssuer("other")
		w.Policy.Issuers = append(w.Policy.Issuers, testbed.PolicyIssuer{Name: "other", URL: other.URL, JWKS: testbed.Inline(testbed.JWKS(other.Key))})
		w.Policy.Roles = append(w.Policy.Roles,
			testbed.Role{Name: "claims", Grants: `[{issuer: sso, claims: [{path: [realm_access, roles], anyOf: [oncall]}, {path: [team], anyOf: [core, db]}]},` +
				`{issuer: other, claims: [{path: [groups], anyOf: [others]}]}]`})
		w.WritePolicy()
		w.Write("tok.yaml",
			testbed.Route{Name: "tok"}.YAML(),
			testbed.Route{Name: "tok-claims", Role: "claims"}.YAML(),
			// On the same host, for nobody: paths must not lead there.
			testbed.Route{Name: "tok-admin", Role: "web", Hosts: []string{host}, Rules: []testbed.Rule{{
				Matches: []string{testbed.Match("GET", "PathPrefix", "/admin", "")},
			}}}.YAML(),
			testbed.Activation{Name: "tok", Routes: []string{"tok"}, Duration: "30m"}.YAML(),
			testbed.Activation{Name: "tok-claims", Role: "claims", Routes: []string{"tok-claims"}, Duration: "30m"}.YAML())
		otherIssuer = other
		w.AwaitPhase("tok", "Live")
		w.AwaitPhase("tok-claims", "Live")
		good = w.Token()
	})

	It("answers 401 to a request without a token", func() {
		Expect(w.H1().Get(host, "/api/none", "")).To(haveStatus(401))
		Expect(w.H1().Do(testbed.Request{Host: host, Path: "/api/none", Header: http.Header{"Authorization": {"Basic YTpi"}}})).To(haveStatus(401))
		Expect(w.Backend.Hits("/api/none")).To(BeZero())
	})

	It("lets the right token in, and the backend sees neither the token nor our headers nor Envoy's", func() {
		for _, c := range []*testbed.Client{w.H1(), w.H2C(), w.TLS1(), w.TLS2()} {
			r := c.Do(testbed.Request{Host: host, Path: "/api/right", Token: good, Header: http.Header{"X-Mine": {"kept"}}})
			Expect(r).To(haveStatus(200))
			var seen echo.Request
			Expect(json.Unmarshal([]byte(r.Body), &seen)).To(Succeed())
			Expect(seen.Host).To(Equal(host))
			Expect(seen.Headers).To(HaveKeyWithValue("X-Mine", []string{"kept"}))
			Expect(seen.Headers).NotTo(HaveKey("Authorization"))
			for name := range seen.Headers {
				Expect(strings.ToLower(name)).NotTo(Or(HavePrefix("x-envoy-"), HavePrefix("x-breakglass-")))
			}
			for name := range r.Header {
				Expect(strings.ToLower(name)).NotTo(Or(HavePrefix("x-envoy-"), HavePrefix("x-breakglass-")), "in the answer")
			}
		}
	})

	DescribeTable("refuses a forged token, and the backend never hears of it", func(forge forgery) {
		before := w.Backend.Hits("/api/forged")
		token := forge(w)
		for _, c := range []*testbed.Client{w.H1(), w.TLS2()} {
			Expect(c.Get(host, "/api/forged", token)).To(haveStatus(401, 403))
		}
		Expect(w.Backend.Hits("/api/forged")).To(Equal(before))
	},
		Entry("alg none", forgery(func(w *testbed.World) string { return testbed.Unsigned("none", w.Issuer.Claims("db-oncall", nil)) })),
		Entry("alg None", forgery(func(w *testbed.World) string { return testbed.Unsigned("None", w.Issuer.Claims("db-oncall", nil)) })),
		Entry("alg empty", forgery(func(w *testbed.World) string { return testbed.Unsigned("", w.Issuer.Claims("db-oncall", nil)) })),
		Entry("alg none in the header of a signed token", forgery(func(w *testbed.World) string {
			return testbed.WithHeader(w.Token(), map[string]any{"alg": "none"})
		})),
		Entry("HS256 with the PEM of the public key", forgery(func(w *testbed.World) string {
			return testbed.HMAC(w.Issuer.Key.ID, w.Issuer.Key.PEM(), w.Issuer.Claims("db-oncall", nil))
		})),
		Entry("HS256 with the JWKS as the secret", forgery(func(w *testbed.World) string {
			return testbed.HMAC(w.Issuer.Key.ID, []byte(testbed.JWKS(w.Issuer.Key)), w.Issuer.Claims("db-oncall", nil))
		})),
		Entry("HS256 with the key's thumbprint", forgery(func(w *testbed.World) string {
			return testbed.HMAC(w.Issuer.Key.ID, w.Issuer.Key.Thumbprint(), w.Issuer.Claims("db-oncall", nil))
		})),
		Entry("another key under the same kid", forgery(func(w *testbed.World) string {
			return testbed.NewKey(w.Issuer.Key.ID).Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil)
		})),
		Entry("another key, offered in the jwk header", forgery(func(w *testbed.World) string {
			k := testbed.NewKey("mine")
			return k.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), map[string]any{"jwk": k.Public()})
		})),
		Entry("another key, offered by jku", forgery(func(w *testbed.World) string {
			return testbed.NewKey("mine").Sign(w.Issuer.Claims("db-oncall", nil).JSON(), map[string]any{"jku": "https://evil.example.test/jwks"})
		})),
		Entry("the key of another issuer of the policy", forgery(func(w *testbed.World) string {
			return otherIssuer.Key.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil)
		})),
		Entry("another issuer's own token with this group", forgery(func(*testbed.World) string { return otherIssuer.Token("db-oncall") })),
		Entry("claims changed after signing", forgery(func(w *testbed.World) string {
			return testbed.WithClaims(w.Issuer.Token("nobody"), w.Issuer.Claims("db-oncall", nil))
		})),
		Entry("an empty signature", forgery(func(w *testbed.World) string { return testbed.WithSignature(w.Token(), nil) })),
		Entry("a signature of zeros (CVE-2022-21449)", forgery(func(w *testbed.World) string { return testbed.WithSignature(w.Token(), make([]byte, 64)) })),
		Entry("a wrong audience", claims(testbed.Claims{"aud": "grafana"})),
		Entry("a wrong audience in a list", claims(testbed.Claims{"aud": []string{"grafana", "breakglass2"}})),
		Entry("no audience", claims(testbed.Claims{"aud": nil})),
		Entry("a wrong issuer", claims(testbed.Claims{"iss": "https://evil.example.test"})),
		Entry("an issuer that only begins like ours", claims(testbed.Claims{"iss": "https://sso.example.test/"})),
		Entry("no issuer", claims(testbed.Claims{"iss": nil})),
		Entry("no exp", claims(testbed.Claims{"exp": nil})),
		Entry("exp passed", times(at(-10*time.Minute), at(-2*time.Second))),
		Entry("exp zero", times(at(0), 0)),
		Entry("exp negative", times(at(0), -1)),
		Entry("exp as a string", times(at(0), "4102444800")),
		Entry("exp beyond 64 bits", times(at(0), json.RawMessage("18446744073709551617"))),
		Entry("exp in the year 9999", times(at(0), 253402300799)),
		Entry("exp as a huge fraction", times(at(0), json.RawMessage("1e300"))),
		Entry("exp further off than maxTokenLifetime", times(at(0), at(2*time.Hour))),
		Entry("no iat", times(nil, at(5*time.Minute))),
		Entry("iat in the future", times(at(2*time.Minute), at(5*time.Minute))),
		Entry("iat ten years old with exp in five minutes", times(at(-10*365*24*time.Hour), at(5*time.Minute))),
		Entry("iat zero", times(0, at(5*time.Minute))),
		Entry("iat hugely negative, so that exp - iat overflows", times(json.RawMessage("-9223372036854775808"), at(5*time.Minute))),
		Entry("iat as a string", times("1", at(5*time.Minute))),
		Entry("nbf in the future", forgery(func(w *testbed.World) string {
			return claims(testbed.Claims{"nbf": time.Now().Add(5 * time.Minute).Unix()})(w)
		})),
		Entry("an extension that must be understood (RFC 7515 4.1.11)", extended(map[string]any{"crit": []string{"x"}, "x": 1})),
		Entry("an extension that must be understood, and is exp", extended(map[string]any{"crit": []string{"exp"}, "exp": 1})),
		Entry("a list of no extensions", extended(map[string]any{"crit": []string{}})),
		Entry("crit of null", extended(map[string]any{"crit": nil})),
		Entry("a payload that is said not to be encoded (RFC 7797)", extended(map[string]any{"b64": false, "crit": []string{"b64"}})),
		Entry("b64 without crit", extended(map[string]any{"b64": true})),
		Entry("no role claim", claims(testbed.Claims{"groups": nil})),
		Entry("another group", claims(testbed.Claims{"groups": []string{"web"}})),
		Entry("the group in another case", claims(testbed.Claims{"groups": []string{"DB-oncall"}})),
		Entry("a group that only begins like it", claims(testbed.Claims{"groups": []string{"db-oncall2", "db-onca", "db-oncall "}})),
		Entry("a number for a group", claims(testbed.Claims{"groups": 7})),
		Entry("true for a group", claims(testbed.Claims{"groups": true})),
		Entry("null for a group", claims(testbed.Claims{"groups": json.RawMessage("null")})),
		Entry("an empty list", claims(testbed.Claims{"groups": []string{}})),
		Entry("the group as a key of an object", claims(testbed.Claims{"groups": map[string]any{"db-oncall": true}})),
		Entry("the group one list too deep", claims(testbed.Claims{"groups": [][]string{{"db-oncall"}}})),
		Entry("the group in a list as text", claims(testbed.Claims{"groups": `["db-oncall"]`})),
		Entry("the group under another claim", claims(testbed.Claims{"groups": nil, "roles": []string{"db-oncall"}})),
		Entry("the name of the role for the group", claims(testbed.Claims{"groups": []string{"db"}})),
		Entry("no dots", forgery(func(*testbed.World) string { return "token" })),
		Entry("only dots", forgery(func(*testbed.World) string { return ".." })),
		Entry("one dot too many", forgery(func(w *testbed.World) string { return w.Token() + ".x" })),
	)

	DescribeTable("does not take a good token from anywhere but one Authorization header", func(r func(token string) testbed.Request) {
		req, before := r(good), w.Backend.Hits("/api/elsewhere")
		req.Host = host
		for _, c := range []*testbed.Client{w.H1(), w.TLS2()} {
			reply := c.Do(req)
			Expect(reply).To(haveStatus(400, 401, 403), "the backend saw %s", reply.Body)
		}
		Expect(w.Backend.Hits("/api/elsewhere")).To(Equal(before))
	},
		Entry("?access_token=", func(t string) testbed.Request { return testbed.Request{Path: "/api/elsewhere?access_token=" + t} }),
		Entry("?token=", func(t string) testbed.Request { return testbed.Request{Path: "/api/elsewhere?token=" + t} }),
		Entry("a cookie", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Cookie": {"access_token=" + t + "; token=" + t + "; Authorization=Bearer " + t}}}
		}),
		Entry("Proxy-Authorization", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Proxy-Authorization": {"Bearer " + t}}}
		}),
		Entry("a second Authorization header", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {"Basic YTpi", "Bearer " + t}}}
		}),
		Entry("a second Authorization header after a bad token", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {"Bearer a.b.c", "Bearer " + t}}}
		}),
		Entry("a second Authorization header before a bad token", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {"Bearer " + t, "Bearer a.b.c"}}}
		}),
		Entry("the same token in two Authorization headers", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {"Bearer " + t, "Bearer " + t}}}
		}),
		Entry("the middle of another scheme", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {`Digest username="Bearer ` + t + `"`}}}
		}),
		Entry("behind another scheme", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {"Basic YTpi Bearer " + t}}}
		}),
		Entry("without the word Bearer", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"Authorization": {t}}}
		}),
		Entry("the x-jwt-assertion headers of other proxies", func(t string) testbed.Request {
			return testbed.Request{Path: "/api/elsewhere", Header: http.Header{"X-Jwt-Assertion": {t}, "X-Forwarded-Access-Token": {t}, "X-Auth-Token": {t}}}
		}),
	)

	DescribeTable("reads claims as the grant says", func(token func() string, want int) {
		Expect(w.H1().Get(testbed.Host("tok-claims"), "/api/claims", token())).To(haveStatus(want))
	},
		Entry("lists of strings", nested([]string{"x", "oncall"}, []string{"db"}), 200),
		Entry("strings", nested("oncall", "core"), 200),
		Entry("a list and a string", nested([]string{"oncall"}, "db"), 200),
		Entry("all claims are needed: no team", nested([]string{"oncall"}, nil), 403),
		Entry("all claims are needed: no role", nested(nil, "core"), 403),
		Entry("one claim for another", nested("core", "oncall"), 403),
		Entry("any grant is enough: the other issuer's", func() string { return otherIssuer.Token("others") }, 200),
		Entry("but not a grant of another issuer", func() string { return shared.Issuer.Token("others") }, 403),
		Entry("the path as one dotted name", func() string {
			return shared.Issuer.TokenWith(shared.Issuer.Claims("x", testbed.Claims{"realm_access.roles": []string{"oncall"}, "team": "core"}))
		}, 403),
	)

	It("takes a token whose audience is one of a list", func() {
		Expect(w.H1().Get(host, "/api/aud", claims(testbed.Claims{"aud": []string{"grafana", "breakglass"}})(w))).To(haveStatus(200))
	})
})

// otherIssuer is the second one of the policy.
var otherIssuer *testbed.Issuer

func nested(role, team any) func() string {
	return func() string {
		return shared.Issuer.TokenWith(shared.Issuer.Claims("x", testbed.Claims{"realm_access": map[string]any{"roles": role}, "team": team}))
	}
}
