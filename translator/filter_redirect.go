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
	host string // "" if it is one of many
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
	// Envoy would keep a port that the request has in its host.
	switch port, implied := redirectPort(spec, at); {
	case !implied:
		a.PortRedirect = port
	case a.HostRedirect == "" && at.host != "":
		a.HostRedirect = at.host
	case a.HostRedirect == "":
		a.PortRedirect = port
	}
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
// the scheme that is named, else the listener's own; and whether the scheme implies it.
func redirectPort(spec *gwv1.HTTPRequestRedirectFilter, at origin) (port uint32, implied bool) {
	tls := at.tls
	if spec.Scheme != nil {
		tls = strings.EqualFold(*spec.Scheme, "https")
	}
	standard := uint32(80)
	if tls {
		standard = 443
	}
	port = uint32(at.port)
	switch {
	case spec.Port != nil:
		port = uint32(*spec.Port)
	case spec.Scheme != nil:
		port = standard
	}
	return port, port == standard
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
