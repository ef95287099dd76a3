//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// alertmanager is the address of one that runs on the node, where pods reach it.
const alertmanager = "10.99.0.1:19093"

// pagerSink is its item of audit.service.sinks.
const pagerSink = `audit.service.sinks=[{"name":"pager","kinds":["alarm"],"alertmanager":{"url":"http://` + alertmanager + `","allowPlaintext":true}}]`

func startAlertmanager() {
	GinkgoHelper()
	binary := os.Getenv("BREAKGLASS_ALERTMANAGER")
	Expect(binary).NotTo(BeEmpty(), "BREAKGLASS_ALERTMANAGER names no Alertmanager: run make test-cluster")
	dir := GinkgoT().TempDir()
	Expect(os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600)).To(Succeed())
	ctx, kill := context.WithCancel(context.Background())
	cmd := shared.Command(ctx, binary, "--config.file="+filepath.Join(dir, "config.yaml"), "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+alertmanager, "--cluster.listen-address=")
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(func() {
		kill()
		_ = cmd.Wait() // it was killed
	})
	Eventually(func() error { _, err := alerts(); return err }).Should(Succeed())
}

// alerts that the Alertmanager has: how many of each id.
func alerts() (map[string]int, error) {
	resp, err := shared.HTTP().Get("http://" + alertmanager + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("alertmanager: %s", resp.Status)
	}
	var all []struct{ Labels map[string]string }
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, a := range all {
		out[a.Labels["id"]]++
	}
	return out, nil
}

func alarms(d *door) {
	It("tells an Alertmanager within a second that the glass is broken, once, and the log of the cluster says that it did", func(ctx context.Context) {
		steady(ctx, auditService, 1)
		names := map[string]bool{}
		for n := range 10 {
			name := once(fmt.Sprintf("alarm-%d", n))
			d.open(ctx, name, 5*time.Minute)
			names[tenants+"/"+name] = true
			d.revoke(ctx, name)
		}
		var took []time.Duration
		Eventually(func(g Gomega) {
			out, err := ours(ctx, d.dora, "audit", "list", "--kind", "alarm", "-o", "json")
			g.Expect(err).NotTo(HaveOccurred())
			raised, delivered := map[string]bool{}, map[string]time.Duration{}
			for line := range strings.Lines(out) {
				var e struct{ Data audit.Alarm }
				g.Expect(json.Unmarshal([]byte(line), &e)).To(Succeed())
				switch a := e.Data; {
				case a.Name == audit.AlarmOpened && names[a.Labels["activation"]] && a.Event == audit.AlarmRaised:
					raised[a.ID] = true
				case raised[a.ID] && a.Event == audit.AlarmDelivered:
					g.Expect(delivered).NotTo(HaveKey(a.ID), "twice")
					delivered[a.ID] = a.At.Sub(a.Time)
				}
			}
			g.Expect(raised).To(HaveLen(len(names)))
			g.Expect(delivered).To(HaveLen(len(names)))
			has, err := alerts()
			g.Expect(err).NotTo(HaveOccurred())
			took = took[:0]
			for id, after := range delivered {
				g.Expect(has).To(HaveKeyWithValue(id, 1))
				took = append(took, after)
			}
		}).WithContext(ctx).Should(Succeed())
		slices.Sort(took)
		AddReportEntry("from an opening until the Alertmanager had it", fmt.Sprintf("median %v, most %v", took[len(took)/2], took[len(took)-1]))
		Expect(took[len(took)-1]).To(BeNumerically("<", time.Second))
	})
}
