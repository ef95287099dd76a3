//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

// backend is two pods that echo, behind a load balancer.
const backend = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend}
spec:
  replicas: 2
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
metadata: {name: backend}
spec:
  type: LoadBalancer
  selector: {app: backend}
  ports: [{port: 80, targetPort: 8080}]
`

var _ = Describe("The node", func() {
	It("runs a Deployment, and passes to its pods what comes for its Service and for its load balancer", func(ctx context.Context) {
		namespace := newNamespace(ctx)
		apply(ctx, namespace, backend)
		kubectl(ctx, "-n", namespace, "rollout", "status", "deployment/backend", "--timeout=2m")
		kubectl(ctx, "-n", namespace, "wait", "service/backend", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "--timeout=30s")

		pods := strings.Fields(kubectl(ctx, "-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}"))
		Expect(pods).To(HaveLen(2))
		for _, where := range []string{"{.spec.clusterIP}", "{.status.loadBalancer.ingress[0].ip}"} {
			address := kubectl(ctx, "-n", namespace, "get", "service", "backend", "-o", "jsonpath="+where)
			answered := map[string]bool{}
			Eventually(func(g Gomega) {
				seen := get(ctx, g, "http://"+address+"/hello")
				g.Expect(seen.Path).To(Equal("/hello"))
				answered[seen.Backend] = true
				g.Expect(answered).To(HaveLen(2))
			}).WithContext(ctx).Should(Succeed(), where)
			Expect(answered).To(And(HaveKey(pods[0]), HaveKey(pods[1])))
		}

		By("from a pod, by name, to itself and to its neighbour, with a reply that comes from whom it asked")
		answered := map[string]bool{}
		Eventually(func(g Gomega) {
			var seen echo.Request
			out, err := shared.Kubectl(ctx, "-n", namespace, "exec", pods[0], "--", "/echo", "get", "http://backend."+namespace+".svc/from-a-pod")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(json.Unmarshal([]byte(out), &seen)).To(Succeed())
			answered[seen.Backend] = true
			g.Expect(answered).To(HaveLen(2))
		}).WithContext(ctx).Should(Succeed())
	})

	It("starts a scheduler anew that has ended by itself", func(ctx context.Context) {
		scheduler, err := shared.Component("kube-scheduler")
		Expect(err).NotTo(HaveOccurred())
		Expect(scheduler.Kill()).To(Succeed())
		Eventually(func(g Gomega) {
			now, err := shared.Component("kube-scheduler")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(now.Pid).NotTo(Equal(scheduler.Pid))
		}).WithContext(ctx).Should(Succeed())
		_, err = shared.Kubectl(ctx, "get", "--raw=/readyz")
		Expect(err).NotTo(HaveOccurred(), "the node goes on")
	})

	It("answers for the names of Services, and says at once that there are no others", func(ctx context.Context) {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return shared.Dial(ctx, network, "10.96.0.10:53")
		}}
		Eventually(resolver.LookupHost).WithArguments(ctx, "kubernetes.default.svc.cluster.local.").Should(ConsistOf("10.96.0.1"))
		_, err := resolver.LookupHost(ctx, "www.example.com.")
		var no *net.DNSError
		Expect(errors.As(err, &no)).To(BeTrue(), "%v", err)
		Expect(no.IsNotFound).To(BeTrue(), "%v", err)
	})

	It("has our image and that of Envoy, which run as nobody, without a right, on a file system that is not theirs to write", func(ctx context.Context) {
		namespace := newNamespace(ctx)
		apply(ctx, namespace, `
apiVersion: v1
kind: Pod
metadata: {name: versions}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: breakglass
    image: ghcr.io/breakglass-gateway/breakglass:dev
    args: [version]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  - name: envoy
    image: docker.io/envoyproxy/envoy:distroless-v1.40.0
    args: [--version]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`)
		kubectl(ctx, "-n", namespace, "wait", "pod/versions", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=1m")
		Expect(kubectl(ctx, "-n", namespace, "logs", "versions", "-c", "breakglass")).To(ContainSubstring("breakglass"))
		Expect(kubectl(ctx, "-n", namespace, "logs", "versions", "-c", "envoy")).To(ContainSubstring("/1.40.0/"))
	})

	It("has volumes that a process without root can write, and offers them anew, empty, when their claim has gone", func(ctx context.Context) {
		namespace := newNamespace(ctx)
		apply(ctx, namespace, `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  containers:
  - name: echo
    image: breakglass.dev/test/echo:dev
    env: [{name: WRITE, value: /data/here}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`)
		kubectl(ctx, "-n", namespace, "wait", "pod/writer", "--for=condition=Ready", "--timeout=1m")

		volume := kubectl(ctx, "-n", namespace, "get", "persistentvolumeclaim/data", "-o", "jsonpath={.spec.volumeName}")
		path := kubectl(ctx, "get", "persistentvolume", volume, "-o", "jsonpath={.spec.hostPath.path}")
		Expect(os.ReadDir(path)).To(HaveLen(1))
		kubectl(ctx, "-n", namespace, "delete", "pod/writer", "persistentvolumeclaim/data")
		kubectl(ctx, "wait", "persistentvolume", volume, "--for=jsonpath={.status.phase}=Available", "--timeout=1m")
		Expect(os.ReadDir(path)).To(BeEmpty())
	})
})
