package grpcroute

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// TestAGRPCRouteAsAnHTTPRoute: whatever a GRPCRoute says is in the HTTPRoute, in the
// words of that kind.
func TestAGRPCRouteAsAnHTTPRoute(t *testing.T) {
	const grpc = `
metadata: {namespace: pay, name: db, labels: {breakglass.dev/role: db}}
spec:
  parentRefs: [{name: door, sectionName: tls}]
  hostnames: [db.example.com]
  rules:
  - name: failover
    matches:
    - method: {service: db.v1.Admin, method: Failover}
      headers: [{name: x-team, value: db}, {name: x-shard, type: RegularExpression, value: "[0-9]+"}]
    - method: {service: db.v1.Admin}
    - method: {method: Failover.Now}
    - method: {type: RegularExpression, service: "db|pg", method: "Get.*"}
    - method: {type: RegularExpression, method: "Get.*"}
    - {}
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: "1"}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}, percent: 10}}
    - {type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}
    backendRefs:
    - {name: db, port: 80, weight: 3, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: y, value: "2"}]}}]}
    sessionPersistence: {sessionName: s}
  - {}
`
	const http = `
metadata: {namespace: pay, name: db, labels: {breakglass.dev/role: db}}
spec:
  parentRefs: [{name: door, sectionName: tls}]
  hostnames: [db.example.com]
  rules:
  - name: failover
    matches:
    - path: {type: Exact, value: /db.v1.Admin/Failover}
      method: POST
      headers: [{name: x-team, value: db}, {name: x-shard, type: RegularExpression, value: "[0-9]+"}]
    - {path: {type: PathPrefix, value: /db.v1.Admin}, method: POST}
    - {path: {type: RegularExpression, value: '/[^/]+/Failover\.Now'}, method: POST}
    - {path: {type: RegularExpression, value: "/(?:db|pg)/(?:Get.*)"}, method: POST}
    - {path: {type: RegularExpression, value: "/[^/]+/(?:Get.*)"}, method: POST}
    - {path: {type: PathPrefix, value: /}, method: POST}
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: "1"}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}, percent: 10}}
    - {type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}
    backendRefs:
    - {name: db, port: 80, weight: 3, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: y, value: "2"}]}}]}
    sessionPersistence: {sessionName: s}
  - matches: [{path: {type: PathPrefix, value: /}, method: POST}]
`
	var in gwv1.GRPCRoute
	var want gwv1.HTTPRoute
	for text, obj := range map[string]any{grpc: &in, http: &want} {
		if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
			t.Fatal(err)
		}
	}
	in.Status.Parents = []gwv1.RouteParentStatus{{Conditions: []metav1.Condition{{}}}}
	got, err := yaml.Marshal(HTTP(&in))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := yaml.Marshal(want); err != nil || string(got) != string(text) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, text)
	}
}
