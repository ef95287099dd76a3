package lock

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// UpstreamTLS is how Envoy speaks TLS to a backend. It cannot say that a backend is
// not verified: a backend whose UpstreamTLS lacks the authorities or the name is one
// that nothing reaches.
type UpstreamTLS struct {
	// CA are the certificates of the authorities, PEM.
	CA string
	// SNI is the name that Envoy asks for. The certificate must be for it, unless
	// DNSNames or URIs are given.
	SNI string
	// DNSNames and URIs: the certificate must be for one of them.
	DNSNames, URIs []string
	// ClientSecret is the SDS name of the certificate that Envoy shows, "" for none.
	ClientSecret string
}

// reachable reports whether anything may be sent to the backend.
func (b Backend) reachable() bool {
	return b.TLS == nil || b.TLS.CA != "" && b.TLS.SNI != ""
}

// transport is how bytes get to the backend, within the connection that the lease
// holds.
func (b Backend) transport() *corev3.TransportSocket {
	if b.TLS == nil {
		return &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.raw_buffer",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&rawbufferv3.RawBuffer{})},
		}
	}
	alpn := "http/1.1"
	if b.HTTP2 {
		alpn = "h2"
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{alpn},
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, // of a client the default is 1.2
		},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: b.TLS.validation()},
	}
	if s := b.TLS.ClientSecret; s != "" {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{{Name: s, SdsConfig: ads(0)}}
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: b.TLS.SNI})},
	}
}

func (t *UpstreamTLS) validation() *tlsv3.CertificateValidationContext {
	out := &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: t.CA}},
	}
	must := func(kind tlsv3.SubjectAltNameMatcher_SanType, name string) {
		out.MatchTypedSubjectAltNames = append(out.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: exactly(name)})
	}
	for _, n := range t.DNSNames {
		must(tlsv3.SubjectAltNameMatcher_DNS, n)
	}
	for _, u := range t.URIs {
		must(tlsv3.SubjectAltNameMatcher_URI, u)
	}
	if len(out.GetMatchTypedSubjectAltNames()) == 0 { // of several, one is enough
		must(tlsv3.SubjectAltNameMatcher_DNS, t.SNI)
	}
	return out
}
