package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// fieldOwner of what is applied.
const fieldOwner = "breakglass-controller"

// fleets makes the Envoys of each Gateway, as long as this replica leads: it applies
// what they should be, and deletes what belongs to no Gateway any more.
type fleets struct {
	client    client.Client // not cached
	scheme    *runtime.Scheme
	log       *slog.Logger
	leads     func() bool
	last      func() *outcome
	authority *authority
	config    config.Config
	namespace string
	pod       string
	now       func() time.Time
	changed   func()

	wake chan struct{}
	mu   sync.Mutex
	// services are the addresses of the fleets' Services.
	services map[types.NamespacedName][]gwv1.GatewayStatusAddress
	// applied is what was applied last, by Gateway, so that not every translation is
	// a round of requests.
	applied map[types.NamespacedName]string
	owner   []metav1.OwnerReference

	// audit is HOST:PORT of the audit log service, to which the agents ship; "": none.
	audit string
	// auditData is the Secret of the service as it was seen last.
	auditData map[string][]byte
}

// again is how often everything is applied anew: what somebody has changed is then
// as it should be.
const again = 30 * time.Second

func (f *fleets) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run until ctx ends.
func (f *fleets) run(ctx context.Context) {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		full := false
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-tick.C:
			full = true
		}
		if !f.leads() {
			f.applied = nil
			continue
		}
		if f.applied == nil || full {
			f.applied, f.auditData = map[types.NamespacedName]string{}, nil
		}
		if err := f.reconcile(ctx); err != nil && ctx.Err() == nil {
			f.log.Warn("cannot bring the Envoys up to date; trying again", "error", err)
			time.AfterFunc(time.Second, f.poke)
		}
	}
}

func (f *fleets) reconcile(ctx context.Context) error {
	o, ca := f.last(), f.authority.current()
	if o == nil || ca == nil {
		return nil
	}
	if f.owner == nil {
		owner, err := f.findOwner(ctx)
		if err != nil {
			return fmt.Errorf("find the controller's own StatefulSet, which is to own the fleets: %w", err)
		}
		f.owner = owner
	}
	errs := []error{f.auditService(ctx, ca)}
	changed := len(f.applied) == 0
	for key, gw := range o.set.Gateways {
		want, served := f.served(o, key, gw)
		if !served {
			continue
		}
		done, err := f.apply(ctx, ca, key, want)
		changed = changed || done
		if err != nil {
			errs = append(errs, fmt.Errorf("Gateway %s: %w", key, err))
		}
	}
	for key := range f.applied {
		if _, still := f.keeps(o, key); !still {
			delete(f.applied, key)
			changed = true
		}
	}
	if changed {
		errs = append(errs, f.sweep(ctx, o))
	}
	return errors.Join(errs...)
}

// served is what the fleet of a Gateway is made of, if it is to have one now.
func (f *fleets) served(o *outcome, key types.NamespacedName, gw *gwv1.Gateway) (in fleet.Input, ok bool) {
	st, ours := o.result.Statuses.Gateways[key]
	if !ours || !meta.IsStatusConditionTrue(st.Conditions, string(gwv1.GatewayConditionAccepted)) {
		return in, false
	}
	in = fleet.Input{Gateway: gw, Config: f.config, Namespace: f.namespace, Controller: ServiceName + "." + f.namespace + ".svc", Ports: o.result.Gateways[key].Ports, AuditService: f.audit}
	return in, len(in.Ports) > 0
}

// keeps reports whether a fleet may stay: its Gateway is there and where it may be,
// although it may not be accepted at the moment.
func (f *fleets) keeps(o *outcome, key types.NamespacedName) (gwv1.GatewayStatus, bool) {
	st, ours := o.result.Statuses.Gateways[key]
	return st, ours && slices.Contains(f.config.GatewayNamespaces, key.Namespace)
}

// apply makes a fleet what it should be, and reports whether there was anything to do.
func (f *fleets) apply(ctx context.Context, ca *pki.Authority, key types.NamespacedName, in fleet.Input) (bool, error) {
	objects := fleet.Objects(in)
	text, err := json.Marshal(objects)
	if err != nil || f.applied[key] == string(text) {
		return false, err
	}
	if err := f.certificate(ctx, ca, key); err != nil {
		return true, fmt.Errorf("certificate: %w", err)
	}
	for _, obj := range objects {
		if err := f.applyObject(ctx, obj); err != nil {
			return true, err
		}
	}
	f.applied[key] = string(text)
	f.log.Info("applied the fleet of a Gateway", "gateway", key.String(), "name", fleet.Name(key))
	return true, nil
}

func (f *fleets) applyObject(ctx context.Context, obj fleet.Object) error {
	obj.SetOwnerReferences(f.owner)
	u, err := applied(obj, f.scheme)
	if err != nil {
		return err
	}
	if err := f.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return nil
}

