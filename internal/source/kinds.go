package source

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// object is what every kind that is read is.
type object interface {
	runtime.Object
	metav1.Object
}

// kind is one row of the table of what is read.
type kind struct {
	group, name string
	// versions that are read; the first is how objects are held.
	versions   []string
	namespaced bool
	// crd is the file of package crds, empty for Kubernetes' own kinds.
	crd     string
	newObj  func() object
	newName apivalidation.ValidateNameFunc
	// finish checks and defaults Kubernetes' own kinds as its API server would.
	finish func(object, *findings)
	shelf
}

func (k *kind) apiVersion(version string) string {
	if k.group == "" {
		return version
	}
	return k.group + "/" + version
}

// Every version that a CRD serves is read: the Go types are the same, and a
// manifest that a cluster takes should be taken here.
var kinds = []*kind{
	{
		name: "Namespace", versions: []string{"v1"},
		newObj: func() object { return &corev1.Namespace{} }, newName: apivalidation.ValidateNamespaceName,
		finish: finishNamespace,
		shelf:  named(func(s *Set) *map[string]*corev1.Namespace { return &s.Namespaces }),
	},
	{
		name: "Service", versions: []string{"v1"}, namespaced: true,
		newObj: func() object { return &corev1.Service{} }, newName: apivalidation.NameIsDNS1035Label,
		finish: finishService,
		shelf:  namespaced(func(s *Set) *map[types.NamespacedName]*corev1.Service { return &s.Services }),
	},
	{
		name: "Secret", versions: []string{"v1"}, namespaced: true,
		newObj: func() object { return &corev1.Secret{} }, newName: apivalidation.NameIsDNSSubdomain,
		finish: finishSecret,
		shelf:  namespaced(func(s *Set) *map[types.NamespacedName]*corev1.Secret { return &s.Secrets }),
	},
	{
		name: "ConfigMap", versions: []string{"v1"}, namespaced: true,
		newObj: func() object { return &corev1.ConfigMap{} }, newName: apivalidation.NameIsDNSSubdomain,
		finish: finishConfigMap,
		shelf:  namespaced(func(s *Set) *map[types.NamespacedName]*corev1.ConfigMap { return &s.ConfigMaps }),
	},
	{
		group: discoveryv1.GroupName, name: "EndpointSlice", versions: []string{"v1"}, namespaced: true,
		newObj: func() object { return &discoveryv1.EndpointSlice{} }, newName: apivalidation.NameIsDNSSubdomain,
		finish: finishEndpointSlice,
		shelf:  namespaced(func(s *Set) *map[types.NamespacedName]*discoveryv1.EndpointSlice { return &s.EndpointSlices }),
	},
	{
		group: gwv1.GroupName, name: "GatewayClass", versions: []string{"v1", "v1beta1"},
		crd:    "gateway.networking.k8s.io_gatewayclasses.yaml",
		newObj: func() object { return &gwv1.GatewayClass{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: named(func(s *Set) *map[string]*gwv1.GatewayClass { return &s.GatewayClasses }),
	},
	{
		group: gwv1.GroupName, name: "Gateway", versions: []string{"v1", "v1beta1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_gateways.yaml",
		newObj: func() object { return &gwv1.Gateway{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.Gateway { return &s.Gateways }),
	},
	{
		group: gwv1.GroupName, name: "ListenerSet", versions: []string{"v1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_listenersets.yaml",
		newObj: func() object { return &gwv1.ListenerSet{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.ListenerSet { return &s.ListenerSets }),
	},
	{
		group: gwv1.GroupName, name: "HTTPRoute", versions: []string{"v1", "v1beta1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_httproutes.yaml",
		newObj: func() object { return &gwv1.HTTPRoute{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.HTTPRoute { return &s.HTTPRoutes }),
	},
	{
		group: gwv1.GroupName, name: "GRPCRoute", versions: []string{"v1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_grpcroutes.yaml",
		newObj: func() object { return &gwv1.GRPCRoute{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.GRPCRoute { return &s.GRPCRoutes }),
	},
	{
		group: gwv1.GroupName, name: "ReferenceGrant", versions: []string{"v1", "v1beta1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_referencegrants.yaml",
		newObj: func() object { return &gwv1.ReferenceGrant{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.ReferenceGrant { return &s.ReferenceGrants }),
	},
	{
		group: gwv1.GroupName, name: "BackendTLSPolicy", versions: []string{"v1"}, namespaced: true,
		crd:    "gateway.networking.k8s.io_backendtlspolicies.yaml",
		newObj: func() object { return &gwv1.BackendTLSPolicy{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*gwv1.BackendTLSPolicy { return &s.BackendTLSPolicies }),
	},
	{
		group: v1alpha1.GroupName, name: "EmergencyPolicy", versions: []string{"v1alpha1"},
		crd:    "breakglass.dev_emergencypolicies.yaml",
		newObj: func() object { return &v1alpha1.EmergencyPolicy{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: named(func(s *Set) *map[string]*v1alpha1.EmergencyPolicy { return &s.Policies }),
	},
	{
		group: v1alpha1.GroupName, name: "Activation", versions: []string{"v1alpha1"}, namespaced: true,
		crd:    "breakglass.dev_activations.yaml",
		newObj: func() object { return &v1alpha1.Activation{} }, newName: apivalidation.NameIsDNSSubdomain,
		shelf: namespaced(func(s *Set) *map[types.NamespacedName]*v1alpha1.Activation { return &s.Activations }),
	},
}

// The kinds' names are distinct, so that a kind's name alone is a key.
var kindByName = func() map[string]*kind {
	m := make(map[string]*kind, len(kinds))
	for _, k := range kinds {
		m[k.name] = k
	}
	return m
}()

// kindOf finds the row of an object, and why there is none.
func kindOf(apiVersion, name string) (k *kind, version, message, remedy string) {
	group, version, found := strings.Cut(apiVersion, "/")
	if !found {
		group, version = "", apiVersion
	}
	k = kindByName[name]
	if group == v1alpha1.GroupName && name == "ActivationReview" {
		return nil, "", "an ActivationReview is not taken from a file: nobody can tell who gave the verdict", "give it with `breakglass review`, and remove the file"
	}
	if k == nil || k.group != group {
		message = "kind " + name + " of apiVersion " + apiVersion + " is not read here"
		if k == nil {
			if near := nearest(name, kindNames()); near != "" {
				return nil, "", message, "did you mean " + near + "? Otherwise move the object out of this directory"
			}
			return nil, "", message, "move it out of this directory: only " + strings.Join(kindNames(), ", ") + " are read"
		}
		return nil, "", message, "write apiVersion: " + k.apiVersion(k.versions[0])
	}
	for _, v := range k.versions {
		if v == version {
			return k, version, "", ""
		}
	}
	return nil, "", "apiVersion " + apiVersion + " of kind " + name + " is not read here",
		"write apiVersion: " + k.apiVersion(k.versions[0])
}

func kindNames() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// gvk that objects of this kind are held with.
func (k *kind) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.group, Version: k.versions[0], Kind: k.name}
}
