package translator

import (
	"fmt"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// filters of a rule, read. One file per kind: filter_*.go.
type filters struct {
	request, response headerEdits
	redirect          *gwv1.HTTPRequestRedirectFilter
	rewrite           *gwv1.HTTPURLRewriteFilter
	cors              *corsv3.CorsPolicy
	mirrors           []mirror
}

func readFilters(specs []gwv1.HTTPRouteFilter) (filters, error) {
	var f filters
	for i, spec := range specs {
		var err error
		switch spec.Type {
		case gwv1.HTTPRouteFilterRequestHeaderModifier, gwv1.HTTPRouteFilterResponseHeaderModifier:
			err = f.modifyHeaders(spec)
		case gwv1.HTTPRouteFilterRequestRedirect:
			f.redirect = spec.RequestRedirect
		case gwv1.HTTPRouteFilterURLRewrite:
			f.rewrite = spec.URLRewrite
		case gwv1.HTTPRouteFilterRequestMirror:
			err = f.mirror(i, spec.RequestMirror)
		case gwv1.HTTPRouteFilterCORS:
			f.cors, err = corsPolicy(spec.CORS)
		default:
			err = fmt.Errorf("type: %s is not supported: supported are RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS", spec.Type)
		}
		if err != nil {
			return filters{}, fmt.Errorf("filters[%d].%w", i, err)
		}
	}
	return f, nil
}

// readBackendFilters reads those of a backendRef: what they do is done to requests
// that go there, and to the answers that come from there.
func readBackendFilters(specs []gwv1.HTTPRouteFilter) (filters, error) {
	var f filters
	for i, spec := range specs {
		var err error
		switch spec.Type {
		case gwv1.HTTPRouteFilterRequestHeaderModifier, gwv1.HTTPRouteFilterResponseHeaderModifier:
			err = f.modifyHeaders(spec)
		default:
			err = fmt.Errorf("type: %s is not supported here: a backendRef takes RequestHeaderModifier and ResponseHeaderModifier; use spec.rules[].filters", spec.Type)
		}
		if err != nil {
			return filters{}, fmt.Errorf("filters[%d].%w", i, err)
		}
	}
	return f, nil
}

func (f *filters) modifyHeaders(spec gwv1.HTTPRouteFilter) error {
	field, modifier, edits := "requestHeaderModifier", spec.RequestHeaderModifier, &f.request
	if spec.Type == gwv1.HTTPRouteFilterResponseHeaderModifier {
		field, modifier, edits = "responseHeaderModifier", spec.ResponseHeaderModifier, &f.response
	}
	more, err := headerModifier(field, modifier)
	*edits = edits.then(more)
	return err
}
