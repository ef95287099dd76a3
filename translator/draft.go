package translator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

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

// hostDraft is the RouteConfiguration of a scope in the making.
type hostDraft struct {
	*builder
	scope *scope
	forms map[*route]form
}

// make builds the RouteConfiguration with every route in its form.
func (d *hostDraft) make() *snapshot.Resource {
	needs := map[snapshot.Key]bool{}
	at := d.origin()
	var vhosts []lock.VirtualHost
	for _, h := range d.scope.names {
		domain := h
		if at.host = ""; d.scope.name != "*" {
			domain, at.host = "*", h // the scope has found the host already
		}
		vh := lock.VirtualHost{Name: h, Domains: []string{domain}}
		unplaced := false
		for _, e := range d.scope.hosts[h].entries {
			switch f := d.forms[e.rule.route]; {
			case f == leftOut:
				unplaced = true // what belongs to it would come to whatever is after it
			case f == closed || unplaced:
				vh.Routes = append(vh.Routes, lock.Closed(e.name(), e.match.envoy(), 404))
			default:
				vh.Routes = append(vh.Routes, d.route(e, at, needs))
			}
		}
		vhosts = append(vhosts, vh)
	}
	if len(d.scope.misdirected) > 0 {
		vhosts = append(vhosts, lock.VirtualHost{Name: "of other listeners", Domains: d.scope.misdirected, Misdirected: true})
	}
	rc, err := snapshot.New(snapshot.Route, d.scope.key(), lock.RouteConfiguration(d.scope.key(), vhosts))
	if err != nil {
		return nil // invalid UTF-8 in an object: left out, which is closed
	}
	rc.Owner = d.scope.owner()
	rc.Needs = slices.SortedFunc(maps.Keys(needs), func(x, y snapshot.Key) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Name, y.Name))
	})
	return rc
}

// origin of the requests that come this way: all listeners of a chain have one
// port and protocol.
func (d *hostDraft) origin() origin {
	for _, l := range d.gateway.listeners {
		if l.chain() == d.scope.chain {
			return origin{tls: l.tls(), port: l.spec.Port}
		}
	}
	return origin{}
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
// not any more; so something it takes must replace it at once. Every step that
// Envoy has not answered yet is what it is sent next.
//
// First nothing is open: a route may open only while every other has its place,
// or a wide one would serve what belongs to a narrow one. All routes are closed,
// or, if Envoy refuses even that, they are tried one by one; one that is refused
// closed too is left out. Then they are opened one by one, and one that Envoy
// refuses open stays closed. So a bad route is found after at most twice as many
// answers as the host has routes, and the others go on.
func (d *hostDraft) without(refused string) *snapshot.Resource {
	routes := d.scope.routes()
	good, settled := d.closeAll(routes)
	if settled {
		good, settled = d.openEach(routes, good)
	}
	if !settled {
		for _, r := range routes {
			d.exclude(r, "Envoy refused the routes of "+d.scope.name+" and is asked again one by one: "+refused)
		}
	}
	return good
}

// closeAll gives every route the place that Envoy takes it in. It returns what to
// send, and whether that is settled.
func (d *hostDraft) closeAll(routes []*route) (*snapshot.Resource, bool) {
	for _, r := range routes {
		d.forms[r] = closed
	}
	rc := d.make()
	if answered, no := d.tried(rc); !answered || no == "" {
		return rc, answered
	}
	for _, r := range routes {
		d.forms[r] = leftOut
	}
	return d.tryEach(routes, d.make(), closed)
}

// openEach opens what Envoy takes open.
func (d *hostDraft) openEach(routes []*route, good *snapshot.Resource) (*snapshot.Resource, bool) {
	routes = slices.DeleteFunc(slices.Clone(routes), func(r *route) bool { return d.forms[r] == leftOut })
	good, settled := d.tryEach(routes, good, asIs)
	if settled {
		d.excludeUnplaced()
	}
	return good, settled
}

// tryEach gives the routes a form one by one; one that Envoy refuses in it stays in
// the form it had. good is what Envoy takes if it refuses all.
func (d *hostDraft) tryEach(routes []*route, good *snapshot.Resource, f form) (*snapshot.Resource, bool) {
	for _, r := range routes {
		had := d.forms[r]
		d.forms[r] = f
		rc := d.make()
		answered, no := d.tried(rc)
		switch {
		case !answered:
			return rc, false
		case no == "":
			good = rc
		default:
			d.forms[r] = had
			d.exclude(r, "Envoy refused it: "+no)
		}
	}
	return good, true
}

// excludeUnplaced tells of the routes that stay closed because one before them has
// no place.
func (d *hostDraft) excludeUnplaced() {
	for _, h := range d.scope.names {
		var out *route
		for _, e := range d.scope.hosts[h].entries {
			r := e.rule.route
			if d.forms[r] == leftOut {
				out = cmp.Or(out, r)
			} else if out != nil && d.forms[r] == asIs {
				d.exclude(r, fmt.Sprintf("%s comes before it on %s, and Envoy refuses its matches: without them this would serve what belongs there", out.key, h))
			}
		}
	}
}

func (d *hostDraft) exclude(r *route, why string) {
	if d.scope.excluded == nil {
		d.scope.excluded = map[activation.RouteKey]string{}
	}
	d.scope.excluded[r.key] = why
}
