package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

func TestNothingSecretIsAmongTheManifestsThatAreTold(t *testing.T) {
	sec := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: []byte("the private key, in the same file"), corev1.TLSPrivateKeyKey: []byte("the private key"), "jwks.json": []byte("the keys"),
	}, StringData: map[string]string{"more": "the password"}}
	sec.Namespace, sec.Name = "door", "tls"
	sec.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "the copy", v1alpha1.LintIgnoreAnnotation: "BG054 rotated by hand"}
	key := source.ObjectKey{Kind: "Secret", Namespace: "door", Name: "tls"}
	l := &Engine{opts: Options{ConfigDir: "repo"}}
	l.view.Store(&view{set: source.NewSet([]source.Object{{Key: key, Object: sec, Origin: source.Origin{File: "repo/tls.yaml", Line: 3}}})})
	got, err := backend{l}.Objects(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 || got.Items[0].File != "tls.yaml" || got.Items[0].Line != 3 || !strings.HasPrefix(got.ConfigDir, "/") || !strings.HasSuffix(got.ConfigDir, "/repo") {
		t.Fatalf("told: %+v", got)
	}
	_, obj, err := source.FromManifest(got.Items[0].Manifest)
	if err != nil {
		t.Fatal(err)
	}
	public := obj.(*corev1.Secret)
	if len(public.Data[corev1.TLSCertKey]) != 0 || len(public.Data) != 1 || public.Type != corev1.SecretTypeTLS {
		t.Errorf("told: %+v", public)
	}
	if len(public.Annotations) != 1 || public.Annotations[v1alpha1.LintIgnoreAnnotation] == "" || len(public.StringData) != 0 {
		t.Errorf("told: %+v", public)
	}
	if item := got.Items[0]; !item.Withheld || len(item.Data) != 3 || item.Data[corev1.TLSCertKey] != "" || item.Data[corev1.TLSPrivateKeyKey] != "" {
		t.Errorf("told: %+v", item)
	}
	if len(sec.Data) != 3 {
		t.Error("the object in use was changed")
	}
	if kept := l.view.Load().set.Secrets[types.NamespacedName{Namespace: "door", Name: "tls"}]; kept != sec {
		t.Error("another object is in use now")
	}
}

func TestNoPrivateKeyOfAPolicyOrAConfigMapIsTold(t *testing.T) {
	private := `{"keys":[{"kty":"EC","d":"hunter2"}]}`
	p := &v1alpha1.EmergencyPolicy{Spec: v1alpha1.EmergencyPolicySpec{Issuers: []v1alpha1.Issuer{{Name: "sso", JWKS: v1alpha1.JWKSSource{Inline: &private}}}}}
	p.Name = "emergency"
	c := &corev1.ConfigMap{Data: map[string]string{"jwks.json": private}}
	c.Namespace, c.Name = "door", "keys"
	l := &Engine{}
	l.view.Store(&view{set: source.NewSet([]source.Object{
		{Key: source.ObjectKey{Kind: "EmergencyPolicy", Name: "emergency"}, Object: p},
		{Key: source.ObjectKey{Kind: "ConfigMap", Namespace: "door", Name: "keys"}, Object: c},
	})})
	got, err := backend{l}.Objects(context.Background())
	if err != nil || len(got.Items) != 2 {
		t.Fatalf("told: %+v, %v", got, err)
	}
	for _, item := range got.Items {
		if !item.Withheld || strings.Contains(string(item.Manifest), "hunter2") {
			t.Errorf("told: %s", item.Manifest)
		}
	}
}

func TestManifestsThatAreNotLoadedYetAreNotTold(t *testing.T) {
	_, err := backend{&Engine{}}.Objects(context.Background())
	var told *control.Error
	if !errors.As(err, &told) || told.Code != control.Unavailable {
		t.Errorf("error %v", err)
	}
}
