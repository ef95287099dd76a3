package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// denied precedes the sentence of an admission policy.
const denied = "denied request: "

// explain is an error of the API server as one of ours, with what to do about it.
// What could not be done there (make Activations) takes a role.
func (c *Cluster) explain(err error, what, namespace, role string) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return c.unreachable(err)
	}
	message := status.Status().Message
	if _, sentence, found := strings.Cut(message, denied); found {
		return control.Errorf(control.Refused, "%s", sentence)
	}
	switch details := status.Status().Details; {
	case apierrors.IsUnauthorized(err):
		return control.Errorf(control.Forbidden, "the API server %s does not know who you are: log in to the cluster again, or name another --context", c.info.Where)
	case apierrors.IsForbidden(err):
		return forbidden(message, what, namespace, role)
	case apierrors.IsAlreadyExists(err) && details != nil:
		return control.Errorf(control.Refused, "the name %s/%s is spent: an Activation of that name exists; choose another with --name", namespace, details.Name)
	case apierrors.IsNotFound(err):
		return c.notFound(details, namespace)
	case apierrors.IsInvalid(err) && details != nil && len(details.Causes) > 0:
		return invalid(details.Causes)
	case status.Status().Code == http.StatusTooManyRequests || status.Status().Code >= http.StatusInternalServerError:
		return control.Errorf(control.Unavailable, "the API server %s cannot do it now: %s", c.info.Where, message)
	}
	return control.Errorf(control.Internal, "the API server %s: %s", c.info.Where, message)
}

func invalid(causes []metav1.StatusCause) error {
	var lines []string
	for _, cause := range causes {
		lines = append(lines, strings.TrimPrefix(cause.Field+": "+cause.Message, ": "))
	}
	return control.InvalidError("the Activation is not valid", lines...)
}

func forbidden(message, what, namespace, role string) error {
	in, remedy := "in namespace "+namespace, fmt.Sprintf("ask for a RoleBinding to the ClusterRole %s there", role)
	if namespace == "" {
		in, remedy = "in all namespaces", fmt.Sprintf("name a namespace with -n, or ask for a ClusterRoleBinding to the ClusterRole %s", role)
	}
	return control.Errorf(control.Forbidden, "you may not %s %s: %s (%s)", what, in, remedy, message)
}

func (c *Cluster) notFound(details *metav1.StatusDetails, namespace string) error {
	switch {
	case details != nil && details.Kind == "namespaces":
		return control.Errorf(control.NotFound, "there is no namespace %q", details.Name)
	case details != nil && details.Name != "":
		return control.Errorf(control.NotFound, "there is no Activation %s/%s", namespace, details.Name)
	}
	return control.Errorf(control.NotFound, "the cluster %s has no Breakglass Gateway, or only a part of it: install its Helm chart and the Gateway API, or name another --context", c.info.Where)
}

// arrived reports whether a request that failed may have been carried out.
func arrived(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Code == http.StatusGatewayTimeout
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	var certificate *tls.CertificateVerificationError
	return !errors.As(err, &certificate) && !strings.Contains(err.Error(), "getting credentials") // of an exec plugin
}

// unreachable is an error of the way to the API server, or of the way to who one is.
func (c *Cluster) unreachable(err error) error {
	var u *url.Error // its URL would only confuse
	if errors.As(err, &u) {
		err = u.Err
	}
	return control.Errorf(control.Unavailable, "the API server %s cannot be reached: %v: name another --context; if it is down, the way in is a jump host with breakglass serve", c.info.Where, err)
}
