package jumphost

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// pickAuthorities takes those of whom the clients of Gateways must have certificates,
// and of their ConfigMaps nothing else. Without them serve lets nobody in, as the
// cluster does not.
func (p *picking) pickAuthorities(ctx context.Context, r client.Reader) error {
	for gateway := range p.gateways {
		for _, v := range translator.FrontendValidations(p.all.Gateways[gateway]) {
			for _, ref := range v.CACertificateRefs {
				name := translator.Named(gateway.Namespace, ref.Namespace, ref.Name)
				if ref.Kind != "ConfigMap" || ref.Group != "" {
					continue // the cluster refuses it, and serve does
				}
				var from corev1.ConfigMap
				switch err := r.Get(ctx, name, &from); {
				case apierrors.IsNotFound(err):
					p.tell("ConfigMap %s, with authorities of the clients of Gateway %s, does not exist", name, gateway)
				case err != nil:
					return err
				default:
					p.addAuthorities(&from)
				}
			}
		}
	}
	return nil
}

func (p *picking) addAuthorities(from *corev1.ConfigMap) {
	kept := map[string]string{translator.AuthoritiesKey: from.Data[translator.AuthoritiesKey]}
	at, _ := source.KeyOf(from)
	if before, ok := p.out[at].(*corev1.ConfigMap); ok { // an issuer may have taken its keys of it
		for k, v := range before.Data {
			kept[k] = v
		}
	}
	from.Data, from.BinaryData = kept, nil
	p.add(from)
}
