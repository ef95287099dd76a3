package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/controller/config"
	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
)

// read makes an Input of testdata/NAME.in.yaml.
func read(t *testing.T, name string) Input {
	t.Helper()
	var file struct {
		Gateway gwv1.Gateway `json:"gateway"`
		Config  any          `json:"config"`
		Ports   []int32      `json:"ports"`
		Hash    string       `json:"configHash"`
		Audit   string       `json:"auditService"`
	}
	text, err := os.ReadFile(filepath.Join("testdata", name+".in.yaml"))
	if err == nil {
		err = yaml.UnmarshalStrict(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.Marshal(file.Config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Gateway: &file.Gateway, Config: c, Namespace: "breakglass-system", Ports: file.Ports, ConfigHash: file.Hash,
		Controller: "breakglass-controller.breakglass-system.svc", AuditService: file.Audit,
	}
}

func render(t *testing.T, objects []Object) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes()
}

func TestTheObjectsOfAFleet(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(cases) < 2 {
		t.Fatalf("cases %q, error %v", cases, err)
	}
	for _, path := range cases {
		name := strings.TrimSuffix(filepath.Base(path), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			in := read(t, name)
			before := in.Gateway.DeepCopy()
			got := render(t, Objects(in))
			golden.Check(t, filepath.Join("testdata", name+".out.yaml"), got)
			slices.Reverse(in.Ports)
			for range 20 {
				if again := render(t, Objects(in)); !bytes.Equal(got, again) {
					t.Fatal("the same input gives something else")
				}
			}
			if !reflect.DeepEqual(before, in.Gateway) {
				t.Error("the Gateway was changed")
			}
		})
	}
	outs, err := filepath.Glob("testdata/*.out.yaml")
	if err != nil || len(outs) != len(cases) {
		t.Errorf("%d cases, and %q", len(cases), outs)
	}
}

func find[T Object](t *testing.T, in Input) T {
	t.Helper()
	for _, o := range Objects(in) {
		if found, ok := o.(T); ok {
			return found
		}
	}
	t.Fatal("there is none")
	panic("unreachable")
}

func TestAListenerOnAnotherPortEndsNoPod(t *testing.T) {
	in := read(t, "default")
	before, open := find[*appsv1.Deployment](t, in), find[*corev1.Service](t, in).Spec.Ports
	in.Ports = append(in.Ports, 8081)
	if ports := find[*corev1.Service](t, in).Spec.Ports; len(ports) != len(open)+1 {
		t.Fatalf("the Service has the ports %v", ports)
	}
	if after := find[*appsv1.Deployment](t, in); !reflect.DeepEqual(before, after) {
		t.Error("the Deployment has changed, and so new pods take the place of those that serve")
	}
}

func TestNamesAreValidAndNoTwoGatewaysShareOne(t *testing.T) {
	long := strings.Repeat("a", 63)
	seen := map[string]types.NamespacedName{}
	for _, g := range []types.NamespacedName{
		{Namespace: "a", Name: "b"}, {Namespace: "a-b", Name: "c"}, {Namespace: "a", Name: "b-c"}, {Namespace: "a", Name: "b.c"},
		{Namespace: long, Name: long}, {Namespace: long, Name: long + "b"}, {Namespace: long, Name: strings.Repeat("x.", 120) + "y"},
		{Namespace: "payments", Name: "emergency----------------------------------a"},
	} {
		name := Name(g)
		if other, found := seen[name]; found {
			t.Errorf("%s and %s are both %s", g, other, name)
		}
		seen[name] = g
		if problems := validation.IsDNS1035Label(name); len(problems) > 0 || len(name) > maxName {
			t.Errorf("%s: %s: %q", g, name, problems)
		}
		for key, value := range Labels(g) {
			if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(problems) > 0 {
				t.Errorf("%s: label %s=%s: %q", g, key, value, problems)
			}
		}
		if problems := validation.IsDNS1123Subdomain(SecretName(g)); len(problems) > 0 {
			t.Errorf("%s: %q", SecretName(g), problems)
		}
	}
}

