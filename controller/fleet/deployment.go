package fleet

import (
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/breakglass-gateway/breakglass-gateway/internal/ports"
)

const (
	// drainLeast is how long an Envoy goes on after it was asked to end: by then every
	// node and most load balancers send it nobody new. drainMost is how long it waits
	// for what is under way: as long as windows are, in minutes.
	drainLeast, drainMost = 10 * time.Second, 5 * time.Minute
	// endMost is what Envoy and then the agent need to end, and some.
	endMost = 30 * time.Second

	userID = 65532 // of distroless images

	binDir   = "/breakglass/bin"
	runMount = "/run/breakglass"
	runDir   = runMount + "/pod" // ours alone, which the mount's directory is not
	auditDir = "/var/lib/breakglass/audit"
	tlsDir   = "/etc/breakglass/tls"

	volumeBin, volumeRun, volumeAudit, volumeTLS = "bin", "run", "audit", "tls"
)

func (b *builder) deployment() *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: b.meta(),
		Spec: appsv1.DeploymentSpec{
			Replicas:             b.config.Envoy.Replicas,
			Selector:             &metav1.LabelSelector{MatchLabels: b.selector()},
			RevisionHistoryLimit: new(int32(2)),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0)),
				},
			},
			Template: b.pod(),
		},
	}
}

func (b *builder) pod() corev1.PodTemplateSpec {
	e := b.config.Envoy
	annotations := maps.Clone(b.annotations)
	if b.ConfigHash != "" {
		annotations[AnnotationConfigHash] = b.ConfigHash
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(b.labels), Annotations: annotations},
		Spec: corev1.PodSpec{
			ServiceAccountName:            b.name,
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			ImagePullSecrets:              b.config.ImagePullSecrets,
			TerminationGracePeriodSeconds: new(int64((drainMost + endMost).Seconds())),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(userID)), RunAsGroup: new(int64(userID)), FSGroup: new(int64(userID)),
				FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
				SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			InitContainers:            []corev1.Container{b.install(), b.agent()},
			Containers:                []corev1.Container{b.envoy()},
			Volumes:                   b.volumes(),
			NodeSelector:              e.NodeSelector,
			Tolerations:               e.Tolerations,
			Affinity:                  e.Affinity,
			TopologySpreadConstraints: b.spread(),
		},
	}
}

// spread over hosts, if nobody has said otherwise.
func (b *builder) spread() []corev1.TopologySpreadConstraint {
	given := b.config.Envoy.TopologySpreadConstraints
	if len(given) == 0 && b.config.Envoy.Affinity == nil {
		given = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		}}
	}
	var out []corev1.TopologySpreadConstraint
	for _, c := range given {
		if c.LabelSelector == nil { // the file is for all fleets, so it cannot name one
			c.LabelSelector = &metav1.LabelSelector{MatchLabels: b.selector()}
		}
		out = append(out, c)
	}
	return out
}

func (b *builder) volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: volumeBin, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("256Mi"))}}},
		{Name: volumeRun, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("16Mi"))}}},
		{Name: volumeAudit, VolumeSource: b.config.Audit.Volume},
		{Name: volumeTLS, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: SecretName(b.gateway), DefaultMode: new(int32(0o440))}}},
	}
}

func hardened() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func mount(volume, path string, readOnly bool) corev1.VolumeMount {
	return corev1.VolumeMount{Name: volume, MountPath: path, ReadOnly: readOnly}
}

func (b *builder) install() corev1.Container {
	return corev1.Container{
		Name: "install", Image: b.config.Agent.Image, ImagePullPolicy: b.config.Agent.PullPolicy,
		Args:            []string{"install-self", "--to", binDir},
		Resources:       b.config.Agent.Resources,
		SecurityContext: hardened(),
		VolumeMounts:    []corev1.VolumeMount{mount(volumeBin, binDir, false)},
	}
}

// podName is the pod's name in the arguments of a container.
func podName() []corev1.EnvVar {
	return []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}}}
}

// shared are the arguments that agent and Envoy must agree on. Each pod writes a
// directory of its own, for the volume may be one of several pods.
func (b *builder) shared() []string {
	return []string{"--gateway", b.gateway.String(), "--run-dir", runDir, "--audit-dir", auditDir + "/$(POD_NAME)"}
}

func (b *builder) agent() corev1.Container {
	probe := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(ports.Agent), Scheme: corev1.URISchemeHTTP}}
	}
	args := []string{"agent", "--pod", "$(POD_NAME)", "--tls-dir", tlsDir, "--controller", fmt.Sprintf("%s:%d", b.Controller, ports.Controller), "--server-name", b.Controller,
		"--metrics-address", fmt.Sprintf(":%d", ports.Agent)}
	if b.AuditService != "" {
		args = append(args, "--audit-service", b.AuditService)
	}
	return corev1.Container{
		Name: "agent", Image: b.config.Agent.Image, ImagePullPolicy: b.config.Agent.PullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args:            append(args, b.shared()...),
		Env:             podName(),
		Ports:           []corev1.ContainerPort{{Name: "metrics", ContainerPort: ports.Agent, Protocol: corev1.ProtocolTCP}},
		Resources:       b.config.Agent.Resources,
		SecurityContext: hardened(),
		VolumeMounts:    []corev1.VolumeMount{mount(volumeRun, runMount, false), mount(volumeAudit, auditDir, false), mount(volumeTLS, tlsDir, true)},
		// Envoy's container waits for this one.
		StartupProbe:  &corev1.Probe{ProbeHandler: probe("/healthz"), PeriodSeconds: 1, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 60},
		LivenessProbe: &corev1.Probe{ProbeHandler: probe("/healthz"), PeriodSeconds: 10, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 6},
		// Of Envoy, who has no port for it. There is no probe that would kill Envoy: one
		// that hangs is taken out, and its open streams may yet go on.
		ReadinessProbe: &corev1.Probe{ProbeHandler: probe("/readyz"), PeriodSeconds: 2, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 2},
	}
}

// envoy names no port of a listener: pods need not be told, and a listener on another port would end them all.
func (b *builder) envoy() corev1.Container {
	e := b.config.Envoy
	return corev1.Container{
		Name: "envoy", Image: e.Image, ImagePullPolicy: e.PullPolicy,
		Command: []string{binDir + "/breakglass", "envoy"},
		Args: append(b.shared(), "--envoy", "/usr/local/bin/envoy", "--concurrency", fmt.Sprint(e.Concurrency),
			"--max-connections", fmt.Sprint(e.MaxConnections), "--max-heap", fmt.Sprint(heapMiB(e.Resources.Limits)),
			"--drain-least", drainLeast.String(), "--drain-most", drainMost.String()),
		Env:             podName(),
		Resources:       e.Resources,
		SecurityContext: hardened(),
		VolumeMounts:    []corev1.VolumeMount{mount(volumeBin, binDir, true), mount(volumeRun, runMount, false), mount(volumeAudit, auditDir, false)},
	}
}

// heapMiB is how much memory Envoy may take before it refuses requests: four
// fifths of what its container may have, for what is not its heap, and for the
// process that started it.
func heapMiB(limits corev1.ResourceList) int64 {
	const without, least = 1024, 64
	limit, found := limits[corev1.ResourceMemory]
	if !found {
		return without
	}
	return max(limit.Value()>>20*4/5, least)
}
