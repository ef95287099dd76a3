//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// uninstall is what docs/install.md says, and what the users made is removed by them.
func uninstall(ctx context.Context, d *door) {
	GinkgoHelper()
	began := time.Now()
	told := func(what string) { AddReportEntry(what, time.Since(began).Round(time.Millisecond).String()) }
	helm(ctx, "uninstall", "breakglass", "-n", release, "--wait", "--timeout", "2m")
	kubectl(ctx, "wait", "pods", "-n", release, "--all", "--for=delete", "--timeout=6m")
	told("the last pod was gone after")
	kubectl(ctx, "delete", "crd", "activations.breakglass.dev", "activationreviews.breakglass.dev", "emergencypolicies.breakglass.dev")
	kubectl(ctx, "delete", "namespace", release, "--timeout=2m")
	told("its namespace was gone after")

	kubectl(ctx, "-n", tenants, "delete", "rolebinding", "oncall", "lead")
	for name := range d.routes {
		kubectl(ctx, "-n", tenants, "delete", "httproute", name)
	}
	kubectl(ctx, "-n", "doors", "delete", "secret", "emergency-tls", "--ignore-not-found")
}

// inventory is every object of the API server: what was meant with it, by its kind and name.
type inventory map[string]string

// What comes and goes or changes by itself in any cluster.
var lively = []string{"Event", "Lease", "Node", "EndpointSlice", "Endpoints", "PersistentVolume", "IPAddress", "ControllerRevision"}

func takeInventory(ctx context.Context) inventory {
	GinkgoHelper()
	out := inventory{}
	kinds := strings.Fields(kubectl(ctx, "api-resources", "--verbs=list", "-o", "name"))
	Expect(len(kinds)).To(BeNumerically(">", 30))
	var list unstructured.UnstructuredList
	Expect(json.Unmarshal([]byte(kubectl(ctx, "get", strings.Join(kinds, ","), "-A", "-o", "json", "--ignore-not-found")), &list)).To(Succeed())
	for _, o := range list.Items {
		if slices.Contains(lively, o.GetKind()) || strings.HasPrefix(o.GetNamespace()+o.GetName(), "spec-") {
			continue // or of another spec
		}
		key := strings.Join([]string{o.GetObjectKind().GroupVersionKind().GroupKind().String(), o.GetNamespace(), o.GetName()}, " ")
		for _, volatile := range [][]string{{"metadata", "managedFields"}, {"metadata", "resourceVersion"}} {
			unstructured.RemoveNestedField(o.Object, volatile...)
		}
		switch o.GroupVersionKind().Group {
		case "gateway.networking.k8s.io": // the status is what others would write
		default:
			unstructured.RemoveNestedField(o.Object, "status")
		}
		text, err := json.Marshal(o.Object)
		Expect(err).NotTo(HaveOccurred())
		out[key] = string(text)
	}
	return out
}

// compare says what is missing in the later inventory, what is there in addition, and what is not the same.
func (i inventory) compare(later inventory) (missing, left, changed []string) {
	for key, was := range i {
		is, found := later[key]
		switch {
		case !found:
			missing = append(missing, key)
		case is != was:
			changed = append(changed, key+"\nwas "+was+"\nis  "+is)
		}
	}
	for key := range later {
		if _, found := i[key]; !found {
			left = append(left, key)
		}
	}
	return missing, left, changed
}
