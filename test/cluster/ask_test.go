//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

// get asks an echo backend, from the node.
func get(ctx context.Context, g Gomega, url string) echo.Request {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	g.Expect(err).NotTo(HaveOccurred())
	response, err := shared.HTTP().Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	g.Expect(response.StatusCode).To(Equal(http.StatusOK))
	var seen echo.Request
	g.Expect(json.NewDecoder(response.Body).Decode(&seen)).To(Succeed())
	return seen
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := shared.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

func apply(ctx context.Context, namespace, manifests string) {
	GinkgoHelper()
	Expect(shared.Apply(ctx, namespace, manifests)).To(Succeed())
}

// newNamespace makes a namespace that goes with the spec.
func newNamespace(ctx context.Context) string {
	GinkgoHelper()
	name := fmt.Sprintf("spec-%d", CurrentSpecReport().StartTime.UnixNano()) // alphabetical as they began
	kubectl(ctx, "create", "namespace", name)
	DeferCleanup(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			out, err := shared.Kubectl(ctx, "-n", name, "get", "pods,services,persistentvolumeclaims,events", "-o", "wide")
			if err != nil {
				out = err.Error()
			}
			AddReportEntry("the namespace of the spec", out, ReportEntryVisibilityFailureOrVerbose)
		}
		kubectl(ctx, "delete", "namespace", name, "--wait=false")
	})
	return name
}
