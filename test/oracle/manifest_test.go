//go:build envoy

package oracle

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// object is JSON, which is YAML too.
type object = map[string]any

func doc(o object) string { return string(must(json.Marshal(o))) + "\n" }

func gateway(kind string, metadata, spec object) string {
	return doc(object{"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

func breakglass(kind string, metadata, spec object) string {
	return doc(object{"apiVersion": "breakglass.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

// manifests of everything but the activations.
func (w *world) manifests(ports [3]int) []string {
	out := []string{w.policyYAML(), testbed.Class("emergency", "emergency"), w.gatewayYAML(ports)}
	for _, r := range w.Routes {
		if !r.Deleted {
			out = append(out, r.yaml())
		}
	}
	return out
}

func (w *world) policyYAML() string {
	p := &w.Policy
	issuers, roles := []object{}, []object{}
	for _, i := range p.Issuers {
		set := jose.JSONWebKeySet{}
		for _, kid := range i.Keys {
			set.Keys = append(set.Keys, w.keys[i.Name+"/"+kid].public())
		}
		issuers = append(issuers, object{
			"name": i.Name, "issuer": i.URL, "audiences": i.Audiences, "algorithms": i.Algorithms,
			"maxTokenLifetime": text(i.MaxLifetime), "jwks": object{"inline": string(must(json.Marshal(set)))},
		})
	}
	for _, r := range p.Roles {
		grants := []object{}
		for _, g := range r.Grants {
			claims := []object{}
			for _, c := range g.Claims {
				claims = append(claims, object{"path": c.Path, "anyOf": c.AnyOf})
			}
			grants = append(grants, object{"issuer": g.Issuer, "claims": claims})
		}
		o := object{"name": r.Name, "grants": grants}
		if r.Max > 0 {
			o["maxDuration"] = text(r.Max)
		}
		if len(r.Hostnames) > 0 {
			o["hostnames"] = r.Hostnames
		}
		if len(r.Namespaces) > 0 {
			o["namespaces"] = r.Namespaces
		}
		roles = append(roles, o)
	}
	s := p.Scope
	return breakglass("EmergencyPolicy", object{"name": "emergency"}, object{
		"issuers": issuers, "roles": roles, "suspended": p.Suspended,
		"limits": object{"maxDuration": text(p.Limit), "drillMaxDuration": text(p.Drill), "defaultDuration": "1s", "maxOpen": 1000, "maxPerDay": 1000},
		"scope":  object{"allowWildcardHostnames": s.Wildcards, "allowCatchAllPath": s.CatchAll, "allowAnyMethod": s.AnyMethod, "allowUnlabelled": s.Unlabelled},
	})
}

// text of a duration as Gateway API takes it (GEP-2257).
func text(d time.Duration) string {
	return fmt.Sprintf("%ds%dms", d/time.Second, d%time.Second/time.Millisecond)
}

func (w *world) gatewayYAML(ports [3]int) string {
	listeners := []object{}
	for _, l := range w.Listeners {
		o := object{"name": l.Name, "port": ports[l.Port], "protocol": "HTTP"}
		if l.Hostname != "" {
			o["hostname"] = l.Hostname
		}
		if l.All {
			o["allowedRoutes"] = object{"namespaces": object{"from": "All"}}
		}
		if l.Port == portTLS {
			o["protocol"], o["tls"] = "HTTPS", object{"certificateRefs": []object{{"name": "door"}}}
		}
		listeners = append(listeners, o)
	}
	return gateway("Gateway", object{"name": "door", "namespace": gatewayNamespace}, object{"gatewayClassName": "emergency", "listeners": listeners})
}

func (r *route) yaml() string {
	meta := object{"name": r.Name, "namespace": r.Namespace}
	if r.Label != "" {
		meta["labels"] = object{"breakglass.dev/role": r.Label}
	}
	parent := object{"name": "door", "namespace": gatewayNamespace}
	if r.Section != "" {
		parent["sectionName"] = r.Section
	}
	rules := []object{}
	for _, ru := range r.Rules {
		matches := []object{}
		for _, m := range ru.Matches {
			matches = append(matches, m.object())
		}
		o := object{"matches": matches, "backendRefs": []object{{"name": ru.Service, "port": 80}}}
		if ru.Name != "" {
			o["name"] = ru.Name
		}
		if rw := ru.Rewrite; rw != nil {
			path := object{"type": "ReplaceFullPath", "replaceFullPath": rw.To}
			if rw.Prefix {
				path = object{"type": "ReplacePrefixMatch", "replacePrefixMatch": rw.To}
			}
			o["filters"] = []object{{"type": "URLRewrite", "urlRewrite": object{"path": path}}}
		}
		rules = append(rules, o)
	}
	spec := object{"parentRefs": []object{parent}, "rules": rules}
	if len(r.Hosts) > 0 {
		spec["hostnames"] = r.Hosts
	}
	return gateway("HTTPRoute", meta, spec)
}

func (m match) object() object {
	o := object{"path": object{"type": m.Kind, "value": m.Path}}
	if m.Method != "" {
		o["method"] = m.Method
	}
	pairs := func(key string, ps []pair) {
		var list []object
		for _, p := range ps {
			kind := "Exact"
			if p.Regex {
				kind = "RegularExpression"
			}
			list = append(list, object{"name": p.Name, "value": p.Value, "type": kind})
		}
		if list != nil {
			o[key] = list
		}
	}
	pairs("headers", m.Headers)
	pairs("queryParams", m.Queries)
	return o
}

func (a *act) spec() object {
	targets := []object{}
	for _, t := range a.Targets {
		o := object{"name": t.Route}
		if t.Rule != "" {
			o["sectionName"] = t.Rule
		}
		targets = append(targets, o)
	}
	spec := object{"targetRefs": targets, "role": a.Role, "reason": "a test", "duration": text(a.Duration)}
	if a.Drill {
		spec["drill"] = true
	} else {
		spec["incident"] = "INC-1"
	}
	if !a.NotAfter.IsZero() {
		spec["notAfter"] = a.NotAfter.UTC().Format(time.RFC3339)
	}
	if a.Revoked {
		spec["revoked"] = true
	}
	return spec
}

func (a *act) yaml() string {
	return breakglass("Activation", object{"name": a.Name, "namespace": a.Namespace}, a.spec())
}

// backends are Services of both namespaces, reached at these ports.
func backendsYAML(ports map[string]int) []string {
	var out []string
	for name, port := range ports {
		for _, ns := range []string{gatewayNamespace, otherNamespace} {
			meta := object{"name": name, "namespace": ns}
			out = append(out, doc(object{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": object{"ports": []object{{"name": "http", "port": 80}}}}),
				doc(object{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": object{"name": name, "namespace": ns, "labels": object{"kubernetes.io/service-name": name}},
					"addressType": "IPv4", "ports": []object{{"name": "http", "port": port}}, "endpoints": []object{{"addresses": []string{"127.0.0.1"}}}}))
		}
	}
	return out
}
