package client

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Revoke sets spec.revoked of what is named, or of everything. If one of the names
// is not known, nothing is revoked. One that cannot be revoked stops no other.
func (c *Cluster) Revoke(ctx context.Context, req control.RevokeRequest) ([]v1alpha1.Activation, error) {
	if !req.All {
		var named []v1alpha1.Activation
		for _, key := range req.Names {
			a, err := c.get(ctx, key)
			if err != nil {
				return nil, err
			}
			named = append(named, *a)
		}
		return c.revoke(ctx, named)
	}
	var out []v1alpha1.Activation
	seen := map[types.NamespacedName]bool{}
	// Twice: what was made meanwhile must not open.
	for range 2 {
		var list v1alpha1.ActivationList
		if err := c.list(ctx, &list, req.Namespace); err != nil {
			return out, c.explain(err, "see all Activations", req.Namespace, "breakglass-revoker")
		}
		var open []v1alpha1.Activation
		for _, a := range list.Items {
			if key := client.ObjectKeyFromObject(&a); !a.Status.Phase.Final() && !seen[key] {
				seen[key] = true
				open = append(open, a)
			}
		}
		asked, err := c.revoke(ctx, open)
		out = append(out, asked...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *Cluster) revoke(ctx context.Context, all []v1alpha1.Activation) (asked []v1alpha1.Activation, err error) {
	var errs []error
	for i := range all {
		a := &all[i]
		if !a.Status.Phase.Final() && !a.Spec.Revoked {
			if err := c.patch(ctx, a); err != nil {
				errs = append(errs, fmt.Errorf("%s/%s is NOT revoked: %w", a.Namespace, a.Name, err))
				continue
			}
		}
		asked = append(asked, *a)
	}
	return asked, errors.Join(errs...)
}

func (c *Cluster) patch(ctx context.Context, a *v1alpha1.Activation) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"revoked":true}}`))
	if err := c.objects.Patch(ctx, a, patch); err != nil {
		return c.explain(err, "revoke Activations", a.Namespace, "breakglass-revoker")
	}
	return nil
}

func (c *Cluster) list(ctx context.Context, list client.ObjectList, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return c.objects.List(ctx, list, client.InNamespace(namespace))
}
