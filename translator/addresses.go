package translator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	// everywhere is the address that the Envoy of a Gateway binds in its pods.
	everywhere = "0.0.0.0"
	// here is where a Gateway without addresses is on a host: nobody else reaches it.
	here = "127.0.0.1"
)

// resolveAddresses takes IP addresses, and entries without a value, which ask for any.
// On a host those that are named are bound, and any is loopback. In a cluster the
// Service has the addresses: it is asked for those that are named.
func (s *state) resolveAddresses(g *gateway) {
	for i, a := range g.obj.Spec.Addresses {
		if a.Type != nil && *a.Type != gwv1.IPAddressType {
			g.refuse(gwv1.GatewayReasonUnsupportedAddress, fmt.Sprintf("spec.addresses[%d].type: %s is not supported: use %s", i, *a.Type, gwv1.IPAddressType))
			return
		}
		if a.Value == "" {
			g.anyAddress = true
			continue
		}
		ip, err := netip.ParseAddr(a.Value)
		if err != nil {
			g.refuse(gwv1.GatewayReasonUnsupportedAddress, fmt.Sprintf("spec.addresses[%d].value: %q is not an IP address", i, a.Value))
			return
		}
		if text := ip.String(); !slices.Contains(g.requested, text) {
			g.requested = append(g.requested, text)
		}
	}
	switch {
	case s.in.Cluster != nil:
		g.addresses = []string{everywhere}
	case g.anyAddress || len(g.requested) == 0:
		g.addresses = append(slices.Clone(g.requested), here)
	default:
		g.addresses = g.requested
	}
}

// loopback reports whether the Gateway is reached from this host only.
func (g *gateway) loopback() bool {
	return !slices.ContainsFunc(g.addresses, func(a string) bool { return !netip.MustParseAddr(a).IsLoopback() })
}

// reachable says whether the Gateway has the addresses that it should have.
func (s *state) reachable(g *gateway) condition {
	if c := s.in.Cluster; c != nil {
		return g.addressed(c.Addresses[g.key])
	}
	return yes(string(gwv1.GatewayConditionProgrammed), string(gwv1.GatewayReasonProgrammed)) // Envoy says so itself
}

// addressed says whether the addresses of a Gateway's Service are what was asked for.
// Whether one is refused or only late cannot be told: what gives them says nothing of it
// that all of its kind say.
func (g *gateway) addressed(have []gwv1.GatewayStatusAddress) condition {
	kind := string(gwv1.GatewayConditionProgrammed)
	var ips, all []string
	for _, a := range have {
		all = append(all, a.Value)
		if ip, err := netip.ParseAddr(a.Value); err == nil {
			ips = append(ips, ip.String())
		}
	}
	var missing []string
	for _, want := range g.requested {
		if !slices.Contains(ips, want) {
			missing = append(missing, want)
		}
	}
	switch {
	case len(missing) > 0:
		has := "has no address yet"
		if len(all) > 0 {
			has = "has " + strings.Join(all, ", ")
		}
		return no(kind, string(gwv1.GatewayReasonAddressNotUsable), fmt.Sprintf("spec.addresses: the Gateway's Service was not given %s: it %s; its Events say why, if whoever gives addresses tells",
			strings.Join(missing, ", "), has))
	case len(all) == 0:
		return no(kind, string(gwv1.GatewayReasonAddressNotAssigned), "its Service has no address yet")
	case g.anyAddress && len(ips) == 0:
		return no(kind, string(gwv1.GatewayReasonAddressNotAssigned), fmt.Sprintf("spec.addresses asks for an IP address, and its Service has none: it has %s", strings.Join(all, ", ")))
	}
	return yes(kind, string(gwv1.GatewayReasonProgrammed))
}

// notBound is what Envoy says when an address is not one of its host.
const notBound = "Cannot assign requested address"

// unprogrammed is the reason of a Gateway whose listener is not programmed.
func unprogrammed(why string) gwv1.GatewayConditionReason {
	if strings.Contains(why, notBound) {
		return gwv1.GatewayReasonAddressNotUsable
	}
	return gwv1.GatewayReasonPending
}
