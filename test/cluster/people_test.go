//go:build cluster

package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// person makes somebody whom the API server knows by a certificate, and who may nothing. What is returned is his
// kubeconfig.
func person(ctx context.Context, name string) string {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	Expect(err).NotTo(HaveOccurred())
	private, err := x509.MarshalECPrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	apply(ctx, "default", fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec: {signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], request: %s}
`, name, encode("CERTIFICATE REQUEST", request)))
	kubectl(ctx, "certificate", "approve", name)
	kubectl(ctx, "wait", "certificatesigningrequest/"+name, "--for=jsonpath={.status.certificate}", "--timeout=1m")
	certificate := kubectl(ctx, "get", "certificatesigningrequest/"+name, "-o", "jsonpath={.status.certificate}")
	kubectl(ctx, "delete", "certificatesigningrequest/"+name)

	admin := kubectl(ctx, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server} {.clusters[0].cluster.certificate-authority}")
	server, ca, _ := strings.Cut(admin, " ")
	path := filepath.Join(GinkgoT().TempDir(), name+".kubeconfig")
	Expect(os.WriteFile(path, fmt.Appendf(nil, `
apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: %[3]s, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: cluster, context: {cluster: cluster, user: %[3]s}}]
current-context: cluster
`, server, ca, name, certificate, encode("EC PRIVATE KEY", private)), 0o600)).To(Succeed())
	return path
}
