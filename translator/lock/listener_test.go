package lock

import (
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Whoever forgets what clients must show lets nobody in: without the name of a secret
// Envoy waits for one for ever, and does not listen.
func TestClientsThatMustShowACertificateAreAskedForOne(t *testing.T) {
	for _, c := range []Clients{{}, {Authorities: "ca"}} {
		down := &tlsv3.DownstreamTlsContext{}
		if err := downstreamTLS(Chain{Secrets: []string{"s"}, Clients: &c}).GetTypedConfig().UnmarshalTo(down); err != nil {
			t.Fatal(err)
		}
		v := down.GetCommonTlsContext().GetCombinedValidationContext()
		if !down.GetRequireClientCertificate().GetValue() || v.GetValidationContextSdsSecretConfig() == nil || v.GetValidationContextSdsSecretConfig().GetSdsConfig().GetInitialFetchTimeout().AsDuration() != 0 ||
			v.GetDefaultValidationContext().GetTrustChainVerification() != tlsv3.CertificateValidationContext_VERIFY_TRUST_CHAIN {
			t.Errorf("%+v: %v", c, down)
		}
	}
}
