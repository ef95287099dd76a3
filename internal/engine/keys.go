package engine

import (
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// remoteKeys are the key sets to fetch.
func remoteKeys(set *source.Set) map[jwks.Key]jwks.Source {
	out := map[jwks.Key]jwks.Source{}
	for name, p := range set.Policies {
		for _, i := range p.Spec.Issuers {
			if i.JWKS.Remote != nil {
				out[jwks.Key{Policy: name, Issuer: i.Name}] = jwks.Source{RemoteJWKS: *i.JWKS.Remote, Algorithms: i.Algorithms}
			}
		}
	}
	return out
}