// applied is an object as server-side apply takes it: no more than what is meant.
func applied(obj client.Object, scheme *runtime.Scheme) (*unstructured.Unstructured, error) {
	gvk, err := apiutil.GVKForObject(obj, scheme)
	if err != nil {
		return nil, err
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(gvk)
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return u, nil
}

// certificate makes the client certificate of a fleet, if the one it has is not
// fresh.
func (f *fleets) certificate(ctx context.Context, ca *pki.Authority, key types.NamespacedName) error {
	subject := pki.Client(key.Namespace, key.Name)
	name := types.NamespacedName{Namespace: f.namespace, Name: fleet.SecretName(key)}
	var secret corev1.Secret
	err := f.client.Get(ctx, name, &secret)
	if client.IgnoreNotFound(err) != nil || err == nil && ca.Fresh(secret.Data, subject, f.now()) {
		return client.IgnoreNotFound(err)
	}
	data, err := ca.Issue(subject, f.now())
	if err != nil {
		return err
	}
	fresh := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: fleet.Labels(key),
		Annotations: map[string]string{fleet.AnnotationGateway: key.String()}}, Type: corev1.SecretTypeTLS, Data: data}
	return f.applyObject(ctx, fresh)
}

// sweep deletes what belongs to a Gateway that is gone.
func (f *fleets) sweep(ctx context.Context, o *outcome) error {
	var errs []error
	for _, list := range []client.ObjectList{
		&appsv1.DeploymentList{}, &corev1.ServiceList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{}, &corev1.ServiceAccountList{}, &corev1.SecretList{},
	} {
		if err := f.client.List(ctx, list, client.InNamespace(f.namespace), client.MatchingLabels{fleet.LabelManagedBy: fleet.ManagedBy}); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, meta.EachListItem(list, func(item runtime.Object) error {
			obj := item.(client.Object)
			namespace, name, ok := strings.Cut(obj.GetAnnotations()[fleet.AnnotationGateway], "/")
			if !ok {
				return nil // the CA
			}
			if _, keep := f.keeps(o, types.NamespacedName{Namespace: namespace, Name: name}); keep {
				return nil
			}
			f.log.Info("deleting what belonged to a Gateway that is gone", "gateway", namespace+"/"+name, "object", fmt.Sprintf("%T", obj), "name", obj.GetName())
			return client.IgnoreNotFound(f.client.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground)))
		}))
	}
	return errors.Join(errs...)
}

// findOwner is the StatefulSet of this very pod: when it goes, the fleets go. Not the
// Gateways: owners in other namespaces are not possible.
func (f *fleets) findOwner(ctx context.Context) ([]metav1.OwnerReference, error) {
	if f.pod == "" {
		return []metav1.OwnerReference{}, nil // not in a pod
	}
	var pod corev1.Pod
	if err := f.client.Get(ctx, types.NamespacedName{Namespace: f.namespace, Name: f.pod}, &pod); err != nil {
		return nil, err
	}
	out := []metav1.OwnerReference{}
	for _, r := range pod.OwnerReferences {
		if r.Controller != nil && *r.Controller {
			out = append(out, metav1.OwnerReference{APIVersion: r.APIVersion, Kind: r.Kind, Name: r.Name, UID: r.UID})
		}
	}
	return out, nil
}

// seen notes the addresses of the fleets' Services.
func (f *fleets) seen(key source.ObjectKey, obj client.Object) {
	if key.Kind != "Service" || key.Namespace != f.namespace {
		return
	}
	svc, ok := obj.(*corev1.Service)
	if !ok || svc.Labels[fleet.LabelManagedBy] != fleet.ManagedBy {
		return
	}
	namespace, name, _ := strings.Cut(svc.Annotations[fleet.AnnotationGateway], "/")
	gateway, addresses := types.NamespacedName{Namespace: namespace, Name: name}, addressesOf(svc)
	f.mu.Lock()
	news := !slices.EqualFunc(f.services[gateway], addresses, func(a, b gwv1.GatewayStatusAddress) bool { return a.Value == b.Value })
	if next := map[types.NamespacedName][]gwv1.GatewayStatusAddress{gateway: addresses}; news {
		for k, v := range f.services {
			if k != gateway {
				next[k] = v
			}
		}
		f.services = next // whoever has the old one keeps it
	}
	f.mu.Unlock()
	if news {
		f.changed()
	}
}

// addressesOf a Service: the load balancer's, else its own.
func addressesOf(svc *corev1.Service) (out []gwv1.GatewayStatusAddress) {
	add := func(kind gwv1.AddressType, value string) {
		if value != "" && value != corev1.ClusterIPNone {
			out = append(out, gwv1.GatewayStatusAddress{Type: &kind, Value: value})
		}
	}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		add(gwv1.IPAddressType, i.IP)
		add(gwv1.HostnameAddressType, i.Hostname)
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return out
	}
	for _, ip := range svc.Spec.ClusterIPs {
		add(gwv1.IPAddressType, ip)
	}
	return out
}

// known are the addresses of all fleets.
func (f *fleets) known() map[types.NamespacedName][]gwv1.GatewayStatusAddress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services
}
