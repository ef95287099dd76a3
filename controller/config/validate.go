package config

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validate says everything that is wrong, each with its field. What the API
// server would refuse of a pod's parts (affinity, tolerations) is left to it.
func (c *Config) validate() field.ErrorList {
	var errs field.ErrorList
	if len(c.GatewayNamespaces) == 0 {
		errs = append(errs, field.Required(field.NewPath("gatewayNamespaces"), "name at least one namespace that may have emergency Gateways"))
	}
	errs = append(errs, namespaces(field.NewPath("gatewayNamespaces"), c.GatewayNamespaces)...)
	errs = append(errs, namespaces(field.NewPath("secretNamespaces"), c.SecretNamespaces)...)
	errs = append(errs, c.Envoy.validate(field.NewPath("envoy"))...)
	errs = append(errs, image(field.NewPath("agent"), c.Agent.Image, c.Agent.PullPolicy)...)
	errs = append(errs, c.Service.validate(field.NewPath("service"))...)
	errs = append(errs, c.Audit.validate(field.NewPath("audit", "volume"))...)
	for i, ref := range c.ImagePullSecrets {
		if ref.Name == "" {
			errs = append(errs, field.Required(field.NewPath("imagePullSecrets").Index(i).Child("name"), "name a Secret of the release namespace"))
		}
	}
	return errs
}

func namespaces(at *field.Path, names []string) field.ErrorList {
	var errs field.ErrorList
	for i, name := range names {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), name, strings.Join(problems, "; ")))
		}
		if slices.Index(names, name) < i {
			errs = append(errs, field.Duplicate(at.Index(i), name))
		}
	}
	return errs
}

func image(at *field.Path, name string, pull corev1.PullPolicy) field.ErrorList {
	var errs field.ErrorList
	if name == "" || strings.ContainsAny(name, " \t\r\n") {
		errs = append(errs, field.Invalid(at.Child("image"), name, "must be the name of an image"))
	}
	known := []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}
	if !slices.Contains(known, pull) {
		errs = append(errs, field.NotSupported(at.Child("pullPolicy"), pull, known))
	}
	return errs
}

func (e *Envoy) validate(at *field.Path) field.ErrorList {
	errs := image(at, e.Image, e.PullPolicy)
	if *e.Replicas < 0 || *e.Replicas > 100 {
		errs = append(errs, field.Invalid(at.Child("replicas"), *e.Replicas, "must be between 0 and 100"))
	}
	if e.Concurrency < 1 || e.Concurrency > 64 {
		errs = append(errs, field.Invalid(at.Child("concurrency"), e.Concurrency, "must be between 1 and 64"))
	}
	if e.MaxConnections < 1 || e.MaxConnections > 1000000 {
		errs = append(errs, field.Invalid(at.Child("maxConnections"), e.MaxConnections, "must be between 1 and 1000000"))
	}
	return errs
}

func (s *Service) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}
	if !slices.Contains(types, s.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), s.Type, types))
	}
	if s.LoadBalancerClass != nil && s.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Invalid(at.Child("loadBalancerClass"), *s.LoadBalancerClass, "only a Service of type LoadBalancer has one: remove it"))
	}
	if a := s.AddressAnnotation; a != "" {
		if s.Type != corev1.ServiceTypeLoadBalancer {
			errs = append(errs, field.Invalid(at.Child("addressAnnotation"), a, "only a Service of type LoadBalancer can be asked for an address: remove it"))
		}
		if problems := validation.IsQualifiedName(a); len(problems) > 0 {
			errs = append(errs, field.Invalid(at.Child("addressAnnotation"), a, strings.Join(problems, "; ")))
		}
	}
	policies := []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster}
	switch policy := s.ExternalTrafficPolicy; {
	case policy != "" && s.Type == corev1.ServiceTypeClusterIP:
		errs = append(errs, field.Invalid(at.Child("externalTrafficPolicy"), policy, "a Service of type ClusterIP has none: remove it"))
	case policy != "" && !slices.Contains(policies, policy):
		errs = append(errs, field.NotSupported(at.Child("externalTrafficPolicy"), policy, policies))
	}
	return errs
}

// validate takes the kinds of volume that one pod can write and keep to itself.
func (a *Audit) validate(at *field.Path) field.ErrorList {
	v := a.Volume
	writable := 0
	for _, set := range []bool{v.EmptyDir != nil, v.Ephemeral != nil, v.HostPath != nil, v.PersistentVolumeClaim != nil} {
		if set {
			writable++
		}
	}
	rest := v
	rest.EmptyDir, rest.Ephemeral, rest.HostPath, rest.PersistentVolumeClaim = nil, nil, nil, nil
	if writable != 1 || rest != (corev1.VolumeSource{}) {
		return field.ErrorList{field.Invalid(at, "", "set exactly one of emptyDir, ephemeral, hostPath and persistentVolumeClaim")}
	}
	if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly {
		return field.ErrorList{field.Invalid(at.Child("persistentVolumeClaim", "readOnly"), true, "the audit log is written here: remove it")}
	}
	return nil
}
