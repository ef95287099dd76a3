//go:build cluster

package cluster

import (
	"context"
	"os"
	"regexp"
	"strconv"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// auditVolume is where all pods of the fleets keep their logs: it outlives them.
const auditVolume = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: breakglass-audit}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

var requestsOf = regexp.MustCompile(`\brequest (\d+)`)

func records(d *door) {
	It("has a sound audit log of each pod that there ever was, and of each controller", func(ctx context.Context) {
		volume := kubectl(ctx, "-n", release, "get", "persistentvolumeclaim/breakglass-audit", "-o", "jsonpath={.spec.volumeName}")
		logs, err := os.ReadDir(kubectl(ctx, "get", "persistentvolume", volume, "-o", "jsonpath={.spec.hostPath.path}"))
		Expect(err).NotTo(HaveOccurred())
		Expect(len(logs)).To(BeNumerically(">", 4), "two pods, and those that are gone")

		reader, requests := steady(ctx, fleets, 2)[0].Name, 0
		for _, log := range logs {
			out := kubectl(ctx, "-n", release, "exec", reader, "-c", "agent", "--", "breakglass", "audit", "verify", "--data-dir", "/var/lib/breakglass/audit/"+log.Name())
			Expect(out).To(HavePrefix("SOUND"), log.Name())
			if found := requestsOf.FindStringSubmatch(out); found != nil {
				n, err := strconv.Atoi(found[1])
				Expect(err).NotTo(HaveOccurred())
				requests += n
			}
		}
		AddReportEntry("requests in the audit logs of all pods", requests)
		Expect(requests).To(BeNumerically(">=", d.answered), "requests that were let in")
		for _, pod := range steady(ctx, controllers, 2) {
			out := kubectl(ctx, "-n", release, "exec", pod.Name, "--", "breakglass", "audit", "verify", "--data-dir", "/var/lib/breakglass/data")
			Expect(out).To(And(HavePrefix("SOUND"), MatchRegexp(`activation \d+`)), pod.Name)
		}
	})
}
