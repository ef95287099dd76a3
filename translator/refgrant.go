package translator

import (
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// reference is a reference across namespaces, from a Gateway API object.
type reference struct {
	fromKind, fromNamespace string
	toGroup, toKind         string
	to                      types.NamespacedName
}

// granted reports whether a ReferenceGrant in the target's namespace permits r.
func (s *state) granted(r reference) bool {
	for _, grant := range s.grants[r.to.Namespace] {
		from, to := false, false
		for _, f := range grant.Spec.From {
			from = from || string(f.Group) == gwv1.GroupName && string(f.Kind) == r.fromKind && string(f.Namespace) == r.fromNamespace
		}
		for _, t := range grant.Spec.To {
			to = to || string(t.Group) == r.toGroup && string(t.Kind) == r.toKind && (t.Name == nil || string(*t.Name) == r.to.Name)
		}
		if from && to {
			return true
		}
	}
	return false
}

// Named is what a reference from the namespace home leads to.
func Named(home string, namespace *gwv1.Namespace, name gwv1.ObjectName) types.NamespacedName {
	if namespace != nil {
		home = string(*namespace)
	}
	return types.NamespacedName{Namespace: home, Name: string(name)}
}
