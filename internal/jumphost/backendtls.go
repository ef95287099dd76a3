package jumphost

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// pickTLSPolicies takes how the Services that are taken are spoken to, with the
// authorities. Of policies that say it of one target the one that counts in the
// cluster is taken: files have no age by which another could win.
func (p *picking) pickTLSPolicies(ctx context.Context, r client.Reader) error {
	upstreams := translator.NewUpstreams(p.all.Objects)
	for key, policy := range p.all.BackendTLSPolicies {
		counts := policy.DeepCopy()
		counts.Spec.TargetRefs = slices.DeleteFunc(counts.Spec.TargetRefs, func(t gwv1.LocalPolicyTargetReferenceWithSectionName) bool {
			svc := types.NamespacedName{Namespace: key.Namespace, Name: string(t.Name)}
			section := ""
			if t.SectionName != nil {
				section = string(*t.SectionName)
			}
			winner, _ := upstreams.Winner(svc, section)
			_, taken := p.out[source.ObjectKey{Kind: "Service", Namespace: svc.Namespace, Name: svc.Name}]
			return t.Group != "" || t.Kind != "Service" || !taken || winner != key
		})
		if len(counts.Spec.TargetRefs) == 0 {
			continue
		}
		p.add(counts)
		for _, ref := range policy.Spec.Validation.CACertificateRefs {
			if ref.Group == "" && ref.Kind == "ConfigMap" {
				if err := p.authorities(ctx, r, key, string(ref.Name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// authorities of a policy, and of their ConfigMap nothing else.
func (p *picking) authorities(ctx context.Context, r client.Reader, policy types.NamespacedName, name string) error {
	var from corev1.ConfigMap
	key := types.NamespacedName{Namespace: policy.Namespace, Name: name}
	err := r.Get(ctx, key, &from)
	switch {
	case apierrors.IsNotFound(err):
		p.tell("ConfigMap %s, which BackendTLSPolicy %s names, does not exist", key, policy)
		return nil
	case apierrors.IsForbidden(err): // which is no reason to keep all others from being current
		p.tell("ConfigMap %s, with the authorities of BackendTLSPolicy %s, may not be read: its backends are not reached from here; let whoever exports get it", key, policy)
		return nil
	case err != nil:
		return err
	}
	if err := translator.CheckAuthorities(from.Data[translator.AuthoritiesKey]); err != nil {
		p.tell("BackendTLSPolicy %s has no authorities in ConfigMap %s, here as in the cluster: %v", policy, key, err)
		return nil
	}
	p.addAuthorities(&from)
	return nil
}
