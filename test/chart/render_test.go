//go:build helm

// Package chart_test renders charts/breakglass with the pinned Helm and reads what
// comes out.
package chart_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
)

const chart = "../../charts/breakglass"

// helm runs the pinned Helm, with no home but the test's and no cluster.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := os.Getenv("BREAKGLASS_HELM")
	if path == "" {
		t.Fatal("BREAKGLASS_HELM must name the pinned helm: run make test-chart")
	}
	home := t.TempDir()
	cmd := exec.Command(path, args...) //nolint:gosec // the test's own binary
	cmd.Env = append(os.Environ(), "HOME="+home, "KUBECONFIG="+home+"/none", "HELM_CACHE_HOME="+home+"/cache", "HELM_CONFIG_HOME="+home+"/config", "HELM_DATA_HOME="+home+"/data")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("helm %s: %w: %s%s", args[0], err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return helm(t, append([]string{"template", "breakglass", chart, "--namespace", "breakglass-system", "--kube-version", "1.36.0"}, args...)...)
}

// parse takes rendered text apart.
func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var m map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &m); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		if len(m) > 0 {
			out = append(out, &unstructured.Unstructured{Object: m})
		}
	}
	return out
}

func rendered(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	text, err := template(t, "--values", "testdata/"+name+".values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".values.yaml")
	}
	return files
}

func TestTheRenderedChartIsAsInItsGoldenFile(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			text, err := template(t, "--values", "testdata/"+name+".values.yaml")
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "testdata/"+name+".golden.yaml", []byte(text))
		})
	}
}

func TestTheNotesSayTheNextCommand(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			out, err := helm(t, "install", "breakglass", chart, "--namespace", "breakglass-system", "--dry-run=client", "--output", "json", "--values", "testdata/"+name+".values.yaml")
			if err != nil {
				t.Fatal(err)
			}
			var release struct {
				Info struct {
					Notes string `json:"notes"`
				} `json:"info"`
			}
			if err := json.Unmarshal([]byte(out), &release); err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "testdata/"+name+".notes.txt", []byte(release.Info.Notes+"\n"))
		})
	}
}

func TestNoGoldenFileIsWithoutItsValues(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, _, _ := strings.Cut(f, ".")
		if _, err := os.Stat(name + ".values.yaml"); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestHelmLintHasNothingToSay(t *testing.T) {
	for _, name := range cases(t) {
		if _, err := helm(t, "lint", chart, "--strict", "--kube-version", "1.36.0", "--values", "testdata/"+name+".values.yaml"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheControllerCanReadItsFile(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range rendered(t, name) {
				if o.GetKind() != "StatefulSet" || o.GetName() != "breakglass-controller" {
					continue
				}
				text, _, err := unstructured.NestedString(o.Object, "spec", "template", "metadata", "annotations", "breakglass.dev/config")
				if err != nil {
					t.Fatal(err)
				}
				c, err := config.Parse([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				if name == "full" && (*c.Envoy.Replicas != 3 || c.Envoy.Affinity == nil || len(c.Envoy.Tolerations) != 1 || c.Envoy.MaxConnections != 20000 ||
					*c.Service.LoadBalancerClass != "example.com/internal" || c.Audit.Volume.HostPath == nil || c.NetworkPolicy.From[0].IPBlock == nil) {
					t.Errorf("read as %+v", c)
				}
				return
			}
			t.Error("there is no StatefulSet")
		})
	}
}

func TestBadValuesAreRefusedWithTheirName(t *testing.T) {
	issuer := `policy={"issuers":[{"name":"sso","issuer":"https://sso","jwks":{"inline":"{}"}}],"roles":[{"name":"a","grants":[{"issuer":"sso","claims":[{"path":["g"],"anyOf":["x"]}]}]}]}`
	for _, test := range []struct {
		set  []string
		want string
	}{
		{[]string{`controler={"replicas":2}`}, "additional properties 'controler' not allowed"},
		{[]string{`controller={"replica":2}`}, "additional properties 'replica' not allowed"},
		{[]string{`controller.replicas="two"`}, "at '/controller/replicas': got string, want integer"},
		{[]string{`envoy.replicas=101`}, "at '/envoy/replicas': maximum: got 101, want 100"},
		{[]string{`service.type="ExternalName"`}, "at '/service/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"},
		{[]string{`gatewayNamespaces=["*"]`}, "at '/gatewayNamespaces/0': '*' does not match pattern"},
		{[]string{`gateway.protocol="TCP"`}, "at '/gateway/protocol': value must be one of 'HTTPS', 'HTTP'"},
		{[]string{`audit.service.replicas=2`}, "additional properties 'replicas' not allowed"},
		{[]string{`audit.service.size="much"`}, "at '/audit/service/size': 'much' does not match pattern"},
		{[]string{`audit.service.sinks=[{"jsonLines":{"path":"/x"}}]`}, "at '/audit/service/sinks/0': missing property 'name'"},
		{[]string{`audit.volume={"configMap":{}}`}, "additional properties 'configMap' not allowed"},
		{[]string{`policy.issuers=[{"name":"sso"}]`}, "at '/policy/issuers/0': missing properties 'issuer', 'jwks'"},
		{[]string{`policy.roles=[{"name":"Big","grants":[]}]`}, "at '/policy/roles/0/name': 'Big' does not match pattern"},
		{[]string{issuer, `policy.roles=[]`}, "policy.issuers is set and policy.roles is not: name at least one emergency role"},
		{[]string{issuer, `policy.issuers=[]`}, "policy.roles is set and policy.issuers is not: name at least one issuer"},
		{[]string{issuer}, "policy.issuers[0] (sso) has no audiences: set cluster.name"},
		{[]string{`gateway.namespace="door"`}, "gateway.namespace door is not one of gatewayNamespaces (breakglass-system)"},
		{[]string{`gateway.namespace="door"`, `gatewayNamespaces=["door"]`}, "namespace door, which is not one of secretNamespaces: add it"},
		{[]string{`gateway.tls.certManager.issuer="x"`}, "gateway.tls.certManager needs gateway.hostname"},
		{[]string{`gateway.hostname="a.example.com"`, `gateway.tls.certManager={"issuer":"x","clusterIssuer":"y"}`}, "set one of gateway.tls.certManager.clusterIssuer and gateway.tls.certManager.issuer"},
		{[]string{`service.type="NodePort"`, `service.loadBalancerClass="x"`}, "service.loadBalancerClass is for service.type LoadBalancer only: remove it"},
		{[]string{`service.type="NodePort"`, `service.addressAnnotation="x"`}, "service.addressAnnotation is for service.type LoadBalancer only: remove it"},
		{[]string{`service.type="ClusterIP"`, `service.externalTrafficPolicy="Local"`}, "service.externalTrafficPolicy is not for service.type ClusterIP: remove it"},
		{[]string{`audit.volume.hostPath={"path":"/x"}`}, "audit.volume must have exactly one of emptyDir, ephemeral, hostPath and persistentVolumeClaim"},
	} {
		t.Run(strings.Join(test.set, " "), func(t *testing.T) {
			var args []string
			for _, s := range test.set {
				args = append(args, "--set-json", s)
			}
			if _, err := template(t, args...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestAnOldKubernetesIsRefused(t *testing.T) {
	if _, err := template(t, "--kube-version", "1.35.9"); err == nil || !strings.Contains(err.Error(), ">=1.36.0-0") {
		t.Errorf("error is %v", err)
	}
}
