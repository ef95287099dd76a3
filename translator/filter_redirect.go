package translator

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// redirectAction answers with a redirect. It too is behind the locks.
func (f filters) redirectAction(m match) *routev3.RedirectAction {
	spec := f.redirect
	a := &routev3.RedirectAction{ResponseCode: redirectCode(spec.StatusCode)}
	if spec.Scheme != nil {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: strings.ToLower(*spec.Scheme)}
	}
	if spec.Hostname != nil {
		a.HostRedirect = string(*spec.Hostname)
	}
	switch {
	case spec.Port != nil:
		a.PortRedirect = uint32(*spec.Port)
	case spec.Scheme != nil && strings.EqualFold(*spec.Scheme, "https"):
		a.PortRedirect = 443
	case spec.Scheme != nil && strings.EqualFold(*spec.Scheme, "http"):
		a.PortRedirect = 80
	}
	if p := spec.Path; p != nil {
		switch {
		case p.Type == gwv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
			a.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: *p.ReplaceFullPath}
		case p.Type == gwv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
			a.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: prefixPath(m, *p.ReplacePrefixMatch)}
		}
	}
	return a
}

func redirectCode(code *int) routev3.RedirectAction_RedirectResponseCode {
	if code == nil {
		return routev3.RedirectAction_FOUND
	}
	switch *code {
	case 301:
		return routev3.RedirectAction_MOVED_PERMANENTLY
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_FOUND
}
