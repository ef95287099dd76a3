package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const least = `
gatewayNamespaces: [breakglass-system]
envoy: {image: "docker.io/envoyproxy/envoy:distroless-v1.40.0"}
agent: {image: "ghcr.io/breakglass-gateway/breakglass:1"}
`

func TestWhatIsNotSaidHasADefault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "controller.yaml")
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if *c.Envoy.Replicas != 2 || c.Envoy.Concurrency != 2 || c.Envoy.MaxConnections != 5000 || c.Envoy.PullPolicy != "IfNotPresent" ||
		c.Agent.PullPolicy != "IfNotPresent" || c.Service.Type != corev1.ServiceTypeLoadBalancer || c.Service.ExternalTrafficPolicy != "Local" ||
		c.Audit.Volume.EmptyDir == nil || !*c.NetworkPolicy.Enabled {
		t.Errorf("defaults are %+v", c)
	}
}

func TestAClusterIPHasNoTrafficPolicyByDefault(t *testing.T) {
	c, err := Parse([]byte(least + "service: {type: ClusterIP}"))
	if err != nil || c.Service.ExternalTrafficPolicy != "" {
		t.Errorf("policy %q, error %v", c.Service.ExternalTrafficPolicy, err)
	}
}

func TestWhatIsSaidIsKept(t *testing.T) {
	c, err := Parse([]byte(least + `
secretNamespaces: [breakglass-system, keys]
service: {type: NodePort, externalTrafficPolicy: Cluster, annotations: {a: b}}
audit: {volume: {ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}}
networkPolicy: {enabled: false, from: [{ipBlock: {cidr: 10.0.0.0/8}}]}
imagePullSecrets: [{name: pull}]
`))
	if err != nil {
		t.Fatal(err)
	}
	size := c.Audit.Volume.Ephemeral.VolumeClaimTemplate.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.String() != "1Gi" || *c.NetworkPolicy.Enabled || c.NetworkPolicy.From[0].IPBlock.CIDR != "10.0.0.0/8" ||
		c.Service.ExternalTrafficPolicy != "Cluster" || len(c.SecretNamespaces) != 2 || c.ImagePullSecrets[0].Name != "pull" {
		t.Errorf("read as %+v", c)
	}
}

func TestErrorsNameTheFieldAndSayWhatToDo(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "{}", "gatewayNamespaces: Required value: name at least one namespace"},
		{"a typo", least + "service: {typ: ClusterIP}", `unknown field "service.typ": correct or remove it`},
		{"another case", least + "Service: {type: ClusterIP}", `unknown field "Service"`},
		{"twice", least + "agent: {image: b}", `key "agent" already set`},
		{"a list for a word", least + "service: []", "cannot unmarshal array into Go struct field"},
		{"a bad namespace", least + "secretNamespaces: ['*']", `secretNamespaces[0]: Invalid value: "*"`},
		{"a namespace twice", least + "secretNamespaces: [a, a]", `secretNamespaces[1]: Duplicate value: "a"`},
		{"no image", strings.Replace(least, "agent: {image", "imagePullSecrets: [{}]\nagent: {pullPolicy: Always} #", 1), "agent.image: Invalid value"},
		{"a pull secret without a name", least + "imagePullSecrets: [{}]", "imagePullSecrets[0].name: Required value"},
		{"a pull policy", strings.Replace(least, "envoy: {", "envoy: {pullPolicy: Sometimes, ", 1), `envoy.pullPolicy: Unsupported value: "Sometimes"`},
		{"replicas", strings.Replace(least, "envoy: {", "envoy: {replicas: 101, ", 1), "envoy.replicas: Invalid value: 101"},
		{"threads", strings.Replace(least, "envoy: {", "envoy: {concurrency: -1, ", 1), "envoy.concurrency: Invalid value: -1"},
		{"connections", strings.Replace(least, "envoy: {", "envoy: {maxConnections: -1, ", 1), "envoy.maxConnections: Invalid value: -1"},
		{"a kind of Service", least + "service: {type: ExternalName}", `service.type: Unsupported value: "ExternalName"`},
		{"a class without a balancer", least + "service: {type: NodePort, loadBalancerClass: x}", "service.loadBalancerClass: Invalid value"},
		{"an address without a balancer", least + "service: {type: ClusterIP, addressAnnotation: x}", "service.addressAnnotation: Invalid value"},
		{"an annotation", least + "service: {addressAnnotation: 'a b'}", `service.addressAnnotation: Invalid value: "a b"`},
		{"a traffic policy", least + "service: {externalTrafficPolicy: x}", `service.externalTrafficPolicy: Unsupported value: "x"`},
		{"a traffic policy inside", least + "service: {type: ClusterIP, externalTrafficPolicy: Local}", "service.externalTrafficPolicy: Invalid value"},
		{"two volumes", least + "audit: {volume: {emptyDir: {}, hostPath: {path: /x}}}", "audit.volume: Invalid value"},
		{"a volume that is not written", least + "audit: {volume: {configMap: {name: x}}}", "set exactly one of emptyDir, ephemeral, hostPath and persistentVolumeClaim"},
		{"a claim to read", least + "audit: {volume: {persistentVolumeClaim: {claimName: x, readOnly: true}}}", "audit.volume.persistentVolumeClaim.readOnly"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestAFileThatIsNotThereIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("error is %v", err)
	}
}
