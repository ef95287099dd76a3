package jumphost

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// apiServer has these objects, by kind.
type apiServer struct {
	objects map[string][]runtime.Object
	// fail is what listing a kind ends with.
	fail map[string]error
}

func (a *apiServer) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, k := range kinds() {
		empty := k.list()
		if name := kindName(k.obj); sameType(empty, list) {
			if err := a.fail[name]; err != nil {
				return err
			}
			return meta.SetList(list, a.objects[name])
		}
	}
	return errors.New("no such kind")
}

func (a *apiServer) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	for _, o := range a.objects[kindName(into)] {
		if from, is := o.(*corev1.ConfigMap); is && client.ObjectKeyFromObject(from) == key {
			from.DeepCopyInto(into.(*corev1.ConfigMap))
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "objects"}, key.Name)
}

func sameType(a, b client.ObjectList) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b)
}

func kindName(o client.Object) string {
	key, _ := source.KeyOf(o)
	return key.Kind
}

func (a *apiServer) add(objects ...client.Object) {
	for _, o := range objects {
		a.objects[kindName(o)] = append(a.objects[kindName(o)], o)
	}
}

// door is a cluster with a class, a policy and one Gateway that is accepted.
func door() *apiServer {
	a := &apiServer{objects: map[string][]runtime.Object{}, fail: map[string]error{}}
	inline := `{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
	a.add(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doors"}},
		&gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "breakglass"}, Spec: gwv1.GatewayClassSpec{ControllerName: v1alpha1.ControllerName,
			ParametersRef: &gwv1.ParametersReference{Group: v1alpha1.GroupName, Kind: "EmergencyPolicy", Name: "emergency"}}},
		&v1alpha1.EmergencyPolicy{ObjectMeta: metav1.ObjectMeta{Name: "emergency"}, Spec: v1alpha1.EmergencyPolicySpec{
			Issuers: []v1alpha1.Issuer{{Name: "sso", Issuer: "https://sso.invalid", Audiences: []string{"breakglass"}, JWKS: v1alpha1.JWKSSource{Inline: &inline}}},
			Roles:   []v1alpha1.Role{{Name: "db", Grants: []v1alpha1.Grant{{Issuer: "sso", Claims: []v1alpha1.ClaimMatch{{Path: []string{"groups"}, AnyOf: []string{"sre"}}}}}}},
		}},
		gatewayOf("main", metav1.ConditionTrue, "Accepted"),
	)
	return a
}

func gatewayOf(name string, accepted metav1.ConditionStatus, reason string) *gwv1.Gateway {
	return &gwv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: name},
		Spec:       gwv1.GatewaySpec{GatewayClassName: "breakglass", Listeners: []gwv1.Listener{{Name: "http", Port: 8080, Protocol: gwv1.HTTPProtocolType}}},
		Status:     gwv1.GatewayStatus{Conditions: []metav1.Condition{{Type: "Accepted", Status: accepted, Reason: reason, Message: "because"}}},
	}
}

func keysOf(e *Export) string {
	var out []string
	for _, o := range e.Set.All() {
		out = append(out, o.Key.String())
	}
	return strings.Join(out, ", ")
}

func TestOnlyGatewaysThatTheClusterAcceptsAreExported(t *testing.T) {
	a := door()
	a.add(gatewayOf("elsewhere", metav1.ConditionFalse, "NamespaceNotAllowed"), gatewayOf("unseen", metav1.ConditionUnknown, "Pending"),
		gatewayOf("badpolicy", metav1.ConditionFalse, "InvalidParameters"))
	foreign := gatewayOf("primary", metav1.ConditionTrue, "Accepted")
	foreign.Spec.GatewayClassName = "ingress"
	a.add(foreign)
	e, err := Read(context.Background(), a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := keysOf(e), "Namespace doors, GatewayClass breakglass, Gateway doors/badpolicy, Gateway doors/main, EmergencyPolicy emergency"; got != want {
		t.Errorf("exported %s\nwant     %s", got, want)
	}
	if got, want := strings.Join(e.Told, "\n"), "Gateway doors/elsewhere is left out: because\nGateway doors/unseen is left out: because"; got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}
}

// serve asks nobody but the Gateway, so what only the cluster refuses stays there.
func TestListenerSetsThatTheClusterLetsInAreExportedWithTheirRoutes(t *testing.T) {
	a := door()
	home, kind := gwv1.Namespace("doors"), gwv1.Kind("ListenerSet")
	a.objects["Gateway"][0].(*gwv1.Gateway).Spec.AllowedListeners = &gwv1.AllowedListeners{Namespaces: &gwv1.ListenerNamespaces{From: new(gwv1.NamespacesFromAll)}}
	add := func(namespace string, optedIn bool) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		if optedIn {
			ns.Labels = map[string]string{v1alpha1.EmergencyRoutesLabel: v1alpha1.EmergencyRoutesAllowed}
		}
		a.add(ns, &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "more"}, Spec: gwv1.ListenerSetSpec{
			ParentRef: gwv1.ParentGatewayReference{Name: "main", Namespace: &home},
			Listeners: []gwv1.ListenerEntry{{Name: "https", Port: 443, Protocol: gwv1.HTTPSProtocolType, TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}}}},
		}}, &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "r"}, Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Kind: &kind, Name: "more"}}},
			Rules:           []gwv1.HTTPRouteRule{{}},
		}})
	}
	add("in", true)
	add("out", false)
	e, err := Read(context.Background(), a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := keysOf(e); !strings.Contains(got, "ListenerSet in/more") || !strings.Contains(got, "HTTPRoute in/r") || strings.Contains(got, " out") {
		t.Errorf("exported %s", got)
	}
	told := strings.Join(e.Told, "\n")
	for _, want := range []string{"ListenerSet out/more is left out, as in the cluster: namespace out has not opted in", "ListenerSet in/more listens on port 443", "Secret in/cert is not exported: listener https of ListenerSet in/more needs"} {
		if !strings.Contains(told, want) {
			t.Errorf("no word of %q:\n%s", want, told)
		}
	}
}

func TestAuthoritiesOfClientsAreExportedAndNothingElseOfTheirConfigMaps(t *testing.T) {
	a := door()
	g := gatewayOf("mutual", metav1.ConditionTrue, "Accepted")
	validation := func(names ...string) *gwv1.FrontendTLSValidation {
		v := &gwv1.FrontendTLSValidation{Mode: gwv1.AllowValidOnly}
		for _, name := range names {
			v.CACertificateRefs = append(v.CACertificateRefs, gwv1.ObjectReference{Kind: "ConfigMap", Name: gwv1.ObjectName(name)})
		}
		return v
	}
	g.Spec.TLS = &gwv1.GatewayTLSConfig{Frontend: &gwv1.FrontendTLSConfig{
		Default: gwv1.TLSConfig{Validation: validation("ca", "gone")},
		PerPort: []gwv1.TLSPortConfig{{Port: 8443, TLS: gwv1.TLSConfig{Validation: validation("other")}}},
	}}
	a.add(g)
	for _, name := range []string{"ca", "other", "unnamed"} {
		a.add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: name}, Data: map[string]string{"ca.crt": name, "more": "x"}})
	}
	e, err := Read(context.Background(), a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := keysOf(e); !strings.Contains(got, "ConfigMap doors/ca, ConfigMap doors/other") || strings.Contains(got, "unnamed") {
		t.Errorf("exported %s", got)
	}
	for _, c := range e.Set.ConfigMaps {
		if len(c.Data) != 1 || c.Data["ca.crt"] != c.Name {
			t.Errorf("%s has %v", c.Name, c.Data)
		}
	}
	if len(e.Told) != 1 || !strings.Contains(e.Told[0], "ConfigMap doors/gone") {
		t.Errorf("told %v", e.Told)
	}
}

func TestNothingIsExportedOfWhatIsNotCompleteOrNotValid(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*apiServer)
		want   string
	}{
		"no Gateway": {func(a *apiServer) { delete(a.objects, "Gateway") }, "no emergency Gateway"},
		"a kind that may not be read": {func(a *apiServer) {
			a.fail["Service"] = apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", errors.New("no"))
		}, "list *v1.Service"},
		"a kind that is not there": {func(a *apiServer) {
			a.fail["HTTPRoute"] = apierrors.NewNotFound(schema.GroupResource{Resource: "httproutes"}, "")
		}, "list *v1.HTTPRoute"},
		"an object that serve does not take": {func(a *apiServer) {
			parent := gwv1.ParentReference{Name: "main"}
			bad := gwv1.PathMatchType("Newer")
			a.add(&gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "newer"}, Spec: gwv1.HTTPRouteSpec{
				CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{parent}},
				Rules:           []gwv1.HTTPRouteRule{{Matches: []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Type: &bad}}}}},
			}})
		}, "serve would not take this: HTTPRoute doors/newer: spec.rules[0].matches[0].path"},
	} {
		t.Run(name, func(t *testing.T) {
			a := door()
			c.change(a)
			e, err := Read(context.Background(), a, Options{})
			if e != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAClusterWithoutReferenceGrantsIsExported(t *testing.T) {
	a := door()
	a.fail["ReferenceGrant"] = apierrors.NewNotFound(schema.GroupResource{Resource: "referencegrants"}, "")
	if _, err := Read(context.Background(), a, Options{}); err != nil {
		t.Error(err)
	}
}
