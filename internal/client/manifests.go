package client

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Manifests are the objects by which tokens are judged: policies, the routes and
// Gateways that lead to them, and the key sets that they name, as far as the caller
// may see these.
func (c *Cluster) Manifests(ctx context.Context) (*source.Set, error) {
	policies := &v1alpha1.EmergencyPolicyList{}
	var all []source.Object
	add := func(o runtime.Object) error {
		if key, ok := source.KeyOf(o); ok {
			all = append(all, source.Object{Key: key, Object: o})
		}
		return nil
	}
	for _, read := range []struct {
		list client.ObjectList
		what string
	}{
		{policies, "EmergencyPolicies"}, {&gwv1.GatewayClassList{}, "GatewayClasses"}, {&gwv1.GatewayList{}, "Gateways"}, {&gwv1.HTTPRouteList{}, "HTTPRoutes"}, {&gwv1.GRPCRouteList{}, "GRPCRoutes"},
	} {
		err := c.list(ctx, read.list, "")
		if read.what == "GRPCRoutes" && apierrors.IsNotFound(err) {
			continue // a cluster may do without
		}
		if err != nil {
			return nil, c.explain(err, "see all "+read.what, "", "breakglass-reviewer")
		}
		if err := meta.EachListItem(read.list, add); err != nil {
			return nil, err
		}
	}
	for i := range policies.Items {
		for _, issuer := range policies.Items[i].Spec.Issuers {
			obj, ref := client.Object(&corev1.ConfigMap{}), issuer.JWKS.ConfigMapRef
			if issuer.JWKS.SecretRef != nil {
				obj, ref = &corev1.Secret{}, issuer.JWKS.SecretRef
			}
			if ref == nil {
				continue
			}
			err := c.objects.Get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, obj)
			switch {
			case err == nil:
				_ = add(obj) // it never fails
			case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
				return nil, fmt.Errorf("the keys of issuer %s: %w", issuer.Name, c.explain(err, "read them", ref.Namespace, "view"))
			}
		}
	}
	return source.NewSet(all), nil
}
