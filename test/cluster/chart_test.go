//go:build cluster

package cluster

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// app is what there is to reach, and belongs to the users: it is there before the door and after it.
const app = `
apiVersion: v1
kind: Namespace
metadata: {name: payments, labels: {breakglass.dev/emergency-routes: allowed}}
---
apiVersion: v1
kind: Namespace
metadata: {name: doors}
---
apiVersion: v1
kind: Namespace
metadata: {name: elsewhere}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: payments}
spec:
  replicas: 1
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: echo
        image: breakglass.dev/test/echo:dev
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: payments}
spec:
  selector: {app: backend}
  ports: [{port: 80, targetPort: 8080}]
---
# Somebody else's ingress, of which nothing may be touched.
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: primary}
spec: {controllerName: example.com/primary}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: primary, namespace: payments}
spec:
  gatewayClassName: primary
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: primary, namespace: payments}
spec:
  parentRefs: [{name: primary}]
  rules: [{backendRefs: [{name: backend, port: 80}]}]
`

// The specs are one life of a release, in this order.
var _ = Describe("The chart", Ordered, func() {
	d := new(door)
	before := inventory{}

	BeforeAll(func(ctx context.Context) {
		*d = *newDoor()
		dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
		Expect(err).NotTo(HaveOccurred())
		kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(dir)), "config/crd/standard"))
		kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=1m")
		apply(ctx, "", app)
		kubectl(ctx, "-n", tenants, "rollout", "status", "deployment/backend", "--timeout=1m")
		startAlertmanager()
		d.alice, d.carol, d.dora = person(ctx, "alice"), person(ctx, "carol"), person(ctx, "dora")
		before = takeInventory(ctx)
	})

	AfterEach(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			AddReportEntry("the release", told(ctx), ReportEntryVisibilityFailureOrVerbose)
		}
	})

	installs(d)
	opens(d)
	collects(d)
	dies(d)
	survives(d) // early: the garbage collector of Kubernetes takes half a minute to trust an API server that came back
	upgrades(d)
	more(d)
	records(d)

	It("leaves nothing behind when it is uninstalled, and has touched nothing that is not its own", func(ctx context.Context) {
		name := once("uninstalled")
		deadline := d.open(ctx, name, 15*time.Second)
		p := d.probe(name)
		stream := d.client(false).Events("stream", testbed.Host(name), "/api/stream", d.token())
		began := time.Now()
		uninstall(ctx, d)
		Eventually(stream.Done()).Should(BeClosed())
		Expect(stream.Last()).To(BeTemporally("<", deadline.Add(time.Second)), stream.String())
		p.stop(deadline)
		Eventually(func(g Gomega) {
			missing, left, changed := before.compare(takeInventory(ctx))
			g.Expect(missing).To(BeEmpty(), "what is gone")
			g.Expect(left).To(BeEmpty(), "what was left")
			g.Expect(changed).To(BeEmpty(), "what was changed")
		}).WithContext(ctx).Should(Succeed())
		AddReportEntry("uninstalled and gone after", time.Since(began).Round(time.Millisecond).String())
	})
})
