package crds

import (
	"bytes"
	"cmp"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func files(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(FS, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFSHoldsTheCRDOfEveryKindThatIsRead(t *testing.T) {
	want := []string{
		"breakglass.dev_activationreviews.yaml",
		"breakglass.dev_activations.yaml",
		"breakglass.dev_emergencypolicies.yaml",
		"gateway.networking.k8s.io_backendtlspolicies.yaml",
		"gateway.networking.k8s.io_gatewayclasses.yaml",
		"gateway.networking.k8s.io_gateways.yaml",
		"gateway.networking.k8s.io_grpcroutes.yaml",
		"gateway.networking.k8s.io_httproutes.yaml",
		"gateway.networking.k8s.io_listenersets.yaml",
		"gateway.networking.k8s.io_referencegrants.yaml",
	}
	if got := files(t); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("embedded CRDs:\n got %v\nwant %v", got, want)
	}
}

func TestGatewayAPICRDsAreTheModulesByteForByte(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	// Retries are in the experimental channel only.
	channels := map[string]string{"gateway.networking.k8s.io_httproutes.yaml": "experimental"}
	for _, name := range files(t) {
		if !strings.HasPrefix(name, "gateway.networking.k8s.io_") {
			continue
		}
		dir := filepath.Join(strings.TrimSpace(string(out)), "config", "crd", cmp.Or(channels[name], "standard"))
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the module's: copy it again from %s", name, dir)
		}
	}
}

// The API server refuses a CRD whose CEL rules could cost too much, whose
// defaults do not validate or whose schema is not structural. Find out here and
// not at a cluster.
func TestCRDsPassTheAPIServersOwnValidation(t *testing.T) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	for _, name := range files(t) {
		t.Run(name, func(t *testing.T) {
			data, err := FS.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var external apiextensionsv1.CustomResourceDefinition
			if err := yaml.UnmarshalStrict(data, &external); err != nil {
				t.Fatal(err)
			}
			scheme.Default(&external)
			var internal apiextensions.CustomResourceDefinition
			if err := scheme.Convert(&external, &internal, nil); err != nil {
				t.Fatal(err)
			}
			// A fresh CRD's status lists what etcd stores; the API server fills it in.
			for _, v := range internal.Spec.Versions {
				if v.Storage {
					internal.Status.StoredVersions = []string{v.Name}
				}
			}
			for _, err := range validation.ValidateCustomResourceDefinition(context.Background(), &internal) {
				t.Error(err)
			}
		})
	}
}
