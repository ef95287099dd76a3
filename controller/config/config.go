// Package config is the file that `breakglass controller --config` reads: where
// emergency Gateways and Secrets may be, and what the Envoys of a Gateway look
// like. The Helm chart writes it.
//
// It is read once, strictly: a field that is not known, is named twice or is
// written in another case is an error, because a limit with a typo is no limit.
package config

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// DefaultMaxConnections of one Envoy; see docs/edge.md.
const DefaultMaxConnections = 5000

// Config is the whole file.
type Config struct {
	// GatewayNamespaces are where emergency Gateways may be. At least one: a Gateway
	// elsewhere is not accepted.
	GatewayNamespaces []string `json:"gatewayNamespaces"`
	// SecretNamespaces are where Secrets and ConfigMaps are read: certificates of
	// listeners, keys of issuers, and authorities. The controller has a Role in each and nowhere else.
	SecretNamespaces []string `json:"secretNamespaces,omitempty"`

	// Envoy is the proxy container of every fleet.
	Envoy Envoy `json:"envoy"`
	// Agent is the container next to it that keeps the audit log.
	Agent Agent `json:"agent"`
	// Service of every fleet.
	Service Service `json:"service,omitzero"`
	// Audit says where the agents keep the audit log.
	Audit Audit `json:"audit,omitzero"`
	// ImagePullSecrets of the fleets' pods; they are in the release namespace.
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	// NetworkPolicy of every fleet.
	NetworkPolicy NetworkPolicy `json:"networkPolicy,omitzero"`
}

// Envoy is the proxy container of a fleet, and where its pods may run.
type Envoy struct {
	// Image with /usr/local/bin/envoy of the version that this release is tested with.
	Image string `json:"image"`
	// PullPolicy of the image. Default IfNotPresent.
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
	// Replicas of one fleet, at most 100. Default 2.
	Replicas *int32 `json:"replicas,omitempty"`
	// Resources of the container. Envoy's own limit of its heap is below limits.memory.
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
	// Concurrency is the number of Envoy's worker threads, at most 64. Default 2.
	Concurrency int32 `json:"concurrency,omitempty"`
	// MaxConnections of clients that one Envoy takes. Default 5000.
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// NodeSelector, Tolerations, Affinity and TopologySpreadConstraints of the pods.
	// Without affinity and constraints, the pods of a fleet spread over hosts if they can.
	NodeSelector              map[string]string                 `json:"nodeSelector,omitempty"`
	Tolerations               []corev1.Toleration               `json:"tolerations,omitempty"`
	Affinity                  *corev1.Affinity                  `json:"affinity,omitempty"`
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
}

// Agent is the container that keeps the audit log of its Envoy.
type Agent struct {
	// Image of this project; it also gives the binary that starts Envoy.
	Image string `json:"image"`
	// PullPolicy of the image. Default IfNotPresent.
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
	// Resources of the container.
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
}

// Service of a fleet.
type Service struct {
	// Type of the Service: ClusterIP, NodePort or LoadBalancer. Default LoadBalancer.
	Type corev1.ServiceType `json:"type,omitempty"`
	// Annotations for the cloud's load balancer. Those of a Gateway's spec.infrastructure win.
	Annotations map[string]string `json:"annotations,omitempty"`
	// LoadBalancerClass, of a LoadBalancer only.
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`
	// AddressAnnotation is the annotation by which the cloud's load balancer is asked for
	// the addresses that a Gateway names in spec.addresses, joined by commas. Default
	// none: the first is asked for in spec.loadBalancerIP, which is deprecated, and which
	// most understand. Of a LoadBalancer only.
	AddressAnnotation string `json:"addressAnnotation,omitempty"`
	// ExternalTrafficPolicy, not of a ClusterIP. Default Local: Envoy then sees the
	// client's address, which limits count by and the audit log names.
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
}

// Audit says where the agents keep the audit log.
type Audit struct {
	// Volume of each pod. Default an emptyDir, which ends with the pod: what is on it
	// and was not copied is lost then. Use ephemeral or a claim to keep it.
	Volume corev1.VolumeSource `json:"volume,omitzero"`
}

// NetworkPolicy of a fleet.
type NetworkPolicy struct {
	// Enabled makes one for each fleet. Default true.
	Enabled *bool `json:"enabled,omitempty"`
	// From are the peers that may connect to the listeners. Empty: anybody.
	From []networkingv1.NetworkPolicyPeer `json:"from,omitempty"`
}

// Load reads and checks the file, and fills in what has a default.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the controller's configuration (--config): %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse checks the text of the file, and fills in what has a default.
func Parse(text []byte) (Config, error) {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return Config{}, fmt.Errorf("not YAML: %w", err)
	}
	var c Config
	// Not encoding/json: that takes any case, and does not say where an unknown field is.
	strict, err := kjson.UnmarshalStrict(raw, &c)
	if err != nil {
		return Config{}, fmt.Errorf("not a controller configuration: %w", err)
	}
	if len(strict) > 0 {
		return Config{}, fmt.Errorf("%w: correct or remove it", strict[0])
	}
	c.setDefaults()
	if errs := c.validate(); len(errs) > 0 {
		return Config{}, errs.ToAggregate()
	}
	return c, nil
}

func (c *Config) setDefaults() {
	if c.Envoy.PullPolicy == "" {
		c.Envoy.PullPolicy = corev1.PullIfNotPresent
	}
	if c.Envoy.Replicas == nil {
		c.Envoy.Replicas = new(int32(2))
	}
	if c.Envoy.Concurrency == 0 {
		c.Envoy.Concurrency = 2
	}
	if c.Envoy.MaxConnections == 0 {
		c.Envoy.MaxConnections = DefaultMaxConnections
	}
	if c.Agent.PullPolicy == "" {
		c.Agent.PullPolicy = corev1.PullIfNotPresent
	}
	if c.Service.Type == "" {
		c.Service.Type = corev1.ServiceTypeLoadBalancer
	}
	if c.Service.ExternalTrafficPolicy == "" && c.Service.Type != corev1.ServiceTypeClusterIP {
		c.Service.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if c.Audit.Volume == (corev1.VolumeSource{}) {
		c.Audit.Volume.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if c.NetworkPolicy.Enabled == nil {
		c.NetworkPolicy.Enabled = new(true)
	}
}
