package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

// Of the audit log service, which the chart installs.
const (
	// AuditServiceName is that of its Service.
	AuditServiceName = "breakglass-audit"
	// auditSecretName is the Secret with its certificate, which its pod waits for.
	auditSecretName = "breakglass-audit-tls"
	// auditTrustName is the ConfigMap by which readers know its certificate.
	auditTrustName = "breakglass-audit-ca"
)

// auditService gives the audit log service its certificate, and readers what to know
// it by. Its pod sees the new ones without a restart.
func (f *fleets) auditService(ctx context.Context, ca *pki.Authority) error {
	if f.audit == "" {
		return nil
	}
	subject := pki.AuditServer(AuditServiceName + "." + f.namespace + ".svc")
	if ca.Fresh(f.auditData, subject, f.now()) {
		return nil // it was seen to be there less than half a minute ago
	}
	var secret corev1.Secret
	err := f.client.Get(ctx, types.NamespacedName{Namespace: f.namespace, Name: auditSecretName}, &secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("certificate of the audit log service: %w", err)
	}
	data := secret.Data
	if !ca.Fresh(data, subject, f.now()) {
		if data, err = ca.Issue(subject, f.now()); err != nil {
			return fmt.Errorf("certificate of the audit log service: %w", err)
		}
		meta := metav1.ObjectMeta{Namespace: f.namespace, Name: auditSecretName, Labels: auditLabels()}
		if err := f.applyObject(ctx, &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: data}); err != nil {
			return err
		}
		f.log.Info("the audit log service has a new certificate", "until", pki.RenewAt(data))
	}
	trust := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: auditTrustName, Labels: auditLabels()},
		Data:       map[string]string{pki.KeyTrusted: string(ca.Trusted())},
	}
	if err := f.applyObject(ctx, trust); err != nil {
		return err
	}
	f.auditData = data
	return nil
}

// auditLabels have no name of a Gateway: no sweep takes the objects away.
func auditLabels() map[string]string {
	return map[string]string{fleet.LabelManagedBy: fleet.ManagedBy, "app.kubernetes.io/component": "audit"}
}
