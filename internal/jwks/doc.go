// Package jwks holds the public keys of token issuers: it parses JSON Web Key
// Sets (RFC 7517), reduces them to what may be used, and fetches remote ones.
//
// # What a key set may hold
//
// Parse refuses a key set as a whole if anything in it is dangerous: a private
// or symmetric key, an RSA key below 2048 bits, a point that is not on its
// curve, two keys under one kid and algorithm. It passes over keys that are
// merely of no use here: for encryption, of an unknown type, or of an algorithm
// that the issuer's policy does not name.
//
// # What Envoy gets
//
// Envoy's jwt_authn has no list of allowed algorithms: a key without "alg"
// verifies every algorithm of its type. Set.Envoy therefore writes one entry for
// each pair of key and permitted algorithm, each with its "alg", so that Envoy
// itself refuses the others. Envoy also passes over a key that it cannot read, in
// silence, and rejects its whole configuration over a key set without any, so
// that Parse takes only what Envoy 1.40 reads and says so of the rest
// (source/common/jwt/jwks.cc; envoy_test.go asks the real one).
//
// # Remote key sets
//
// A Fetcher keeps remote key sets fresh and their last good answers on disk, so
// that an outage of the identity provider locks nobody out until maxStale. The
// files decide who may come in: they are private to us, and a file that others
// could have written is not read.
package jwks
