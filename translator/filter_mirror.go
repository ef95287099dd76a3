package translator

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// mirror sends a copy of requests to a backend whose answers nobody gets. The copy
// goes through the lease like the request, so that it ends with the window.
type mirror struct {
	backend
	index int // of its filter
	ref   gwv1.BackendObjectReference
	share *typev3.FractionalPercent
}

func (f *filters) mirror(index int, spec *gwv1.HTTPRequestMirrorFilter) error {
	if spec == nil {
		return fmt.Errorf("requestMirror: missing")
	}
	share, err := mirrorShare(spec)
	if err != nil {
		return fmt.Errorf("requestMirror.%w", err)
	}
	f.mirrors = append(f.mirrors, mirror{index: index, ref: spec.BackendRef, share: share})
	return nil
}

// mirrorShare is which part of the requests is copied. Envoy knows hundredths, and
// millionths, to which any other fraction is rounded.
func mirrorShare(spec *gwv1.HTTPRequestMirrorFilter) (*typev3.FractionalPercent, error) {
	n, d := int64(100), int64(100)
	switch {
	case spec.Percent != nil && spec.Fraction != nil:
		return nil, fmt.Errorf("fraction: percent is set too: remove one of them")
	case spec.Percent != nil:
		n = int64(*spec.Percent)
	case spec.Fraction != nil:
		n = int64(spec.Fraction.Numerator)
		if spec.Fraction.Denominator != nil {
			d = int64(*spec.Fraction.Denominator)
		}
	}
	if d <= 0 || n < 0 || n > d {
		return nil, fmt.Errorf("fraction: %d of %d is not between none and all", n, d)
	}
	if d == 100 {
		return &typev3.FractionalPercent{Numerator: uint32(n), Denominator: typev3.FractionalPercent_HUNDRED}, nil
	}
	return &typev3.FractionalPercent{Numerator: uint32((n*1_000_000 + d/2) / d), Denominator: typev3.FractionalPercent_MILLION}, nil
}

// mirrorTo has a forwarding action copy its requests. A mirror that cannot be
// resolved is left out: the requests themselves go on (Gateway API,
// HTTPRequestMirrorFilter.backendRef).
func (ru *rule) mirrorTo(a *routev3.RouteAction, opening string) {
	for i, m := range ru.mirrors {
		if m.broken || m.share.GetNumerator() == 0 {
			continue
		}
		a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         lock.ClusterName(opening, len(ru.backends)+i),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: m.share},
			// Else the copy would be for HOST-shadow.
			DisableShadowHostSuffixAppend: true,
		})
	}
}
