package jwks

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// errLocalTarget refuses an address that only this host or its network segment
// reaches, see RemoteJWKS.AllowLocalTargets.
var errLocalTarget = errors.New("a local address, refused because a policy could use it to read what only this host reaches")

// metadataServices of clouds that are not link-local. They hand out credentials
// of the host to whoever asks from it.
var metadataServices = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure, the wire server
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// Forms of IPv6 that carry an IPv4 address, and where in the 16 bytes.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 of this network, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, RFC 4291 section 2.5.5.1
}

// thisNetwork and broadcast are no hosts at all (RFC 6890).
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// controlDial is a net.Dialer.Control. It sees each address that is really
// dialled, so that a name that resolves anew at the last moment (DNS rebinding)
// gains nothing.
func controlDial(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %q: %w", address, err)
	}
	if !publicTarget(ap.Addr()) {
		return fmt.Errorf("%s is %w", ap.Addr(), errLocalTarget)
	}
	return nil
}

// publicTarget is false for what errLocalTarget is about. Private networks (RFC
// 1918, RFC 4193) are fine: that is where identity providers live.
func publicTarget(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() ||
		a.IsLinkLocalUnicast() || thisNetwork.Contains(a) || a == broadcast {
		return false
	}
	for _, m := range metadataServices {
		if a == m {
			return false
		}
	}
	for _, e := range embedding {
		if e.prefix.Contains(a) {
			b := a.As16()
			v4, _ := netip.AddrFromSlice(b[e.at : e.at+4])
			return publicTarget(v4)
		}
	}
	return true
}
