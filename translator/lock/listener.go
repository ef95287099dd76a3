package lock

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Chain is one filter chain of a listener.
type Chain struct {
	// Name is the chain's id, the first half of its scope keys.
	Name string
	// Hostname for SNI; "" takes what no other chain takes. TLS only.
	Hostname string
	// Secrets are SDS names of certificates; none means plain HTTP.
	Secrets []string
	// Clients says what certificates clients must show; nil: none. TLS only.
	Clients *Clients
}

// Clients says what certificates clients must show.
type Clients struct {
	// Authorities is the SDS name of those that they must be of. A listener without
	// them does not listen.
	Authorities string
	// Anyone gets in, also without a certificate, or with one of nobody's: then it
	// proves nothing.
	Anyone bool
}

// ListenerName is the Envoy listener of a port.
func ListenerName(port int32) string { return "port/" + strconv.Itoa(int(port)) }

// Listener listens on the addresses at port, with one filter chain a Chain.
func Listener(addresses []string, port, bind int32, chains []Chain) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                          ListenerName(port),
		Address:                       socketAddress(addresses[0], bind),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connBuffer),
		// The kernel then refuses a second Envoy on this port.
		EnableReusePort:        wrapperspb.Bool(false),
		ListenerFiltersTimeout: durationpb.New(greeting),
		AccessLog:              connectionLogs(),
	}
	for _, a := range addresses[1:] {
		l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: socketAddress(a, bind)})
	}
	for _, c := range chains {
		fc := &listenerv3.FilterChain{
			Name: c.Name,
			Filters: []*listenerv3.Filter{connectionLimit(c.Name), {
				Name:       "envoy.filters.network.http_connection_manager",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(HCM(c))},
			}},
		}
		if len(c.Secrets) > 0 {
			fc.TransportSocket = downstreamTLS(c)
			fc.TransportSocketConnectTimeout = durationpb.New(greeting)
			if c.Hostname != "" {
				fc.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: []string{c.Hostname}}
			}
		}
		if len(l.ListenerFilters) == 0 { // a port speaks TLS or does not
			l.ListenerFilters = []*listenerv3.ListenerFilter{inspector(len(c.Secrets) > 0)}
		}
		l.FilterChains = append(l.FilterChains, fc)
	}
	return l
}

func socketAddress(address string, port int32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func downstreamTLS(c Chain) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{"h2", "http/1.1"},
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
	}
	for _, s := range c.Secrets {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, &tlsv3.SdsSecretConfig{Name: s, SdsConfig: ads(0)})
	}
	down := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	if c.Clients != nil {
		c.Clients.ask(down)
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(down)},
	}
}

// ask for a certificate. Whether it must be good is said here and not in the secret,
// so that no order in which the two arrive lets anybody in for a moment.
func (c *Clients) ask(down *tlsv3.DownstreamTlsContext) {
	trust := tlsv3.CertificateValidationContext_VERIFY_TRUST_CHAIN
	if c.Anyone {
		trust = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	}
	down.RequireClientCertificate = wrapperspb.Bool(!c.Anyone)
	down.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{TrustChainVerification: trust},
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: c.Authorities, SdsConfig: ads(0)},
		},
	}
	// Who resumes a session is not asked again, and the certificate may have ended.
	down.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true}
	down.DisableStatefulSessionResumption = true
}

// Authorities are the certificates, in PEM, that those of clients must be of, for SDS.
func Authorities(name, certificates string) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: certificates}},
	}}}
}

// Secret is a certificate and its key, for SDS.
func Secret(name string, cert, key []byte) *tlsv3.Secret {
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(cert), PrivateKey: inline(key),
	}}}
}
