package controller

import (
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/grpcroute"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// references are the objects that one names, of the kinds of onlyIfNamed.
type references struct {
	namespace string // of those that say none
	keys      []source.ObjectKey
}

func (r *references) add(kind string, namespace *gwv1.Namespace, name string) {
	key := source.ObjectKey{Kind: kind, Namespace: r.namespace, Name: name}
	if namespace != nil {
		key.Namespace = string(*namespace)
	}
	r.keys = append(r.keys, key)
}

// referencesOf obj.
func referencesOf(obj client.Object) []source.ObjectKey {
	r := &references{namespace: obj.GetNamespace()}
	switch o := obj.(type) {
	case *gwv1.HTTPRoute:
		r.backends(o)
	case *gwv1.GRPCRoute:
		r.backends(grpcroute.HTTP(o))
	case *gwv1.BackendTLSPolicy:
		for _, ref := range o.Spec.Validation.CACertificateRefs {
			if ref.Group == "" && ref.Kind == "ConfigMap" {
				r.add("ConfigMap", nil, string(ref.Name))
			}
		}
	case *gwv1.Gateway:
		r.gateway(o)
	case *gwv1.ListenerSet:
		for _, l := range o.Spec.Listeners {
			r.certificates(l.TLS)
		}
	case *v1alpha1.EmergencyPolicy:
		r.keySets(o)
	}
	return r.keys
}

func (r *references) backends(o *gwv1.HTTPRoute) {
	for i := range o.Spec.Rules {
		for _, b := range translator.BackendRefs(&o.Spec.Rules[i]) {
			r.add("Service", b.Namespace, string(b.Name))
		}
	}
}

func (r *references) gateway(o *gwv1.Gateway) {
	if t := o.Spec.TLS; t != nil && t.Backend != nil && t.Backend.ClientCertificateRef != nil {
		r.add("Secret", t.Backend.ClientCertificateRef.Namespace, string(t.Backend.ClientCertificateRef.Name))
	}
	for _, l := range o.Spec.Listeners {
		r.certificates(l.TLS)
	}
	for _, v := range translator.FrontendValidations(o) {
		for _, ref := range v.CACertificateRefs {
			r.add("ConfigMap", ref.Namespace, string(ref.Name))
		}
	}
}

// certificates of a listener.
func (r *references) certificates(tls *gwv1.ListenerTLSConfig) {
	if tls == nil {
		return
	}
	for _, ref := range tls.CertificateRefs {
		r.add("Secret", ref.Namespace, string(ref.Name))
	}
}

// keySets of a policy's issuers.
func (r *references) keySets(p *v1alpha1.EmergencyPolicy) {
	for _, i := range p.Spec.Issuers {
		if ref := i.JWKS.SecretRef; ref != nil {
			r.keys = append(r.keys, source.ObjectKey{Kind: "Secret", Namespace: ref.Namespace, Name: ref.Name})
		}
		if ref := i.JWKS.ConfigMapRef; ref != nil {
			r.keys = append(r.keys, source.ObjectKey{Kind: "ConfigMap", Namespace: ref.Namespace, Name: ref.Name})
		}
	}
}
