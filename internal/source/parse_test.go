package source

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestADocumentIsCheckedOnceForAsLongAsItsTextIsTheSame(t *testing.T) {
	first, err := parse([]byte(configMap("a", "1")+"---\n"+configMap("b", "1")), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := parse([]byte(configMap("c", "1")+"---\n"+configMap("b", "1")), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	if second[0].document == first[0].document || second[1].document != first[1].document {
		t.Error("a document that did not change was checked again, or one that did was not")
	}
}

const everyKind = `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}
- apiVersion: v1
  kind: Service
  metadata: {name: svc, namespace: ns}
  spec: {ports: [{port: 80}]}
  status: {loadBalancer: {}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: svc-1, namespace: ns, labels: {kubernetes.io/service-name: svc}}
  addressType: IPv4
  ports: [{port: 8080}]
  endpoints: [{addresses: [10.0.0.1]}]
- {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: ns}, data: {a: aGk=, b: aGk=}, stringData: {b: ho}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: ns}, data: {a: b}}
- apiVersion: gateway.networking.k8s.io/v1
  kind: GatewayClass
  metadata: {name: gc}
  spec: {controllerName: breakglass.dev/gateway-controller}
- apiVersion: gateway.networking.k8s.io/v1
  kind: Gateway
  metadata: {name: gw, namespace: ns}
  spec: {gatewayClassName: gc, listeners: [{name: http, port: 80, protocol: HTTP}]}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: r, namespace: ns}
  spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: svc, port: 80}]}]}
- apiVersion: gateway.networking.k8s.io/v1beta1
  kind: ReferenceGrant
  metadata: {name: old, namespace: ns}
  spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: "", kind: Service}]}
- apiVersion: gateway.networking.k8s.io/v1
  kind: ReferenceGrant
  metadata: {name: new, namespace: ns}
  spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: "", kind: Service}]}
- apiVersion: breakglass.dev/v1alpha1
  kind: EmergencyPolicy
  metadata: {name: p}
  spec:
    issuers: [{name: sso, issuer: i, audiences: [a], jwks: {inline: '{}'}}]
    roles: [{name: r, grants: [{issuer: sso, claims: [{path: [groups], anyOf: [x]}]}]}]
- apiVersion: breakglass.dev/v1alpha1
  kind: Activation
  metadata: {name: a, namespace: ns}
  spec: {targetRefs: [{name: r}], role: r, reason: x, drill: true}
`

func TestEveryKindIsReadWithItsDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "all.yaml")
	write(t, file, everyKind)
	s := Load(file)
	if !noProblems(s) || len(s.Origins) != 12 {
		t.Fatal(s.Problems, s.Origins)
	}
	in := func(name string) (n struct{ Namespace, Name string }) { n.Namespace, n.Name = "ns", name; return }
	svc := s.Services[in("svc")]
	if p := svc.Spec.Ports[0]; p.Protocol != corev1.ProtocolTCP || p.TargetPort.IntVal != 80 {
		t.Errorf("%+v", p)
	}
	if p := s.EndpointSlices[in("svc-1")].Ports[0]; *p.Name != "" || *p.Protocol != corev1.ProtocolTCP {
		t.Errorf("%+v", p)
	}
	if d := s.Secrets[in("s")]; string(d.Data["a"]) != "hi" || string(d.Data["b"]) != "ho" || d.StringData != nil || d.Type != corev1.SecretTypeOpaque {
		t.Errorf("%+v", d)
	}
	if s.Namespaces["ns"].Labels["kubernetes.io/metadata.name"] != "ns" {
		t.Error(s.Namespaces["ns"].Labels)
	}
	if r := s.HTTPRoutes[in("r")]; *r.Spec.Rules[0].Matches[0].Path.Value != "/" || *r.Spec.ParentRefs[0].Kind != "Gateway" {
		t.Errorf("%+v", r.Spec)
	}
	if g := s.ReferenceGrants[in("old")]; g.APIVersion != "gateway.networking.k8s.io/v1" || s.ReferenceGrants[in("new")] == nil {
		t.Errorf("%+v", g)
	}
	if s.Gateways[in("gw")] == nil || s.GatewayClasses["gc"] == nil || s.Policies["p"] == nil || s.ConfigMaps[in("c")] == nil || s.Activations[in("a")] == nil {
		t.Error("something is missing")
	}
	if o := s.Origins[ObjectKey{"ConfigMap", "ns", "c"}]; o.Line != 17 {
		t.Errorf("%+v", o)
	}
}

// Nothing that is read makes parse panic, no problem is without place or word,
// and every object that comes out validates once more.
func FuzzParse(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/problems/*.yaml")
	for _, in := range inputs {
		data, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range split(data) {
			f.Add(c.text)
		}
	}
	f.Add([]byte(everyKind))
	f.Add([]byte(activation("duration: 10m")))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"a":"b"}}`))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [a]\n: b\n--- !!binary aGk=\n...\n%TAG ! x\n---\n<<: *x"))
	f.Add([]byte("kind: List\napiVersion: v1\nitems: &i [{kind: List, apiVersion: v1, items: *i}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := parse(data, nil, nil)
		if err != nil {
			if err.line < 1 || err.message == "" {
				t.Errorf("%+v", err)
			}
			return
		}
		for _, d := range docs {
			problems := d.problems
			for _, c := range d.objects {
				problems = append(problems, c.problems...)
				if (c.obj == nil) == (len(c.problems) == 0) {
					t.Errorf("%s: object %v, problems %v", c.key, c.obj, c.problems)
				}
				if c.obj != nil {
					if ps := ValidateObject(c.obj.DeepCopyObject(), nil); len(ps) > 0 {
						t.Errorf("%s does not validate: %v", c.key, ps)
					}
				}
			}
			for _, p := range problems {
				if p.Line < 0 || p.Message == "" {
					t.Errorf("%+v", p)
				}
			}
		}
	})
}
