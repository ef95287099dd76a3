package serve

import (
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// unserved are the objects that nothing here serves, told as problems: they have
// no status that could say so.
func unserved(v *view) []control.Problem {
	var out []control.Problem
	objects := translator.Objects{
		GatewayClasses: v.set.GatewayClasses, Gateways: v.set.Gateways, HTTPRoutes: v.set.HTTPRoutes,
		Services: v.set.Services, EndpointSlices: v.set.EndpointSlices,
	}
	for _, u := range objects.Unserved(v.result) {
		key := source.ObjectKey{Kind: u.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name}
		o := v.set.Origins[key]
		out = append(out, control.Problem{File: o.File, Line: o.Line, Object: key.String(), Field: u.Field, Message: u.Message})
	}
	return out
}
