package translator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// form is how a route stands in a RouteConfiguration.
type form int

const (
	asIs    form = iota // open or closed, as its windows say
	closed              // a 404 in its place
	leftOut             // not even its matches
)

// hostDraft is a RouteConfiguration in the making.
type hostDraft struct {
	*builder
	key, chain, name string
	hosts            []string
	forms            map[*route]form
}

// make builds the RouteConfiguration with every route in its form.
func (d *hostDraft) make() *snapshot.Resource {
	needs := map[snapshot.Key]bool{}
	var vhosts []lock.VirtualHost
	for _, h := range d.hosts {
		domain := h
		if d.name != "*" {
			domain = "*" // the scope has found the host already
		}
		vh := lock.VirtualHost{Name: h, Domains: []string{domain}}
		for _, e := range d.entries(h) {
			switch d.forms[e.rule.route] {
			case asIs:
				vh.Routes = append(vh.Routes, d.route(e, d.origin(), needs))
			case closed:
				vh.Routes = append(vh.Routes, lock.Closed(e.name(), e.match.envoy(), 404))
			}
		}
		vhosts = append(vhosts, vh)
	}
	rc, err := snapshot.New(snapshot.Route, d.key, lock.RouteConfiguration(d.key, vhosts))
	if err != nil {
		return nil // invalid UTF-8 in an object: left out, which is closed
	}
	rc.Owner = d.owner()
	rc.Needs = slices.SortedFunc(maps.Keys(needs), func(x, y snapshot.Key) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Name, y.Name))
	})
	return rc
}

// origin of the requests that come this way: all listeners of a chain have one
// port and protocol.
func (d *hostDraft) origin() origin {
	for _, l := range d.gateway.listeners {
		if l.chain() == d.chain {
			return origin{l.tls(), l.spec.Port}
		}
	}
	return origin{}
}

// entries of a host in order of precedence.
func (d *hostDraft) entries(host string) []entry {
	entries := d.builder.hosts[d.chain][host].entries
	slices.SortStableFunc(entries, func(x, y entry) int { return precedes(x.match, y.match) })
	return entries
}

// noteShadows remembers which routes are never reached on a host because another
// route has the very same match and comes first. Serving the first is what
// Gateway API asks for; its owner being silent about it is not.
func (d *hostDraft) noteShadows() {
	if len(d.routes()) < 2 {
		return
	}
	for _, h := range d.hosts {
		first := map[string]*route{}
		for _, e := range d.entries(h) {
			m := activation.Digest(e.match.identity())
			r := e.rule.route
			switch other := first[m]; {
			case other == nil:
				first[m] = r
			case other != r:
				d.shadows[r.key] = append(d.shadows[r.key], fmt.Sprintf("%s %s on %s is held by HTTPRoute %s, which has the same match and comes first",
					cmp.Or(e.match.method, "any method of"), e.match.path, h, other.key))
			}
		}
	}
}

// routes on the host, in the order in which they compete.
func (d *hostDraft) routes() []*route {
	var out []*route
	for _, h := range d.hosts {
		for _, e := range d.builder.hosts[d.chain][h].entries {
			if !slices.Contains(out, e.rule.route) {
				out = append(out, e.rule.route)
			}
		}
	}
	slices.SortFunc(out, func(x, y *route) int { return cmp.Compare(x.key.String(), y.key.String()) })
	return out
}

func (d *hostDraft) owner() string {
	var owners []string
	for _, r := range d.routes() {
		owners = append(owners, r.owner())
	}
	return cmp.Or(strings.Join(owners, ", "), "Gateway "+d.gateway.key.String())
}

// tried is what Envoy said of a draft.
func (d *hostDraft) tried(rc *snapshot.Resource) (answered bool, refused string) {
	delivery := d.in.Delivery[d.gateway.key]
	if delivery == nil {
		return false, ""
	}
	return delivery.Tried(rc.Key, rc.Version)
}

// without is the RouteConfiguration of a host after Envoy has refused the whole
// one. Envoy keeps the version before it, in which things may be open that are
// not any more; so something it takes must replace it at once. The routes are
// tried one by one, from none, each as it is, else closed in its place, else not
// at all. Every step that Envoy has not answered yet is what it is sent next; so
// a bad route is found after as many answers as the host has routes, and the
// others go on.
func (d *hostDraft) without(refused string) *snapshot.Resource {
	routes := d.routes()
	for _, r := range routes {
		d.forms[r] = leftOut
	}
	good := d.make()
	for _, r := range routes {
		why := refused
		for _, f := range []form{asIs, closed, leftOut} {
			d.forms[r] = f
			rc := d.make()
			answered, no := d.tried(rc)
			if !answered && f != leftOut {
				d.unserved(routes, refused)
				return rc
			}
			if no == "" {
				good = rc
				break
			}
			why = no
		}
		if d.forms[r] != asIs {
			d.excluded[r.key] = "Envoy refused it: " + why
		}
	}
	return good
}

// unserved notes that nothing on the host is settled yet.
func (d *hostDraft) unserved(routes []*route, refused string) {
	for _, r := range routes {
		d.excluded[r.key] = "Envoy refused the routes of " + d.name + " and is asked again one by one: " + refused
	}
}
