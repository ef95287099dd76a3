package translator

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Unserved is an object that has no status because nothing here serves it. In a
// cluster another controller may; in a directory it is a typo in a name.
type Unserved struct {
	Kind           string
	Key            types.NamespacedName
	Field, Message string
}

// Unserved finds the objects that out, the translation of o, leaves alone.
func (o Objects) Unserved(out *Result) []Unserved {
	var all []Unserved
	for key, g := range o.Gateways {
		if class := string(g.Spec.GatewayClassName); o.GatewayClasses[class] == nil {
			all = append(all, Unserved{"Gateway", key, "spec.gatewayClassName", fmt.Sprintf("there is no GatewayClass %q in these manifests: nothing will serve it", class)})
		}
	}
	for key := range o.HTTPRoutes {
		if _, ours := out.Statuses.HTTPRoutes[key]; !ours {
			all = append(all, Unserved{"HTTPRoute", key, "spec.parentRefs", "names no Gateway of a GatewayClass of " + v1alpha1.ControllerName + " in these manifests: nothing will serve it"})
		}
	}
	slices.SortFunc(all, func(a, b Unserved) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key.String(), b.Key.String()))
	})
	return all
}
