package jumphost

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// pickKeys takes the key sets that issuers name, and of their objects nothing else.
func (p *picking) pickKeys(ctx context.Context, r client.Reader) error {
	for key, obj := range p.out {
		policy, is := obj.(*v1alpha1.EmergencyPolicy)
		if !is {
			continue
		}
		for i := range policy.Spec.Issuers {
			issuer := &policy.Spec.Issuers[i]
			var err error
			switch src := issuer.JWKS; {
			case src.SecretRef != nil:
				err = p.keysOf(ctx, r, issuer, &corev1.Secret{}, types.NamespacedName{Namespace: src.SecretRef.Namespace, Name: src.SecretRef.Name}, src.SecretRef.Key)
			case src.ConfigMapRef != nil:
				err = p.keysOf(ctx, r, issuer, &corev1.ConfigMap{}, types.NamespacedName{Namespace: src.ConfigMapRef.Namespace, Name: src.ConfigMapRef.Name}, src.ConfigMapRef.Key)
			case src.Remote != nil:
				p.tell("issuer %s of %s has its keys at %s: the jump host must reach that, also on the day, or have fetched them not too long before", issuer.Name, key, src.Remote.URI)
			}
			if err != nil {
				return fmt.Errorf("%s, issuer %s: %w", key, issuer.Name, err)
			}
		}
	}
	return nil
}

// keysOf one issuer.
func (p *picking) keysOf(ctx context.Context, r client.Reader, issuer *v1alpha1.Issuer, from client.Object, name types.NamespacedName, key string) error {
	err := r.Get(ctx, name, from)
	if apierrors.IsNotFound(err) {
		p.tell("issuer %s has no keys, here as in the cluster: %T %s does not exist", issuer.Name, from, name)
		return nil
	}
	if err != nil {
		return err
	}
	at, _ := source.KeyOf(from)
	var data []byte
	switch o := from.(type) {
	case *corev1.Secret:
		data = o.Data[key]
	case *corev1.ConfigMap:
		data = []byte(o.Data[key])
	}
	if _, err := jwks.Parse(data, issuer.Algorithms); err != nil {
		p.tell("issuer %s has no keys, here as in the cluster: %s, key %s: %v", issuer.Name, at, key, err)
		return nil
	}
	// Another issuer may have taken another key of it.
	switch o := from.(type) {
	case *corev1.Secret:
		kept := map[string][]byte{key: data}
		if before, ok := p.out[at].(*corev1.Secret); ok {
			for k, v := range before.Data {
				kept[k] = v
			}
		}
		o.Data, o.Type = kept, corev1.SecretTypeOpaque
	case *corev1.ConfigMap:
		kept := map[string]string{key: string(data)}
		if before, ok := p.out[at].(*corev1.ConfigMap); ok {
			for k, v := range before.Data {
				kept[k] = v
			}
		}
		o.Data = kept
	}
	p.add(from)
	return nil
}

// pickCertificates takes those of listeners and of Gateways, with their private keys,
// or tells which there must be.
func (p *picking) pickCertificates(ctx context.Context, r client.Reader, private bool) error {
	for gateway := range p.gateways {
		spec := &p.all.Gateways[gateway].Spec
		for _, l := range spec.Listeners {
			if err := p.pickCertificate(ctx, r, private, fmt.Sprintf("listener %s of Gateway %s", l.Name, gateway), gateway.Namespace, l.TLS); err != nil {
				return err
			}
		}
		if t := spec.TLS; t != nil && t.Backend != nil && t.Backend.ClientCertificateRef != nil {
			if err := p.certificate(ctx, r, private, fmt.Sprintf("tls.backend of Gateway %s", gateway), gateway.Namespace, *t.Backend.ClientCertificateRef); err != nil {
				return err
			}
		}
	}
	for set := range p.sets {
		for _, l := range p.all.ListenerSets[set].Spec.Listeners {
			if err := p.pickCertificate(ctx, r, private, fmt.Sprintf("listener %s of ListenerSet %s", l.Name, set), set.Namespace, l.TLS); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *picking) pickCertificate(ctx context.Context, r client.Reader, private bool, listener, namespace string, tls *gwv1.ListenerTLSConfig) error {
	if tls == nil {
		return nil
	}
	for _, ref := range tls.CertificateRefs {
		if err := p.certificate(ctx, r, private, listener, namespace, ref); err != nil {
			return err
		}
	}
	return nil
}

// certificate takes one, which something names.
func (p *picking) certificate(ctx context.Context, r client.Reader, private bool, of, namespace string, ref gwv1.SecretObjectReference) error {
	name := translator.Named(namespace, ref.Namespace, ref.Name)
	if !private {
		p.tell("Secret %s is not exported: %s needs a certificate with its private key under that name on the jump host", name, of)
		return nil
	}
	var secret corev1.Secret
	switch err := r.Get(ctx, name, &secret); {
	case apierrors.IsNotFound(err):
		p.tell("Secret %s, of %s, does not exist", name, of)
	case err != nil:
		return err
	default:
		secret.Data = map[string][]byte{corev1.TLSCertKey: secret.Data[corev1.TLSCertKey], corev1.TLSPrivateKeyKey: secret.Data[corev1.TLSPrivateKeyKey]}
		p.add(&secret)
	}
	return nil
}
