package translator

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

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
		if d.scope.name != "*" {
			domain = "*" // the scope has found the host already
		}
		vh := lock.VirtualHost{Name: h, Domains: []string{domain}}
		for _, e := range d.scope.hosts[h].entries {
			switch d.forms[e.rule.route] {
			case asIs:
				vh.Routes = append(vh.Routes, d.route(e, at, needs))
			case closed:
				vh.Routes = append(vh.Routes, lock.Closed(e.name(), e.match.envoy(), 404))
			}
		}
		vhosts = append(vhosts, vh)
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
			return origin{l.tls(), l.spec.Port}
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
// not any more; so something it takes must replace it at once. The routes are
// tried one by one, from none, each as it is, else closed in its place, else not
// at all. Every step that Envoy has not answered yet is what it is sent next; so
// a bad route is found after as many answers as the host has routes, and the
// others go on.
func (d *hostDraft) without(refused string) *snapshot.Resource {
	routes := d.scope.routes()
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
			d.exclude(r, "Envoy refused it: "+why)
		}
	}
	return good
}

// unserved notes that nothing on the host is settled yet.
func (d *hostDraft) unserved(routes []*route, refused string) {
	for _, r := range routes {
		d.exclude(r, "Envoy refused the routes of "+d.scope.name+" and is asked again one by one: "+refused)
	}
}

func (d *hostDraft) exclude(r *route, why string) {
	if d.scope.excluded == nil {
		d.scope.excluded = map[types.NamespacedName]string{}
	}
	d.scope.excluded[r.key] = why
}
