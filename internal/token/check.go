package token

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// Reasons of a Verdict.
const (
	ReasonAllowed             = "Allowed"
	ReasonMalformed           = "Malformed"
	ReasonAlgorithmNotAllowed = "AlgorithmNotAllowed"
	ReasonIssuerUnknown       = "IssuerUnknown"
	ReasonIssuerAmbiguous     = "IssuerAmbiguous"
	ReasonIssuerHasNoKeys     = "IssuerHasNoKeys"
	ReasonKeyUnknown          = "KeyUnknown"
	ReasonSignatureInvalid    = "SignatureInvalid"
	ReasonExpirationMissing   = "ExpirationMissing"
	ReasonExpired             = "Expired"
	ReasonNotYetValid         = "NotYetValid"
	ReasonAudienceNotAllowed  = "AudienceNotAllowed"
	ReasonIssuedAtMissing     = "IssuedAtMissing"
	ReasonIssuedInFuture      = "IssuedInFuture"
	ReasonLifetimeTooLong     = "LifetimeTooLong"
	ReasonRoleUnknown         = "RoleUnknown"
	ReasonRoleNotGranted      = "RoleNotGranted"
)

const (
	// leeway for nbf and iat, in seconds, and in Envoy's token filter for exp.
	leeway = 1
	// defaultMaxLifetime is the CRD's default of maxTokenLifetime.
	defaultMaxLifetime = time.Hour
)

// asymmetric algorithms, those of v1alpha1.Algorithm.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Verdict on one token.
type Verdict struct {
	// Allowed by every rule.
	Allowed bool
	// Status that Envoy answers: 401 or 403, or 200 if allowed.
	Status int
	// Reason in one CamelCase word.
	Reason string
	// Message says what is wrong and what to do. It never holds the token.
	Message string
	// Issuer is the name of the issuer in the policy, once its signature is
	// verified.
	Issuer string
	// Expires is the token's exp, if the token is allowed.
	Expires time.Time
}

// check is one token on its way through the rules.
type check struct {
	policy *v1alpha1.EmergencyPolicy
	keys   map[string]*jwks.Set
	role   string
	raw    string
	now    int64 // all rules are about whole seconds, see the package comment
	*parsed
	// issuer that the token names, and the name of the issuer that signed it.
	issuer   *v1alpha1.Issuer
	verified string
}

// rules in the order of the package comment. Each is nil if the token keeps it.
var rules = []func(*check) *Verdict{
	(*check).wellFormed,
	(*check).asymmetric,
	(*check).oneIssuer,
	(*check).algorithmAllowed,
	(*check).plain,
	(*check).signed,
	(*check).notExpired,
	(*check).begun,
	(*check).forUs,
	(*check).shortLived,
	(*check).holdsRole,
}

// Check says whether a request with this token passes a route that is open for
// role, as far as the token decides it. keys are by the issuer's name.
func Check(policy *v1alpha1.EmergencyPolicy, keys map[string]*jwks.Set, role, token string, now time.Time) Verdict {
	c := &check{policy: policy, keys: keys, role: role, raw: token, now: now.Unix()}
	for _, rule := range rules {
		if v := rule(c); v != nil {
			v.Issuer = c.verified
			return *v
		}
	}
	return Verdict{
		Allowed: true, Status: http.StatusOK, Reason: ReasonAllowed, Issuer: c.verified, Expires: time.Unix(*c.exp, 0),
		Message: fmt.Sprintf("the token holds role %s, by issuer %s, until %s", role, c.verified, instant(*c.exp)),
	}
}

