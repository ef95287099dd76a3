// Package fleet is pure: it says which Kubernetes objects the Envoys of one
// emergency Gateway are. All are in the controller's own namespace, where tenants
// may not exec into a pod or read its certificate. An owner in another namespace
// is not possible, so what belongs to no Gateway is found by its labels.
//
// A pod has
//
//	init container "install"   copies our binary to where Envoy's container finds it
//	sidecar "agent"            an init container that goes on: it is there before
//	                           Envoy, and ends after it, so all that Envoy logs is kept
//	container "envoy"          the official image, started by our binary
//
// and is replaced without a failed request: a new pod is ready once its Envoy has
// its configuration, an old one goes on for a while after it was asked to end, asks
// clients to go elsewhere, and waits for what is under way.
package fleet

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
)

// Labels of everything that belongs to a fleet.
const (
	LabelManagedBy        = "app.kubernetes.io/managed-by"
	LabelName             = "app.kubernetes.io/name"
	LabelGateway          = "gateway.networking.k8s.io/gateway-name" // GEP-1762; shortened if need be
	LabelGatewayNamespace = "breakglass.dev/gateway-namespace"
	// LabelFleet is the fleet's name, and what selects its pods.
	LabelFleet = "breakglass.dev/fleet"

	ManagedBy = "breakglass-controller"
	appName   = "breakglass-gateway"

	// AnnotationGateway is namespace/name, whole.
	AnnotationGateway = "breakglass.dev/gateway"
	// AnnotationConfigHash is on the pods: another value is another generation.
	AnnotationConfigHash = "breakglass.dev/config-hash"
)

// Input says what a fleet is made of.
type Input struct {
	Gateway *gwv1.Gateway
	Config  config.Config
	// Namespace of the release, where the objects are.
	Namespace string
	// Controller is the DNS name of the controller's Service, which is in its
	// certificate. Its port is ports.Controller.
	Controller string
	// Ports of the listeners of the Gateway and its ListenerSets that are served, in
	// any order.
	Ports []int32
	// AuditService is HOST:PORT of the audit log service, to which the agents ship
	// their logs; "": they keep them for themselves.
	AuditService string
	// ConfigHash is of what pods must be replaced for and does not show otherwise. It
	// may be empty.
	ConfigHash string
}

// Object is any object of Kubernetes.
type Object interface {
	metav1.Object
	runtime.Object
}

// maxName leaves room, of the 63 bytes of a host's name, for what a Deployment
// adds to the names of its pods.
const maxName = 63 - len("-1234567890-12345")

// Name of the fleet of a Gateway, and of its objects. No two Gateways have the
// same one, whatever they are called.
func Name(gateway types.NamespacedName) string {
	return shorten("breakglass-"+gateway.Namespace+"-"+gateway.Name, gateway.String(), maxName)
}

// SecretName is that of the client certificate, which the pods wait for.
func SecretName(gateway types.NamespacedName) string { return Name(gateway) + "-tls" }

// shorten s, of which whole says all, to at most n bytes with a hash at the end: of
// 64 bits, or somebody could look for a Gateway whose fleet has another's name.
func shorten(s, whole string, n int) string {
	sum := sha256.Sum256([]byte(whole))
	hash := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:8]))
	s = strings.ReplaceAll(s, ".", "-")
	s = s[:min(len(s), n-1-len(hash))]
	return strings.TrimRight(s, "-") + "-" + hash
}

// Labels of everything that belongs to the fleet of a Gateway, the Secret too.
func Labels(gateway types.NamespacedName) map[string]string {
	name := gateway.Name
	if len(name) > 63 {
		name = shorten(name, name, 63)
	}
	return map[string]string{
		LabelManagedBy: ManagedBy, LabelName: appName, LabelFleet: Name(gateway),
		LabelGateway: name, LabelGatewayNamespace: gateway.Namespace,
	}
}

// Objects of a fleet, each complete, in an order in which they can be created. The
// same Input gives the same. The Secret of SecretName is not among them.
func Objects(in Input) []Object {
	b := newBuilder(in)
	out := []Object{b.serviceAccount()}
	if *b.config.NetworkPolicy.Enabled {
		out = append(out, b.networkPolicy())
	}
	return append(out, b.budget(), b.service(), b.deployment())
}

// builder makes the objects of one fleet.
type builder struct {
	Input
	config  config.Config
	gateway types.NamespacedName
	name    string
	ports   []int32
	labels  map[string]string
	// annotations of the Gateway's infrastructure, and ours.
	annotations map[string]string
}

func newBuilder(in Input) *builder {
	b := &builder{
		Input: in, config: in.Config,
		gateway: types.NamespacedName{Namespace: in.Gateway.Namespace, Name: in.Gateway.Name},
		labels:  map[string]string{}, annotations: map[string]string{},
	}
	b.name = Name(b.gateway)
	b.ports = slices.Clone(in.Ports)
	slices.Sort(b.ports)
	b.ports = slices.Compact(b.ports)
	if infra := in.Gateway.Spec.Infrastructure; infra != nil {
		for k, v := range infra.Labels {
			b.labels[string(k)] = string(v)
		}
		for k, v := range infra.Annotations {
			if !weakens(string(k)) {
				b.annotations[string(k)] = string(v)
			}
		}
	}
	maps.Copy(b.labels, Labels(b.gateway)) // ours last: nobody takes another's place
	b.annotations[AnnotationGateway] = b.gateway.String()
	delete(b.annotations, AnnotationConfigHash)
	return b
}

// weakens reports whether an annotation of a pod takes something from its
// hardening. Whoever writes a Gateway is not asked for that.
func weakens(annotation string) bool {
	prefix, _, _ := strings.Cut(annotation, "/")
	return prefix == "container.apparmor.security.beta.kubernetes.io" ||
		prefix == "container.seccomp.security.alpha.kubernetes.io" || prefix == "seccomp.security.alpha.kubernetes.io"
}

func (b *builder) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: b.name, Namespace: b.Namespace, Labels: maps.Clone(b.labels), Annotations: maps.Clone(b.annotations)}
}

func (b *builder) selector() map[string]string { return map[string]string{LabelFleet: b.name} }
