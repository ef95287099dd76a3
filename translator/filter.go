package translator

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// filters of a rule, read. One file per kind: filter_*.go.
type filters struct {
	requestAdd, responseAdd       []*corev3.HeaderValueOption
	requestRemove, responseRemove []string
	redirect                      *gwv1.HTTPRequestRedirectFilter
	rewrite                       *gwv1.HTTPURLRewriteFilter
}

func readFilters(specs []gwv1.HTTPRouteFilter) (filters, error) {
	var f filters
	for i, spec := range specs {
		var err error
		switch spec.Type {
		case gwv1.HTTPRouteFilterRequestHeaderModifier:
			f.requestAdd, f.requestRemove, err = headerModifier("requestHeaderModifier", spec.RequestHeaderModifier)
		case gwv1.HTTPRouteFilterResponseHeaderModifier:
			f.responseAdd, f.responseRemove, err = headerModifier("responseHeaderModifier", spec.ResponseHeaderModifier)
		case gwv1.HTTPRouteFilterRequestRedirect:
			f.redirect = spec.RequestRedirect
		case gwv1.HTTPRouteFilterURLRewrite:
			f.rewrite = spec.URLRewrite
		default:
			err = fmt.Errorf("type: %s is not supported yet: supported are RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite", spec.Type)
		}
		if err != nil {
			return filters{}, fmt.Errorf("filters[%d].%w", i, err)
		}
	}
	return f, nil
}

// headerModifier refuses the headers on which the locks depend.
func headerModifier(field string, spec *gwv1.HTTPHeaderFilter) ([]*corev3.HeaderValueOption, []string, error) {
	if spec == nil {
		return nil, nil, fmt.Errorf("%s: missing", field)
	}
	reserved := func(list string, i int, name string) error {
		if lock.Reserved(name) {
			return fmt.Errorf("%s.%s[%d]: header %q is reserved, the gateway's locks depend on it: use another header", field, list, i, name)
		}
		return nil
	}
	var options []*corev3.HeaderValueOption
	for i, h := range spec.Set {
		if err := reserved("set", i, string(h.Name)); err != nil {
			return nil, nil, err
		}
		options = append(options, headerOption(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	for i, h := range spec.Add {
		if err := reserved("add", i, string(h.Name)); err != nil {
			return nil, nil, err
		}
		options = append(options, headerOption(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	}
	for i, name := range spec.Remove {
		if err := reserved("remove", i, name); err != nil {
			return nil, nil, err
		}
	}
	return options, spec.Remove, nil
}

func headerOption(h gwv1.HTTPHeader, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:         &corev3.HeaderValue{Key: string(h.Name), Value: escapePercent(h.Value)},
		AppendAction:   action,
		KeepEmptyValue: true,
	}
}

// escapePercent keeps Envoy from reading a value as a format string: with one,
// a route could copy the token's claims or its own metadata anywhere.
func escapePercent(v string) string {
	out := make([]byte, 0, len(v))
	for i := range len(v) {
		if v[i] == '%' {
			out = append(out, '%')
		}
		out = append(out, v[i])
	}
	return string(out)
}