func TestAGatewayCannotTakeAnothersPlaceNorWeakenItsPods(t *testing.T) {
	in := read(t, "default")
	in.Gateway.Spec.Infrastructure = &gwv1.GatewayInfrastructure{
		Labels: map[gwv1.LabelKey]gwv1.LabelValue{},
		Annotations: map[gwv1.AnnotationKey]gwv1.AnnotationValue{
			AnnotationGateway: "another/gateway", AnnotationConfigHash: "x",
			"container.apparmor.security.beta.kubernetes.io/envoy": "unconfined", "good.example/a": "b",
		},
	}
	want := Labels(types.NamespacedName{Namespace: in.Gateway.Namespace, Name: in.Gateway.Name})
	for key := range want {
		in.Gateway.Spec.Infrastructure.Labels[gwv1.LabelKey(key)] = "stolen"
	}
	for _, o := range Objects(in) {
		for key, value := range want {
			if o.GetLabels()[key] != value {
				t.Errorf("%T: label %s is %q", o, key, o.GetLabels()[key])
			}
		}
		if o.GetAnnotations()[AnnotationGateway] != in.Gateway.Namespace+"/"+in.Gateway.Name || o.GetAnnotations()["good.example/a"] != "b" {
			t.Errorf("%T: annotations %q", o, o.GetAnnotations())
		}
	}
	pod := find[*appsv1.Deployment](t, in).Spec.Template
	for key := range pod.Annotations {
		if strings.Contains(key, "apparmor") || key == AnnotationConfigHash {
			t.Errorf("the pods have the annotation %s", key)
		}
	}
	for key, value := range find[*appsv1.Deployment](t, in).Spec.Selector.MatchLabels {
		if pod.Labels[key] != value || value == "stolen" {
			t.Errorf("the selector wants %s=%s, the pods have %q", key, value, pod.Labels[key])
		}
	}
}

func TestTheSelectorDoesNotFollowWhatCanChange(t *testing.T) {
	in := read(t, "default")
	before := find[*appsv1.Deployment](t, in).Spec.Selector
	in.Gateway.Spec.Infrastructure = &gwv1.GatewayInfrastructure{Labels: map[gwv1.LabelKey]gwv1.LabelValue{"team": "sre"}}
	in.Ports, in.ConfigHash = []int32{1, 2, 3}, "another"
	if after := find[*appsv1.Deployment](t, in).Spec.Selector; !reflect.DeepEqual(before, after) {
		t.Errorf("the selector was %v and is %v, which no Deployment takes", before, after)
	}
}

func TestAFleetWithoutListenersIsOpenToNobody(t *testing.T) {
	in := read(t, "default")
	in.Ports = nil
	for _, rule := range find[*networkingv1.NetworkPolicy](t, in).Spec.Ingress {
		if len(rule.Ports) != 1 || rule.Ports[0].Port.IntValue() != 9103 {
			t.Errorf("a rule lets in to %v", rule.Ports)
		}
	}
}

func TestEveryContainerIsHardened(t *testing.T) {
	pod := find[*appsv1.Deployment](t, read(t, "everything")).Spec.Template.Spec
	containers := append(slices.Clone(pod.InitContainers), pod.Containers...)
	if len(containers) != 3 {
		t.Fatalf("%d containers", len(containers))
	}
	for _, c := range containers {
		s := c.SecurityContext
		if s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Privileged != nil || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s: %+v", c.Name, s)
		}
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.Name == volumeTLS {
			t.Error("Envoy can read the certificate of its fleet")
		}
	}
	if *pod.AutomountServiceAccountToken || *find[*corev1.ServiceAccount](t, read(t, "default")).AutomountServiceAccountToken {
		t.Error("the pods have a token")
	}
}

func TestEnvoysHeapIsBelowTheLimitOfItsContainer(t *testing.T) {
	for limit, want := range map[string]int64{"": 1024, "1Gi": 819, "512Mi": 409, "16Mi": 64} {
		limits := corev1.ResourceList{}
		if limit != "" {
			limits[corev1.ResourceMemory] = resource.MustParse(limit)
		}
		if got := heapMiB(limits); got != want {
			t.Errorf("limit %q: heap of %d MiB, want %d", limit, got, want)
		}
	}
}
