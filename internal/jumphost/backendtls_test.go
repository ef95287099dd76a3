package jumphost

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func certificatePEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// secured is a door with a route to Service db, which two policies want to say how to
// reach: the older one counts.
func secured(t *testing.T) *apiServer {
	t.Helper()
	a := door()
	a.objects["Namespace"] = nil
	port, path, method := gwv1.PortNumber(443), "/db", gwv1.HTTPMethodGet
	route := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "db", Labels: map[string]string{v1alpha1.RoleLabel: "db"}}}
	route.Spec.ParentRefs = []gwv1.ParentReference{{Name: "main"}}
	route.Spec.Hostnames = []gwv1.Hostname{"db.example.com"}
	kind := gwv1.PathMatchExact
	route.Spec.Rules = []gwv1.HTTPRouteRule{{
		Matches:     []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Type: &kind, Value: &path}, Method: &method}},
		BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{Name: "db", Port: &port}}}},
	}}
	policy := func(name, service, ca string, age time.Duration) *gwv1.BackendTLSPolicy {
		p := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))}}
		p.Spec.TargetRefs = []gwv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gwv1.LocalPolicyTargetReference{Kind: "Service", Name: gwv1.ObjectName(service)}}}
		p.Spec.Validation = gwv1.BackendTLSPolicyValidation{Hostname: "db.internal", CACertificateRefs: []gwv1.LocalObjectReference{{Kind: "ConfigMap", Name: gwv1.ObjectName(ca)}}}
		return p
	}
	a.add(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doors", Labels: map[string]string{v1alpha1.EmergencyRoutesLabel: v1alpha1.EmergencyRoutesAllowed}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "db"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}},
		route, policy("a-younger", "db", "other", 0), policy("b-older", "db", "ca", time.Hour), policy("elsewhere", "web", "other", 0),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "other"}, Data: map[string]string{"ca.crt": certificatePEM(t)}},
	)
	return a
}

func TestOfTLSPoliciesThoseThatCountAreExportedWithTheirAuthoritiesOnly(t *testing.T) {
	a := secured(t)
	a.add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "ca"}, Data: map[string]string{"ca.crt": certificatePEM(t), "more": "x"}})
	e, err := Read(context.Background(), a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := keysOf(e)
	if !strings.Contains(got, "BackendTLSPolicy doors/b-older,") || !strings.Contains(got, "ConfigMap doors/ca,") || strings.Count(got, "BackendTLSPolicy")+strings.Count(got, "ConfigMap") != 2 {
		t.Errorf("exported %s", got)
	}
	for _, c := range e.Set.ConfigMaps {
		if len(c.Data) != 1 || c.Data["ca.crt"] == "" {
			t.Errorf("%s has %v", c.Name, c.Data)
		}
	}
	if len(e.Told) != 0 {
		t.Errorf("told %v", e.Told)
	}
}

func TestAPolicyWithoutAuthoritiesIsExportedAndTold(t *testing.T) {
	for name, text := range map[string]string{"does not exist": "", "there is a PRIVATE KEY among the certificates": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		a := secured(t)
		if text != "" {
			a.add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "ca"}, Data: map[string]string{"ca.crt": text}})
		}
		e, err := Read(context.Background(), a, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := keysOf(e); !strings.Contains(got, "BackendTLSPolicy doors/b-older") || strings.Contains(got, "ConfigMap") {
			t.Errorf("exported %s", got)
		}
		if len(e.Told) != 1 || !strings.Contains(e.Told[0], name) {
			t.Errorf("told %v, want %q", e.Told, name)
		}
	}
}
