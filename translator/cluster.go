package translator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/ports"
)

// Cluster is what counts only where the objects are those of a Kubernetes cluster,
// which other people use as well.
type Cluster struct {
	activation.Cluster
	// GatewayNamespaces are those in which there may be emergency Gateways,
	// SecretNamespaces those whose Secrets and ConfigMaps are read.
	GatewayNamespaces, SecretNamespaces map[string]bool
	// Addresses of each Gateway's Service.
	Addresses map[types.NamespacedName][]gwv1.GatewayStatusAddress
	// Peers are what the other replicas say of the Envoys that are connected to them.
	Peers []Peer
}

// Peer is another replica of the controller, by its own word.
type Peer struct {
	Name string
	// Envoys of each Gateway that are connected to it and serve.
	Envoys map[types.NamespacedName]int
	// Serving are the leases of which all of those have acknowledged what belongs to
	// them.
	Serving map[string]bool
}

// elsewhere reports whether Envoys of a Gateway are connected to other replicas.
func (s *state) elsewhere(gateway types.NamespacedName) bool {
	return s.in.Cluster != nil && slices.ContainsFunc(s.in.Cluster.Peers, func(p Peer) bool { return p.Envoys[gateway] > 0 })
}

// lagging is a replica whose Envoys of a Gateway do not serve a lease yet, "" for none.
func (s *state) lagging(gateway types.NamespacedName, lease string) string {
	if s.in.Cluster == nil {
		return ""
	}
	for _, p := range s.in.Cluster.Peers {
		if p.Envoys[gateway] > 0 && !p.Serving[lease] {
			return p.Name
		}
	}
	return ""
}

// decisions is what of it concerns activations.
func (c *Cluster) decisions() *activation.Cluster {
	if c == nil {
		return nil
	}
	return &c.Cluster
}

// sameRules reports whether Gateways and routes are judged alike in both.
func (c *Cluster) sameRules(d *Cluster) bool {
	if c == nil || d == nil {
		return c == d
	}
	return maps.Equal(c.GatewayNamespaces, d.GatewayNamespaces) && maps.Equal(c.SecretNamespaces, d.SecretNamespaces)
}

// inCluster judges a Gateway of a cluster.
func (g *gateway) inCluster(c *Cluster) {
	if !c.GatewayNamespaces[g.key.Namespace] {
		g.refuse("NamespaceNotAllowed", fmt.Sprintf("emergency Gateways are not allowed in namespace %s: allowed are %v (gatewayNamespaces of the installation)",
			g.key.Namespace, slices.Sorted(maps.Keys(c.GatewayNamespaces))))
	}
}

// bindings marks listeners with ports that the pods need for something else.
func (g *gateway) bindings() {
	for _, l := range g.listeners {
		if port := int32(l.spec.Port); l.accepted.ok() && !ports.Usable(port) {
			l.accepted = no(accepted, string(gwv1.ListenerReasonPortUnavailable), fmt.Sprintf("port %d is taken in the pods of a Gateway: use another; "+
				"those below 1024 are bound %d above, and %d is the agent's", port, ports.ContainerPort(1)-1, ports.Agent))
		}
	}
}

// bind is the port that Envoy binds for a port of a Gateway.
func (s *state) bind(port int32) int32 {
	if s.in.Cluster == nil {
		return port
	}
	return ports.ContainerPort(port)
}

// optedIn says why no route of a namespace is taken, "" if they are.
func (s *state) optedIn(namespace string) string {
	if s.in.Cluster == nil {
		return ""
	}
	if ns := s.in.Namespaces[namespace]; ns != nil && ns.Labels[v1alpha1.EmergencyRoutesLabel] == v1alpha1.EmergencyRoutesAllowed {
		return ""
	}
	return fmt.Sprintf("namespace %s has not opted in to emergency routes: label it %s=%s", namespace, v1alpha1.EmergencyRoutesLabel, v1alpha1.EmergencyRoutesAllowed)
}

// foreign says which of a route's parents is not an emergency Gateway, "" for none. A
// route that is open to everybody at another door needs no emergency, and what
// its owners change for that door would change this one.
func (s *state) foreign(r *route) string {
	if s.in.Cluster == nil {
		return ""
	}
	for i, ref := range r.obj.Spec.ParentRefs {
		if g, _ := s.parentGateway(r.key, ref); g == nil {
			return fmt.Sprintf("spec.parentRefs[%d] names %s, which is no emergency Gateway: a route is attached to emergency Gateways only, or to none; make one of its own for the other", i, ref.Name)
		}
	}
	return ""
}

// unread says why nothing of a kind is taken from a namespace, nil if it is. Also
// what is there, of an installation that listed more, is not.
func (s *state) unread(kinds, namespace string) error {
	if c := s.in.Cluster; c != nil && !c.SecretNamespaces[namespace] {
		return fmt.Errorf("%s of namespace %s are not read: add it to secretNamespaces of the installation", kinds, namespace)
	}
	return nil
}

// metadataServices answer with a machine's credentials, by cloud, beyond the
// link-local ones.
var metadataServices = prefixes(
	"fd00:ec2::/32",      // AWS
	"100.100.100.200/32", // Alibaba Cloud
	"192.0.0.192/32",     // Oracle Cloud
	"168.63.129.16/32",   // Azure
	"fd20:ce::254/128",   // Google Cloud
)

// unusable are addresses of no host: "this network" (RFC 1122, Linux has 0.0.0.0 for
// itself) and broadcast.
var unusable = prefixes("0.0.0.0/8", "255.255.255.255/32")

// embedding are prefixes of IPv6 addresses that hold an IPv4 address, and where: what
// translates them, if anything does, goes there.
var embedding = []struct {
	prefix netip.Prefix
	at     int // of its first byte
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, RFC 4291
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT, RFC 2765
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},  // NAT64 with a /96 of it, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4, RFC 3056
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func within(a netip.Addr, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// unreachable says why an endpoint is no backend, "" if it may be one: it would be
// somebody else's who is not asked.
func (s *state) unreachable(a netip.Addr) string {
	if s.in.Cluster == nil {
		return ""
	}
	return Unreachable(a)
}

// Unreachable says why an address of a cluster is no backend of an emergency route,
// "" if it may be one.
func Unreachable(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	switch {
	case a.IsLoopback(), within(a, unusable), a.IsUnspecified():
		return "is the Envoy's own host"
	case a.IsLinkLocalUnicast(), a.IsMulticast():
		return "is link-local or multicast"
	case within(a, metadataServices):
		return "is a cloud's metadata service"
	}
	for _, e := range embedding {
		if !e.prefix.Contains(a) {
			continue
		}
		bytes := a.As16()
		v4, _ := netip.AddrFromSlice(bytes[e.at : e.at+4])
		if why := Unreachable(v4); why != "" {
			return fmt.Sprintf("holds %s, which %s", v4, why)
		}
	}
	return ""
}
