package jumphost

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// kind is one that is read as a whole.
type kind struct {
	obj  client.Object
	list func() client.ObjectList
	// optional: a cluster may do without.
	optional bool
}

func kinds() []kind {
	return []kind{
		{&corev1.Namespace{}, func() client.ObjectList { return &corev1.NamespaceList{} }, false},
		{&corev1.Service{}, func() client.ObjectList { return &corev1.ServiceList{} }, false},
		{&discoveryv1.EndpointSlice{}, func() client.ObjectList { return &discoveryv1.EndpointSliceList{} }, false},
		{&gwv1.GatewayClass{}, func() client.ObjectList { return &gwv1.GatewayClassList{} }, false},
		{&gwv1.Gateway{}, func() client.ObjectList { return &gwv1.GatewayList{} }, false},
		{&gwv1.ListenerSet{}, func() client.ObjectList { return &gwv1.ListenerSetList{} }, true},
		{&gwv1.HTTPRoute{}, func() client.ObjectList { return &gwv1.HTTPRouteList{} }, false},
		{&gwv1.GRPCRoute{}, func() client.ObjectList { return &gwv1.GRPCRouteList{} }, true},
		{&gwv1.ReferenceGrant{}, func() client.ObjectList { return &gwv1.ReferenceGrantList{} }, true},
		{&gwv1.BackendTLSPolicy{}, func() client.ObjectList { return &gwv1.BackendTLSPolicyList{} }, true},
		{&v1alpha1.EmergencyPolicy{}, func() client.ObjectList { return &v1alpha1.EmergencyPolicyList{} }, false},
	}
}

// readAll reads all kinds, or fails: half of them would mislead.
func readAll(ctx context.Context, r client.Reader, of []kind) (*source.Set, error) {
	var all []source.Object
	for _, k := range of {
		list := k.list()
		if err := r.List(ctx, list); err != nil {
			if k.optional && absent(err) {
				continue
			}
			return nil, fmt.Errorf("list %T: %w", k.obj, err)
		}
		err := meta.EachListItem(list, func(o runtime.Object) error {
			if key, ok := source.KeyOf(o); ok && o.(client.Object).GetDeletionTimestamp() == nil {
				all = append(all, source.Object{Key: key, Object: o})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return source.NewSet(all), nil
}

// absent: the API server does not have the kind.
func absent(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }
