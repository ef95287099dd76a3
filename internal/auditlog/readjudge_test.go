package auditlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

// person has a certificate by an authority, which is his own if parent is nil.
func person(t *testing.T, name string, groups []string, usage x509.ExtKeyUsage, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: groups}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true, IsCA: parent == nil,
	}
	by, with := template, any(key)
	if parent != nil {
		by, with = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), with)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// cluster knows the token "good" and the authority of clients.
func cluster(ca *tls.Certificate) *fake.Clientset {
	c := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "extension-apiserver-authentication"},
		Data:       map[string]string{"client-ca-file": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}))},
	})
	c.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		review := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		if review.Spec.Token == "good" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
				Username: "carol", UID: "7", Groups: []string{"auditors"}, Extra: map[string]authenticationv1.ExtraValue{"a": {"b"}},
			}}
		}
		return true, review, nil
	})
	c.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		review := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		r := review.Spec.ResourceAttributes
		review.Status.Allowed = r.Namespace == "breakglass-system" && r.Verb == "get" && r.Group == "breakglass.dev" && r.Resource == "auditlogs" && r.Subresource == "" &&
			slices.Contains(review.Spec.Groups, "auditors") && (review.Spec.User != "carol" || review.Spec.UID == "7" && review.Spec.Extra["a"][0] == "b")
		return true, review, nil
	})
	return c
}

func TestTheAPIServerSaysWhoReadsAndWhetherHeMay(t *testing.T) {
	ca := person(t, "clients", nil, x509.ExtKeyUsageClientAuth, nil)
	judge := NewAPIServer(cluster(ca), "breakglass-system")
	for name, test := range map[string]struct {
		certificate *tls.Certificate
		token       string
		user        string // "": nobody knows
		may         bool
	}{
		"a certificate of a group that may":       {person(t, "alice", []string{"auditors", "sre"}, x509.ExtKeyUsageClientAuth, ca), "", "alice", true},
		"a certificate of somebody who may not":   {person(t, "bob", []string{"sre"}, x509.ExtKeyUsageClientAuth, ca), "", "bob", false},
		"a certificate goes before a token":       {person(t, "bob", nil, x509.ExtKeyUsageClientAuth, ca), "good", "bob", false},
		"a token":                                 {nil, "good", "carol", true},
		"a token, and a certificate of elsewhere": {person(t, "root", []string{"auditors"}, x509.ExtKeyUsageClientAuth, nil), "good", "carol", true},
		"a certificate of elsewhere":              {person(t, "root", []string{"auditors"}, x509.ExtKeyUsageClientAuth, nil), "", "", false},
		"a certificate that is a server's":        {person(t, "alice", []string{"auditors"}, x509.ExtKeyUsageServerAuth, ca), "", "", false},
		"a certificate without a name":            {person(t, "", []string{"auditors"}, x509.ExtKeyUsageClientAuth, ca), "", "", false},
		"a bad token":                             {nil, "bad", "", false},
		"nothing":                                 {nil, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.TLS = &tls.ConnectionState{}
			if test.certificate != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{test.certificate.Leaf}
			}
			if test.token != "" {
				r.Header.Set("Authorization", "Bearer "+test.token)
			}
			who, err := judge.Who(t.Context(), r)
			if test.user == "" {
				if !errors.Is(err, ErrUnknown) {
					t.Errorf("it is %q, error %v", who.Username, err)
				}
				return
			}
			if err != nil || who.Username != test.user {
				t.Fatalf("it is %q, error %v", who.Username, err)
			}
			may, why, err := judge.May(t.Context(), who)
			if err != nil || may != test.may || !may && !strings.Contains(why, "ask for a RoleBinding to the ClusterRole breakglass-auditor") {
				t.Errorf("may: %t %s, error %v", may, why, err)
			}
		})
	}
}

func TestWithoutAnAPIServerNobodyIsKnownAndNobodyMay(t *testing.T) {
	ca := person(t, "clients", nil, x509.ExtKeyUsageClientAuth, nil)
	c := cluster(ca)
	c.PrependReactor("*", "*", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	judge := NewAPIServer(c, "breakglass-system")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer good")
	if who, err := judge.Who(t.Context(), r); err == nil || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a token is %q, error %v", who.Username, err)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{person(t, "alice", nil, x509.ExtKeyUsageClientAuth, ca).Leaf}}
	if who, err := judge.Who(t.Context(), r); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a certificate is %q, error %v", who.Username, err)
	}
	if may, _, err := judge.May(t.Context(), authenticationv1.UserInfo{Username: "alice", Groups: []string{"auditors"}}); may || err == nil {
		t.Errorf("may: %t, error %v", may, err)
	}
}

// The listener reads its certificate for each connection, and takes clients with a
// certificate of whatever authority, and without.
func TestReadersConnectByTheCertificateThatIsThereNow(t *testing.T) {
	now := time.Now()
	authority, _, err := (*pki.Authority)(nil).Rotate(now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const name = "breakglass-audit.breakglass-system.svc"
	write := func() {
		t.Helper()
		data, err := authority.Issue(pki.AuditServer(name), now)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range data {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := newBench(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	b.Log = slog.New(slog.DiscardHandler)
	go func() { done <- b.Serve(ctx, l, dir) }()
	serial := func(certificates ...tls.Certificate) string {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{ServerName: name, RootCAs: authority.Pool(), Certificates: certificates, MinVersion: tls.VersionTLS13}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+"/v1/entries", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	write()
	first := serial()
	if again := serial(*person(t, "root", nil, x509.ExtKeyUsageClientAuth, nil)); again != first {
		t.Error("another certificate without a reason")
	}
	write()
	if serial() == first {
		t.Error("the new certificate is not in use")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