func refuse(status int, reason, format string, args ...any) *Verdict {
	return &Verdict{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (c *check) wellFormed() *Verdict {
	p, err := parse(c.raw)
	if err != nil {
		return refuse(http.StatusUnauthorized, ReasonMalformed, "the token is malformed: %v", err)
	}
	c.parsed = p
	return nil
}

func (c *check) asymmetric() *Verdict {
	if slices.Contains(asymmetric, c.alg) {
		return nil
	}
	status := http.StatusUnauthorized
	if slices.Contains([]string{"HS256", "HS384", "HS512"}, c.alg) {
		// Envoy reads these, looks for a key and has none.
		status = c.unauthorized()
	}
	return refuse(status, ReasonAlgorithmNotAllowed, "the token's alg is %s, which proves nothing about its sender: have the issuer sign with one of %s",
		quote(c.alg), strings.Join(asymmetric, ", "))
}

func (c *check) oneIssuer() *Verdict {
	var fits []*v1alpha1.Issuer
	if c.policy != nil {
		for i := range c.policy.Spec.Issuers {
			if iss := &c.policy.Spec.Issuers[i]; iss.Issuer == c.iss && c.iss != "" {
				fits = append(fits, iss)
			}
		}
	}
	switch len(fits) {
	case 1:
		c.issuer = fits[0]
		return nil
	case 0:
		return refuse(http.StatusUnauthorized, ReasonIssuerUnknown, "the token's iss is %s, which no entry of spec.issuers has as its issuer: it must be equal to the letter, a final slash included",
			quote(c.iss))
	}
	return refuse(http.StatusUnauthorized, ReasonIssuerAmbiguous, "the token's iss is that of spec.issuers %s and %s: merge their keys into one", fits[0].Name, fits[1].Name)
}

func (c *check) algorithmAllowed() *Verdict {
	algs := c.issuer.Algorithms
	if len(algs) == 0 {
		algs = jwks.DefaultAlgorithms
	}
	if slices.Contains(algs, v1alpha1.Algorithm(c.alg)) {
		return nil
	}
	return refuse(c.unauthorized(), ReasonAlgorithmNotAllowed, "the token's alg is %s, and issuer %s permits %v: have it sign with one of these, or extend spec.issuers[].algorithms",
		c.alg, c.issuer.Name, algs)
}

// plain refuses extensions that change what a signature means; Envoy reads over
// them, and its window filter refuses the token then.
func (c *check) plain() *Verdict {
	if c.extension == "" {
		return nil
	}
	return refuse(http.StatusForbidden, ReasonMalformed, "the token is malformed: its header has %q, an extension that is not known here (RFC 7515 section 4.1.11): have the issuer leave it out", c.extension)
}

func (c *check) signed() *Verdict {
	set := c.keys[c.issuer.Name]
	if set == nil {
		return refuse(http.StatusUnauthorized, ReasonIssuerHasNoKeys, "issuer %s has no usable keys: see its jwks in the policy", c.issuer.Name)
	}
	// alg is one that the issuer permits: nothing that the token says can make
	// another one of it.
	jws, err := jose.ParseSignedCompact(c.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(c.alg)})
	if err != nil {
		return refuse(http.StatusUnauthorized, ReasonMalformed, "the token is malformed: its header is not one of a JWS")
	}
	tried := false
	for _, k := range set.Keys() {
		if k.Algorithm != c.alg || k.KeyID != c.kid && k.KeyID != "" && c.kid != "" {
			continue
		}
		tried = true
		if _, err := jws.Verify(k.Key); err == nil {
			c.verified = c.issuer.Name
			return nil
		}
	}
	if !tried {
		return refuse(c.unauthorized(), ReasonKeyUnknown, "issuer %s has no key with kid %s for %s: the token is of another key set, or the issuer's keys were rotated",
			c.issuer.Name, quote(c.kid), c.alg)
	}
	return refuse(c.unauthorized(), ReasonSignatureInvalid, "no key of issuer %s verifies the token's signature: it was changed, cut off, or signed by somebody else", c.issuer.Name)
}

// unauthorized is what Envoy answers to a token that no key verifies or that has
// no exp: 401, but it looks at the audience before.
func (c *check) unauthorized() int {
	if c.issuer == nil && c.oneIssuer() != nil {
		return http.StatusUnauthorized
	}
	if c.timely() && c.forUs() != nil {
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// timely is Envoy's own view of exp and nbf, with its leeway.
func (c *check) timely() bool {
	return (c.exp == nil || *c.exp == 0 || c.now-leeway <= *c.exp) && (c.nbf == nil || *c.nbf-leeway <= c.now)
}

func (c *check) notExpired() *Verdict {
	if c.exp == nil || *c.exp == 0 {
		return refuse(c.unauthorized(), ReasonExpirationMissing, "the token has no exp: have the issuer make it expire")
	}
	if c.now < *c.exp {
		return nil
	}
	status := http.StatusUnauthorized
	if c.timely() {
		status = http.StatusForbidden // by the window filter
	}
	return refuse(status, ReasonExpired, "the token has expired at %s: get a new one, or check the clocks", instant(*c.exp))
}

func (c *check) begun() *Verdict {
	if c.nbf == nil || *c.nbf-leeway <= c.now {
		return nil
	}
	return refuse(http.StatusUnauthorized, ReasonNotYetValid, "the token is not valid before %s (nbf): wait, or check the clocks", instant(*c.nbf))
}

func (c *check) forUs() *Verdict {
	for _, a := range c.audiences {
		if slices.Contains(c.issuer.Audiences, a) {
			return nil
		}
	}
	return refuse(http.StatusForbidden, ReasonAudienceNotAllowed, "the token's aud holds none of %q, the audiences of issuer %s: ask the issuer for a token for one of them",
		c.issuer.Audiences, c.issuer.Name)
}

func (c *check) shortLived() *Verdict {
	if c.iat == nil {
		return refuse(http.StatusForbidden, ReasonIssuedAtMissing, "the token has no iat, so that its lifetime is unknown: have the issuer add it")
	}
	if *c.iat-leeway > c.now {
		return refuse(http.StatusForbidden, ReasonIssuedInFuture, "the token was issued at %s, which is in the future: check the clocks", instant(*c.iat))
	}
	most := int64(maxLifetime(c.issuer) / time.Second)
	if life := *c.exp - *c.iat; life > most {
		return refuse(http.StatusForbidden, ReasonLifetimeTooLong, "the token lives %d s (exp - iat), longer than the maxTokenLifetime of issuer %s, %d s: ask for a shorter one",
			life, c.issuer.Name, most)
	}
	return nil
}

func maxLifetime(issuer *v1alpha1.Issuer) time.Duration {
	return v1alpha1.DurationOr(issuer.MaxTokenLifetime, defaultMaxLifetime)
}

func instant(seconds int64) string {
	if seconds > 253402300799 { // beyond the year 9999
		return "the end of time"
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

// quote shows text of an unverified token, bounded and on one line.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
