//go:build envoy

package pod

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const auditName = "breakglass-audit.breakglass-system.svc"

// collector is the audit log service, and the network between a pod and it.
type collector struct {
	pod              *pod
	data, tls        string
	address, metrics string
	lost             time.Duration
	sinks, copy      string // a sink of JSON lines, and its file; "": none
	wire             *wire
	process          *process
}

// newCollector makes the pod ship its log. Nothing runs yet.
func newCollector(p *pod) *collector {
	GinkgoHelper()
	c := &collector{
		pod: p, data: filepath.Join(p.Dir, "cluster"), tls: filepath.Join(p.Dir, "servicetls"), lost: 10 * time.Minute,
		address: net.JoinHostPort("127.0.0.1", fmt.Sprint(testbed.FreePort())), metrics: net.JoinHostPort("127.0.0.1", fmt.Sprint(testbed.FreePort())),
	}
	Expect(os.MkdirAll(c.tls, 0o700)).To(Succeed())
	Expect(os.MkdirAll(c.data, 0o700)).To(Succeed())
	p.certifyIn(c.tls, p.plane.authority, pki.AuditServer(auditName))
	c.wire = newWire(c.address)
	p.agentArgs = []string{"--audit-service", c.wire.address, "--audit-server-name", auditName}
	DeferCleanup(func() {
		if c.process != nil {
			_ = c.process.cmd.Process.Kill() // gone already is fine
			<-c.process.done
		}
	})
	return c
}

func (c *collector) start() {
	GinkgoHelper()
	args := []string{
		"audit", "serve", "--data-dir", c.data, "--listen", c.address, "--tls-dir", c.tls,
		"--metrics-address", c.metrics, "--lost-after", c.lost.String(),
	}
	if c.copy != "" {
		args = append(args, "--sinks", c.sinks)
	}
	c.process = c.pod.run("service", args...)
}

// withCopy has a sink copy the log to a file.
func (c *collector) withCopy() {
	GinkgoHelper()
	c.sinks, c.copy = filepath.Join(c.pod.Dir, "sinks.yaml"), filepath.Join(c.pod.Dir, "copy.jsonl")
	Expect(os.WriteFile(c.sinks, fmt.Appendf(nil, "sinks: [{name: copy, jsonLines: {path: %q}}]\n", c.copy), 0o600)).To(Succeed())
}

// copied waits until the copy has each entry of the log, byte for byte, and returns
// how many it has more than once.
func (c *collector) copied() (again int) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		text, err := os.ReadFile(c.copy)
		g.Expect(err).NotTo(HaveOccurred())
		lines := map[string]int{}
		for l := range strings.Lines(string(text)) {
			lines[strings.TrimSuffix(l, "\n")]++
		}
		missing := 0
		again = 0
		g.Expect(merkle.Read(context.Background(), filepath.Join(c.data, "log"), merkle.Filter{}, func(e merkle.Entry) error {
			switch n := lines[string(e.Line())]; {
			case n == 0:
				missing++
			case n > 1:
				again++
			}
			return nil
		})).To(Succeed())
		g.Expect(missing).To(BeZero(), "entries that the copy lacks")
	}, time.Minute, 100*time.Millisecond).Should(Succeed())
	return again
}

func (c *collector) ready() string {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.metrics + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	return resp.Status
}

// entries that came from the pod, in order, and each only once.
func (c *collector) entries() (out []merkle.Entry) {
	GinkgoHelper()
	next := uint64(0)
	Expect(merkle.Read(context.Background(), filepath.Join(c.data, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		_, seq, _, ok := ship.Origin(e)
		if !ok {
			return nil
		}
		if seq < next {
			return fmt.Errorf("entry %d comes after entry %d", seq, next-1)
		}
		next = seq + 1
		out = append(out, e)
		return nil
	})).To(Succeed())
	return out
}

// requests that the log of the cluster has below a path, by path.
func (c *collector) requests(prefix string) map[string][]audit.RequestEntry {
	GinkgoHelper()
	return c.requestsOf(audit.TypeEnd, prefix)
}

// requestsOf are those of a type.
func (c *collector) requestsOf(kind, prefix string) map[string][]audit.RequestEntry {
	GinkgoHelper()
	out := map[string][]audit.RequestEntry{}
	for _, e := range c.entries() {
		var r audit.RequestEntry
		if e.Kind != audit.KindRequest {
			continue
		}
		Expect(json.Unmarshal(e.Data, &r)).To(Succeed())
		if r.Type == kind && strings.HasPrefix(r.Path, prefix) {
			out[r.Path] = append(out[r.Path], r)
		}
	}
	return out
}

// events of the sources, in order.
func (c *collector) events() (out []string) {
	GinkgoHelper()
	Expect(merkle.Read(context.Background(), filepath.Join(c.data, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		var s audit.Source
		if e.Kind == audit.KindSource && json.Unmarshal(e.Data, &s) == nil {
			out = append(out, s.Event)
		}
		return nil
	})).To(Succeed())
	return out
}

func (c *collector) gaps() (out []audit.Gap) {
	GinkgoHelper()
	Expect(merkle.Read(context.Background(), filepath.Join(c.data, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		var g audit.Gap
		if e.Kind == audit.KindGap && json.Unmarshal(e.Data, &g) == nil {
			out = append(out, g)
		}
		return nil
	})).To(Succeed())
	return out
}

// count compares what clients were answered with the log of the cluster.
func (c *collector) count(prefix string, answers map[string]int) (lost, doubled int) {
	GinkgoHelper()
	logged := c.requests(prefix)
	for path, status := range answers {
		switch n := len(logged[path]); {
		case n == 0 && status != 0:
			lost++
		case n > 1:
			doubled++
		}
	}
	for path := range logged {
		if _, asked := answers[path]; !asked {
			Fail("nobody asked for " + path)
		}
	}
	return lost, doubled
}

// end all in order, and check that the log of the cluster is sound and says that the
// pod's is at its end.
func (c *collector) end() {
	GinkgoHelper()
	c.pod.envoy.end()
	c.pod.agent.end()
	events := c.events()
	Expect(events[len(events)-1]).To(Equal("ended"))
	c.process.end()
	c.verify()
}

func (c *collector) verify() {
	GinkgoHelper()
	for _, dir := range []string{c.data, c.pod.Data} {
		out, err := exec.CommandContext(context.Background(), testbed.Binary(), "audit", "verify", "--data-dir", dir).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
	}
	// What the pod's log has, and nothing else, is here.
	var want []string
	Expect(merkle.Read(context.Background(), filepath.Join(c.pod.Data, "log"), merkle.Filter{}, func(e merkle.Entry) error {
		if !slices.Contains([]string{merkle.KindSegment, merkle.KindKey, merkle.KindRetention}, e.Kind) {
			want = append(want, e.Kind+string(e.Data))
		}
		return nil
	})).To(Succeed())
	got := c.entries()
	Expect(got).To(HaveLen(len(want)))
	for i, e := range got {
		if e.Kind+string(e.Data) != want[i] {
			Fail(fmt.Sprintf("entry %d of the cluster's log is not the one of the pod's: %s %s", e.Seq, e.Kind, e.Data))
		}
	}
}

// metric of the agent; -1: it does not say.
func (p *pod) metric(name string) float64 {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err == nil {
				return n
			}
		}
	}
	return -1
}
