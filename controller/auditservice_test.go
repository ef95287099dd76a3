package controller

import (
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

func TestTheAuditLogServiceHasACertificateThatIsRenewed(t *testing.T) {
	now := time.Now()
	ca, _, err := (*pki.Authority)(nil).Rotate(now)
	if err != nil {
		t.Fatal(err)
	}
	scheme := newScheme()
	f := &fleets{
		client: fake.NewClientBuilder().WithScheme(scheme).Build(), scheme: scheme, log: slog.New(slog.DiscardHandler),
		namespace: "breakglass-system", now: func() time.Time { return now }, audit: "breakglass-audit.breakglass-system.svc:18001",
	}
	subject := pki.AuditServer("breakglass-audit.breakglass-system.svc")
	read := func() (map[string][]byte, string) {
		t.Helper()
		if err := f.auditService(t.Context(), ca); err != nil {
			t.Fatal(err)
		}
		var secret corev1.Secret
		var trust corev1.ConfigMap
		if err := f.client.Get(t.Context(), types.NamespacedName{Namespace: f.namespace, Name: "breakglass-audit-tls"}, &secret); err != nil {
			t.Fatal(err)
		}
		if err := f.client.Get(t.Context(), types.NamespacedName{Namespace: f.namespace, Name: "breakglass-audit-ca"}, &trust); err != nil {
			t.Fatal(err)
		}
		if !ca.Fresh(secret.Data, subject, now) {
			t.Error("the certificate is not fresh")
		}
		return secret.Data, trust.Data["ca.crt"]
	}
	first, trusted := read()
	if trusted != string(ca.Trusted()) {
		t.Error("readers are not told whom to trust")
	}
	if again, _ := read(); string(again["tls.crt"]) != string(first["tls.crt"]) {
		t.Error("a fresh certificate was replaced")
	}
	now = now.Add(17 * time.Hour)
	if later, _ := read(); string(later["tls.crt"]) == string(first["tls.crt"]) {
		t.Error("an old certificate was kept")
	}
	if ca, _, err = ca.Rotate(now.Add(250 * 24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, both := read(); both == trusted || both != string(ca.Trusted()) {
		t.Error("readers are not told of the successor of the CA")
	}
}

func TestAReplicaHasACertificateAsAClientOfTheAuditLogService(t *testing.T) {
	o := Options{Namespace: "breakglass-system", Pod: "breakglass-controller-1", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	a := newAuthority(o, time.Now, func() bool { return true })
	a.changed = func() {}
	if _, err := a.clientTLS("breakglass-audit.breakglass-system.svc"); err == nil {
		t.Error("there is a certificate before there is a CA")
	}
	ca, _, err := (*pki.Authority)(nil).Rotate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.use(ca); err != nil {
		t.Fatal(err)
	}
	config, err := a.clientTLS("breakglass-audit.breakglass-system.svc")
	if err != nil {
		t.Fatal(err)
	}
	uris := config.Certificates[0].Leaf.URIs
	if len(uris) != 1 || uris[0].String() != "spiffe://breakglass.dev/controller/breakglass-system/breakglass-controller-1" {
		t.Errorf("it is %v", uris)
	}
}
