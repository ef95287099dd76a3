package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// opened is what there is to tell of an activation that is live.
type opened struct {
	activation *v1alpha1.Activation
	// status finds addresses and methods. Nil: it could not be had.
	status *control.Status
	flags  string
	now    time.Time
	lookup func(ctx context.Context, host string) []netip.Addr
}

// writeOpened tells where the door is, how to go through it, and when it closes.
func writeOpened(ctx context.Context, out io.Writer, o opened) error {
	a := o.activation
	var b strings.Builder
	fmt.Fprintf(&b, "Live: %s/%s  route %s, role %s, %s\n", a.Namespace, a.Name, targetNames(a), clean(a.Spec.Role), occasion(a))
	fmt.Fprintf(&b, "Open until %s", deadlineText(a, o.now))
	if t, ok := deadline(a); ok {
		fmt.Fprintf(&b, ", %s left", left(t.Sub(o.now)))
	}
	b.WriteString("\n\n")
	if len(a.Status.URLs) == 0 {
		b.WriteString("It has no URL: `breakglass status -o wide` shows its routes and listeners.\n")
	}
	// The curl lines come apart from the URLs, so that either can be copied whole.
	for _, u := range a.Status.URLs {
		fmt.Fprintf(&b, "  %s\n", clean(u))
	}
	if len(a.Status.URLs) > 0 {
		fmt.Fprintf(&b, "\nWith a token that carries role %s in $TOKEN:\n\n", clean(a.Spec.Role))
	}
	resolved := map[string][]netip.Addr{}
	for _, u := range a.Status.URLs {
		for _, line := range o.curls(ctx, u, resolved) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	fmt.Fprintf(&b, "\nClose it: breakglass revoke %s/%s%s\n", a.Namespace, a.Name, o.flags)
	_, err := io.WriteString(out, b.String())
	return err
}

func occasion(a *v1alpha1.Activation) string {
	switch {
	case a.Spec.Drill && a.Spec.Incident == "":
		return "a drill"
	case a.Spec.Drill:
		return "a drill of " + clean(a.Spec.Incident)
	}
	return "incident " + clean(a.Spec.Incident)
}

// curls are command lines for one URL, one per method that the route has there.
func (o opened) curls(ctx context.Context, raw string, resolved map[string][]netip.Addr) []string {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Host, "*") {
		return nil // a wildcard is no address; whoever allowed it knows the name
	}
	if o.grpc(u) {
		return o.grpcurl(ctx, u, resolved)
	}
	resolve := ""
	if addr := o.address(u); addr.IsValid() && !o.resolvesTo(ctx, u.Hostname(), addr, resolved) {
		resolve = " --resolve " + shellQuote(fmt.Sprintf("%s:%s:%s", u.Hostname(), portOf(u), bracketed(addr)))
	}
	var out []string
	for _, m := range o.methods(u) {
		method := ""
		switch m {
		case "", "GET":
		case "HEAD":
			method = " --head" // -X HEAD would wait for a body
		default:
			method = " -X " + shellQuote(m)
		}
		out = append(out, fmt.Sprintf(`curl%s -H "Authorization: Bearer $TOKEN"%s %s`, method, resolve, shellQuote(clean(raw))))
	}
	return out
}

// grpc reports whether what the activation opens on the host of u is gRPC. Routes of
// both kinds never share a hostname.
func (o opened) grpc(u *url.URL) bool {
	return slices.ContainsFunc(o.routes(), func(r control.RouteStatus) bool {
		return r.Kind == v1alpha1.KindGRPCRoute && slices.ContainsFunc(r.Hostnames, func(h string) bool { return strings.EqualFold(h, u.Hostname()) })
	})
}

// grpcurl is a command line for a method; which there are in a service only its users
// know.
func (o opened) grpcurl(ctx context.Context, u *url.URL, resolved map[string][]netip.Addr) []string {
	service, method, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if strings.ContainsAny(service, "[(") || service == "" {
		service = "SERVICE"
	}
	if strings.ContainsAny(method, "[(") || method == "" {
		method = "METHOD"
	}
	options, at := "", net.JoinHostPort(u.Hostname(), portOf(u))
	if u.Scheme == "http" {
		options = " -plaintext"
	}
	if addr := o.address(u); addr.IsValid() && !o.resolvesTo(ctx, u.Hostname(), addr, resolved) {
		options += " -authority " + shellQuote(u.Hostname())
		at = net.JoinHostPort(addr.String(), portOf(u))
	}
	return []string{fmt.Sprintf(`grpcurl%s -H "Authorization: Bearer $TOKEN" %s %s`, options, shellQuote(clean(at)), shellQuote(clean(service+"/"+method)))}
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// routes that the activation opens.
func (o opened) routes() []control.RouteStatus {
	if o.status == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(o.status.Routes), func(r control.RouteStatus) bool {
		return r.Namespace != o.activation.Namespace ||
			!slices.ContainsFunc(o.activation.Spec.TargetRefs, func(t v1alpha1.TargetReference) bool {
				return t.Name == r.Name && t.Kind == cmp.Or(r.Kind, v1alpha1.KindHTTPRoute)
			})
	})
}

// methods that the routes have at a URL. [""] if that is not known.
func (o opened) methods(u *url.URL) []string {
	var out []string
	for _, r := range o.routes() {
		if len(r.Hostnames) > 0 && !slices.ContainsFunc(r.Hostnames, func(h string) bool { return strings.EqualFold(h, u.Hostname()) }) {
			continue
		}
		for _, m := range r.Matches {
			if (m.Path == u.Path || m.Path == "") && !slices.Contains(out, m.Method) {
				out = append(out, m.Method)
			}
		}
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// address of the listener that serves a URL. Invalid if that is not known.
func (o opened) address(u *url.URL) netip.Addr {
	for _, r := range o.routes() {
		for _, g := range o.status.Gateways {
			if !slices.Contains(r.Gateways, g.Namespace+"/"+g.Name) {
				continue
			}
			for _, l := range g.Listeners {
				if strconv.Itoa(int(l.Port)) != portOf(u) || !strings.EqualFold(l.Protocol, u.Scheme) {
					continue
				}
				a, err := netip.ParseAddr(l.Address)
				switch {
				case err != nil:
				case a == netip.IPv6Unspecified():
					return netip.IPv6Loopback()
				case a == netip.IPv4Unspecified():
					return netip.AddrFrom4([4]byte{127, 0, 0, 1}) // all addresses: this one is at hand
				default:
					return a
				}
			}
		}
	}
	return netip.Addr{}
}

// resolvesTo reports whether a client here finds the listener by its name.
func (o opened) resolvesTo(ctx context.Context, host string, want netip.Addr, resolved map[string][]netip.Addr) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a == want
	}
	if _, done := resolved[host]; !done {
		resolved[host] = o.lookup(ctx, host)
	}
	return slices.Contains(resolved[host], want)
}

// lookupHost asks the system's resolver, but not for long: DNS may be part of
// the incident.
func lookupHost(ctx context.Context, host string) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil // then --resolve is needed
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}
