// Package token issues and checks the short-lived tokens that open routes
// answer to: JSON Web Tokens (RFC 7519) as compact JWS (RFC 7515).
//
// Check is the Go twin of what Envoy enforces on every request, for `breakglass
// token check` and as the oracle of tests. Envoy does not call it. Its rules, in
// order, with what Envoy answers:
//
//  1. it is a well-formed compact JWS of at most 32 KiB                  401
//  2. its alg is asymmetric                                              401
//  3. its iss is that of exactly one issuer of the policy                401
//  4. its alg is one of the issuer's algorithms                          401
//  5. its header has no "crit" and no "b64" (RFC 7515 section 4.1.11)     403
//  6. a key of the issuer, by kid and alg, verifies its signature        401
//  7. it has an exp, and now < exp                              401, see below
//  8. its nbf, if any, is at most 1 s ahead                              401
//  9. its aud holds one of the issuer's audiences                        403
//  10. it has an iat at most 1 s ahead, and exp - iat is within the
//     issuer's maxTokenLifetime                                          403
//  11. the role exists, and one of its grants is of this issuer and all
//     claims of the grant fit                                            403
//
// exp, nbf and iat may be fractions; they are cut to whole seconds first, as
// Envoy does. A token that breaks several rules is reported by the first, but
// Status is always Envoy's: Envoy looks at exp, nbf and aud before the signature,
// and answers an exp that is less than two whole seconds past with 403, since its
// token filter has a leeway and our window filter has none. (envoy_test.go asks
// the real one.)
//
// What breaks rule 5 is told before the signature is looked at; Envoy answers 401
// if that is bad as well.
//
// Check refuses some tokens that Envoy takes, all of them signed by a listed key:
// with JSON that two parsers may read in two ways; in base64url that is not
// canonical, or with dots around it; with an audience that differs from the
// policy's by "https://" or a trailing slash, which Envoy strips from both.
package token
