package translator

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// origin is where a request has come in: what a redirect does not name stays
// the same.
type origin struct {
	tls  bool
	port int32
}

// redirectAction answers with a redirect. It too is behind the locks.
func (f filters) redirectAction(m match, at origin) *routev3.RedirectAction {
	spec := f.redirect
	a := &routev3.RedirectAction{ResponseCode: redirectCode(spec.StatusCode)}
	if spec.Scheme != nil {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: strings.ToLower(*spec.Scheme)}
	}
	if spec.Hostname != nil {
		a.HostRedirect = string(*spec.Hostname)
	}
	a.PortRedirect = redirectPort(spec, at)
	if p := spec.Path; p != nil {
		switch {
		case p.Type == gwv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
			a.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: *p.ReplaceFullPath}
		case p.Type == gwv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
			if plain, expr := prefixPath(m, *p.ReplacePrefixMatch); expr != nil {
				a.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: expr}
			} else {
				a.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: plain}
			}
		}
	}
	return a
}

// redirectPort is the port in the Location: the one that is named, else that of
// the scheme that is named, else the listener's own. 0 is none: the port that
// the scheme has anyway. Envoy knows no port itself, it strips that of the host.
func redirectPort(spec *gwv1.HTTPRequestRedirectFilter, at origin) uint32 {
	tls := at.tls
	if spec.Scheme != nil {
		tls = strings.EqualFold(*spec.Scheme, "https")
	}
	standard := int32(80)
	if tls {
		standard = 443
	}
	port := at.port
	switch {
	case spec.Port != nil:
		port = int32(*spec.Port)
	case spec.Scheme != nil:
		port = standard
	}
	if port == standard {
		return 0
	}
	return uint32(port)
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
