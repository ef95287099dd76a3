package auditlog

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The virtual resource that readers must be allowed to get, in the namespace of the
// release.
const (
	readGroup    = "breakglass.dev"
	readResource = "auditlogs"
	// ReaderRole is the ClusterRole of the chart that allows it.
	ReaderRole = "breakglass-auditor"
)

// APIServer judges readers as the API server of the cluster would: it has no user
// and no rule of its own. While the API server is down nobody can be judged.
type APIServer struct {
	client    kubernetes.Interface
	namespace string

	mu      sync.Mutex
	clients *x509.CertPool
	read    time.Time
}

// NewAPIServer is the judge for the log in the namespace of a release.
func NewAPIServer(client kubernetes.Interface, namespace string) *APIServer {
	return &APIServer{client: client, namespace: namespace}
}

// Who has shown a certificate of the cluster's authority of clients, as in most
// kubeconfigs of administrators, or a token.
func (a *APIServer) Who(ctx context.Context, r *http.Request) (who authenticationv1.UserInfo, err error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		known := false
		if who, known, err = a.byCertificate(ctx, r.TLS.PeerCertificates); known || err != nil {
			return who, err
		}
	}
	token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !is || token == "" {
		return who, fmt.Errorf("%w: show a client certificate of this cluster or a bearer token, as the kubeconfig has one for the API server", ErrUnknown)
	}
	review, err := a.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return who, fmt.Errorf("the API server cannot say who you are, so nothing is handed out: %w", err)
	case !review.Status.Authenticated || review.Status.User.Username == "":
		return who, fmt.Errorf("%w: the API server does not take the token: log in to the cluster again", ErrUnknown)
	}
	return review.Status.User, nil
}

// byCertificate reads a client's certificate as the API server does: the common
// name is the user, organizations are groups. That its key is in the hand of whoever
// connects, TLS has checked.
func (a *APIServer) byCertificate(ctx context.Context, chain []*x509.Certificate) (who authenticationv1.UserInfo, known bool, err error) {
	roots, err := a.authority(ctx)
	if err != nil {
		return who, false, err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || leaf.Subject.CommonName == "" {
		return who, false, nil // he may have a token
	}
	return authenticationv1.UserInfo{Username: leaf.Subject.CommonName, Groups: append(leaf.Subject.Organization, "system:authenticated")}, true, nil
}

// authorityFor is how long the authority of clients is believed to be the same.
const authorityFor = 30 * time.Second

// authority of clients, as the API server tells its extensions.
func (a *APIServer) authority(ctx context.Context) (*x509.CertPool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients != nil && time.Since(a.read) < authorityFor {
		return a.clients, nil
	}
	const namespace, name, key = "kube-system", "extension-apiserver-authentication", "client-ca-file"
	m, err := a.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("the cluster's authority of clients (ConfigMap %s/%s) cannot be read, so nothing is handed out: %w", namespace, name, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(m.Data[key])) // without one, nobody has a certificate
	a.clients, a.read = pool, time.Now()
	return pool, nil
}

// May asks whether he may get auditlogs.breakglass.dev.
func (a *APIServer) May(ctx context.Context, who authenticationv1.UserInfo) (may bool, why string, err error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range who.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.Username, Groups: who.Groups, UID: who.UID, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: a.namespace, Verb: "get", Group: readGroup, Resource: readResource},
	}}, metav1.CreateOptions{})
	if err != nil {
		return false, "", fmt.Errorf("the API server cannot say whether you may, so nothing is handed out: %w", err)
	}
	if review.Status.Allowed && !review.Status.Denied {
		return true, "", nil
	}
	return false, fmt.Sprintf("%s may not get %s.%s in namespace %s: ask for a RoleBinding to the ClusterRole %s there", who.Username, readResource, readGroup, a.namespace, ReaderRole), nil
}
