package lock

import routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

// Scope binds the scope key of a host to its RouteConfiguration. Both have the
// key as their name.
func Scope(key string) *routev3.ScopedRouteConfiguration {
	return &routev3.ScopedRouteConfiguration{
		Name:                   key,
		RouteConfigurationName: key,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: key},
		}}},
	}
}
