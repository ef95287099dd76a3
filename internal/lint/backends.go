package lint

import (
	"net/netip"
	"slices"

	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

var backendRules = []Rule{
	{ID: "BG060", Name: "control-plane-backend", Severity: Error, Summary: "A route reaches a namespace of the cluster's own control plane, or a port of an API server, a kubelet or etcd.",
		Remedy: "put a narrow service of its own before it", check: eachBackend(controlPlaneBackend)},
	{ID: "BG061", Name: "metadata-backend", Severity: Error, Summary: "A route reaches a link-local address or a cloud's metadata service, which hands out credentials.",
		Remedy: "remove the endpoint", check: eachBackend(metadataBackend)},
	{ID: "BG062", Name: "loopback-backend", Severity: Warning, Summary: "A route reaches loopback: what listens there trusts whoever reaches it, as a rule.",
		Remedy: "bind the service to an address of its own, or say in a suppression which service this is", check: eachBackend(loopbackBackend)},
	{ID: "BG063", Name: "no-endpoints", Severity: Warning, Summary: "A backend has no endpoint that is ready in the manifests, although these hold EndpointSlices: on the day it answers 503.",
		Remedy: "add an EndpointSlice for the Service", check: eachBackend(noEndpoints)},
	{ID: "BG064", Name: "backend-elsewhere", Severity: Info, Summary: "A route reaches a Service of another namespace: its reviewers are others.",
		Remedy: "move the route to the Service's namespace, where its owners review it", check: eachBackend(backendElsewhere)},
}

func eachBackend(check func(r *run, rt *posture.Route, field string, b posture.Backend)) func(*run) {
	return eachRoute(func(r *run, rt *posture.Route) {
		for _, b := range r.Backends(rt) {
			check(r, rt, b.Field, b)
		}
	})
}

var (
	systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}
	systemPorts      = map[uint16]string{2379: "etcd", 2380: "etcd", 6443: "the API server", 10250: "the kubelet", 10255: "the kubelet", 10257: "the controller manager", 10259: "the scheduler"}
	// metadataAddresses that are not link-local anyway.
	metadataAddresses = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192")}
)

func controlPlaneBackend(r *run, rt *posture.Route, field string, b posture.Backend) {
	if slices.Contains(systemNamespaces, b.Service.Namespace) {
		r.add(routeKey(rt), field, "Service %s is in a namespace of the control plane", b.Service)
		return
	}
	if b.Service.Namespace == "default" && b.Service.Name == "kubernetes" {
		r.add(routeKey(rt), field, "Service %s is the API server", b.Service)
		return
	}
	for _, e := range b.Endpoints {
		if what := systemPorts[e.Port()]; what != "" {
			r.add(sliceKey(e), "endpoints", "%s of Service %s is the port of %s", e, b.Service, what)
		}
	}
}

func sliceKey(e posture.Endpoint) source.ObjectKey { return objectKey("EndpointSlice", e.Slice) }

func metadataBackend(r *run, _ *posture.Route, _ string, b posture.Backend) {
	for _, e := range b.Endpoints {
		if ip := e.Addr().Unmap(); ip.IsLinkLocalUnicast() || slices.Contains(metadataAddresses, ip) {
			r.add(sliceKey(e), "endpoints", "%s of Service %s is link-local or a metadata service", e, b.Service)
		}
	}
}

func loopbackBackend(r *run, _ *posture.Route, _ string, b posture.Backend) {
	for _, e := range b.Endpoints {
		if e.Addr().Unmap().IsLoopback() {
			r.add(sliceKey(e), "endpoints", "%s of Service %s is on loopback", e, b.Service)
		}
	}
}

func noEndpoints(r *run, rt *posture.Route, field string, b posture.Backend) {
	if b.Object != nil && len(b.Endpoints) == 0 && len(r.Objects.EndpointSlices) > 0 {
		r.add(routeKey(rt), field, "Service %s has no endpoint for port %d", b.Service, b.Port)
	}
}

func backendElsewhere(r *run, rt *posture.Route, field string, b posture.Backend) {
	if b.Service.Namespace != rt.Key.Namespace {
		r.add(routeKey(rt), field, "Service %s is in another namespace", b.Service)
	}
}
