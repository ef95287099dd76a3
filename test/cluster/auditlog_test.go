//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const auditService = "app.kubernetes.io/component=audit"

// ours runs our own command on the node, as the person of a kubeconfig.
func ours(ctx context.Context, kubeconfig string, args ...string) (string, error) {
	GinkgoHelper()
	binary, err := filepath.Abs("../../bin/breakglass")
	Expect(err).NotTo(HaveOccurred())
	out, err := shared.Command(ctx, append(append([]string{binary}, args...), "--kubeconfig", kubeconfig)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// logOf is a copy of the log of the cluster, as somebody who may read it brings it up to date.
type logOf struct {
	dir, kubeconfig string
	from            uint64
	// ends of requests by their path, and gaps.
	ends map[string]int
	gaps []string
}

func newLogOf(kubeconfig string) *logOf {
	GinkgoHelper()
	return &logOf{dir: filepath.Join(GinkgoT().TempDir(), "copy"), kubeconfig: kubeconfig, ends: map[string]int{}}
}

// update copies what is new, and counts it.
func (l *logOf) update(ctx context.Context) error {
	if _, err := ours(ctx, l.kubeconfig, "audit", "copy", l.dir); err != nil {
		return err
	}
	return merkle.Read(ctx, l.dir, merkle.Filter{From: l.from}, func(e merkle.Entry) error {
		l.from = e.Seq + 1
		switch e.Kind {
		case audit.KindRequest:
			var r audit.RequestEntry
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return err
			}
			if r.Type == audit.TypeEnd {
				l.ends[r.Path]++
			}
		case audit.KindGap:
			l.gaps = append(l.gaps, string(e.Data))
		}
		return nil
	})
}

// compare says how many of the requests that were answered are not there, and how many there are twice.
func (l *logOf) compare(answers map[string]int) (missing, twice []string) {
	for path, status := range answers {
		switch n := l.ends[path]; {
		case n > 1:
			twice = append(twice, path)
		case n == 0 && status != 0:
			missing = append(missing, path)
		}
	}
	return missing, twice
}

// has waits until all that was answered is there, once.
func (l *logOf) has(ctx context.Context, answers map[string]int, within time.Duration) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(l.update(ctx)).To(Succeed())
		missing, twice := l.compare(answers)
		g.Expect(twice).To(BeEmpty())
		g.Expect(len(missing)).To(BeZero(), "of %d are missing, such as %.3q", len(answers), missing)
	}).WithContext(ctx).WithTimeout(within).WithPolling(time.Second).Should(Succeed())
}

func (l *logOf) sound(ctx context.Context) {
	GinkgoHelper()
	binary, err := filepath.Abs("../../bin/breakglass")
	Expect(err).NotTo(HaveOccurred())
	out, err := exec.CommandContext(ctx, binary, "audit", "verify", "--data-dir", l.dir).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	Expect(string(out)).To(HavePrefix("SOUND"))
}

// load sends requests to an open route for a while, at so many a second.
func (d *door) load(name, prefix string, rate int, lasts time.Duration) *testbed.Load {
	return testbed.LoadBy(func() *testbed.Client { return d.client(false) }, testbed.Host(name), "/api/"+prefix, d.token(), 32, rate, int(lasts.Seconds()*float64(rate)))
}

func statuses(answers map[string]int) map[int]int {
	out := map[int]int{}
	for _, status := range answers {
		out[status]++
	}
	return out
}

// lastMoment is how many answers of Envoys that are killed with their agents may be in no log.
const lastMoment = 30

func setting(variable string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return standard
}

func collects(d *door) {
	It("has the log of the cluster from an upgrade on, with every decision of before, and no request fails meanwhile", func(ctx context.Context) {
		name := once("before")
		deadline := d.open(ctx, name, 10*time.Minute)
		p := d.probe(name)
		began := time.Now()
		old := steady(ctx, fleets, 2)
		helm(ctx, "upgrade", "breakglass", chart, "-n", release, "-f", d.values, "--set-json", pagerSink, "--wait", "--timeout", "2m")
		kubectl(ctx, "create", "rolebinding", "auditors", "-n", release, "--clusterrole", "breakglass-auditor", "--user", "dora")
		steady(ctx, auditService, 1)
		AddReportEntry("helm upgrade to a release with the audit log service", time.Since(began).Round(time.Millisecond).String())
		Eventually(func(g Gomega) {
			out, err := ours(ctx, d.dora, "audit", "list", "--activation", tenants+"/"+name, "-o", "json")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(out).To(ContainSubstring(`"event":"opened"`))
		}).WithContext(ctx).Should(Succeed())
		Eventually(func(g Gomega) { // the next specs kill agents of pods that stay
			for _, pod := range steady(ctx, fleets, 2) {
				g.Expect(pod.UID).NotTo(BeElementOf(old[0].UID, old[1].UID))
			}
		}).WithContext(ctx).WithTimeout(2 * time.Minute).Should(Succeed())
		p.calm(began, time.Now())
		Expect(d.look(ctx, name).Status.Deadline.Time).To(BeTemporally("==", deadline))
		revoked := d.revoke(ctx, name)
		p.stop(revoked.Add(time.Second))
	})

	alarms(d)

	It("has every request through an open route in the log of the cluster, once, and every decision", func(ctx context.Context) {
		steady(ctx, auditService, 1)
		name := once("collected")
		d.open(ctx, name, 10*time.Minute)
		answers := d.load(name, name, 100, 3*time.Second).Wait()
		Expect(statuses(answers)).To(Equal(map[int]int{200: 300}))
		began := time.Now()
		log := newLogOf(d.dora)
		log.has(ctx, answers, time.Minute)
		AddReportEntry("until the last of 300 requests was in a copy of the log of the cluster", time.Since(began).Round(time.Millisecond).String())
		log.sound(ctx)

		By("the decisions")
		Eventually(func(g Gomega) {
			out, err := ours(ctx, d.dora, "audit", "list", "--activation", tenants+"/"+name, "--kind", "activation", "-o", "json")
			g.Expect(err).NotTo(HaveOccurred())
			events := map[string]bool{}
			for line := range strings.Lines(out) {
				var e struct{ Data activation.Fact }
				g.Expect(json.Unmarshal([]byte(line), &e)).To(Succeed())
				g.Expect(e.Data.Record.Name).To(Equal(name))
				events[string(e.Data.Event)] = true
			}
			g.Expect(events).To(HaveKey("opened"))
		}).WithContext(ctx).Should(Succeed())

		By("the commands")
		out, err := ours(ctx, d.dora, "audit", "tail", "-n", "5", "--kind", "request", "--activation", name)
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Split(strings.TrimSpace(out), "\n")).To(HaveLen(6), out)
		seq := strings.Fields(strings.Split(out, "\n")[1])[0]
		out, err = ours(ctx, d.dora, "audit", "show", seq)
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(ContainSubstring("/api/" + name))
		proof, err := ours(ctx, d.dora, "audit", "prove", seq, "--key", filepath.Join(log.dir, "audit.pub"))
		Expect(err).NotTo(HaveOccurred())
		Expect(proof).To(ContainSubstring("/api/" + name))
		out, err = ours(ctx, d.dora, "audit", "verify")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(HavePrefix("SOUND"))
		d.revoke(ctx, name)
	})

	It("lets nobody read the log of the cluster without the role, and has each read in it, refused ones too", func(ctx context.Context) {
		bob := person(ctx, "bob")
		_, err := ours(ctx, bob, "audit", "list")
		Expect(err).To(MatchError(ContainSubstring("ask for a RoleBinding to the ClusterRole breakglass-auditor")), "who may nothing does not come as far as the service")

		By("a role that is only the way there")
		kubectl(ctx, "create", "role", "way", "-n", release, "--verb=get,create", "--resource=pods/portforward")
		kubectl(ctx, "create", "role", "ca", "-n", release, "--verb=get", "--resource=configmaps", "--resource-name=breakglass-audit-ca")
		for _, role := range []string{"way", "ca"} {
			kubectl(ctx, "create", "rolebinding", role, "-n", release, "--role", role, "--user", "bob")
		}
		_, err = ours(ctx, bob, "audit", "list")
		Expect(err).To(MatchError(ContainSubstring("bob may not get auditlogs.breakglass.dev in namespace " + release)))

		By("the token of a ServiceAccount")
		kubectl(ctx, "create", "serviceaccount", "siem", "-n", release)
		kubectl(ctx, "create", "rolebinding", "siem", "-n", release, "--clusterrole", "breakglass-auditor", "--serviceaccount", release+":siem")
		siem := filepath.Join(GinkgoT().TempDir(), "siem.kubeconfig")
		text, err := os.ReadFile(d.dora)
		Expect(err).NotTo(HaveOccurred())
		head, _, _ := strings.Cut(string(text), "users:")
		Expect(os.WriteFile(siem, fmt.Appendf(nil, "%susers: [{name: siem, user: {token: %s}}]\ncontexts: [{name: cluster, context: {cluster: cluster, user: siem}}]\ncurrent-context: cluster\n",
			head, strings.TrimSpace(kubectl(ctx, "create", "token", "siem", "-n", release))), 0o600)).To(Succeed())
		_, err = ours(ctx, siem, "audit", "tail", "-n", "1")
		Expect(err).NotTo(HaveOccurred())

		_, err = ours(ctx, d.dora, "audit", "tail", "-n", "1")
		Expect(err).NotTo(HaveOccurred())
		Eventually(func(g Gomega) { // entries are handed out once they are signed
			out, err := ours(ctx, d.dora, "audit", "list", "--kind", "read", "-o", "json")
			g.Expect(err).NotTo(HaveOccurred())
			by := map[string]int{}
			for line := range strings.Lines(out) {
				var e struct{ Data audit.Read }
				g.Expect(json.Unmarshal([]byte(line), &e)).To(Succeed())
				by[fmt.Sprintf("%s %t", e.Data.By, e.Data.Refused == "")]++
			}
			g.Expect(by).To(HaveKeyWithValue("bob false", 1))
			g.Expect(by).To(HaveKeyWithValue("system:serviceaccount:"+release+":siem true", 1))
			g.Expect(by).To(HaveKey("dora true"))
			g.Expect(by).To(HaveLen(3))
		}).WithContext(ctx).Should(Succeed())
	})

	It("loses nothing and has nothing twice in the log of the cluster when agents and the audit log service are killed, and when that is away", func(ctx context.Context) {
		rounds, rate := setting("BREAKGLASS_ROUNDS", 3), setting("BREAKGLASS_RATE", 200)
		outage, err := time.ParseDuration(os.Getenv("BREAKGLASS_OUTAGE"))
		if err != nil {
			outage = 10 * time.Second
		}
		name := once("killed")
		d.open(ctx, name, 2*time.Hour)
		log := newLogOf(d.dora)
		dice := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 1))
		all := 0
		// under load, which goes on until what is done is done, in pieces for which a token lasts.
		under := func(prefix string, do func()) map[string]int {
			GinkgoHelper()
			done := make(chan struct{})
			go func() { defer GinkgoRecover(); defer close(done); do() }()
			answers := map[string]int{}
			for n := 0; ; n++ {
				const piece = 5 * time.Second
				for path, status := range d.load(name, fmt.Sprintf("%s-%s-%d", name, prefix, n), rate, piece).Wait() {
					answers[path] = status
				}
				select {
				case <-done:
					all += len(answers)
					return answers
				default:
				}
			}
		}

		By("kill them at random moments")
		agents, services := 0, 0
		began := time.Now()
		answers := under("kills", func() {
			for range rounds {
				time.Sleep(time.Duration(dice.Int64N(int64(time.Second)))) // any moment
				which := dice.IntN(3)
				if which != 0 {
					kill(ctx, steady(ctx, auditService, 1)[0], "audit", "")
					services++
				}
				if which != 1 {
					kill(ctx, pods(ctx, fleets)[dice.IntN(2)], "agent", "")
					agents++
				}
			}
		})
		AddReportEntry("requests while they were killed, by status", fmt.Sprint(statuses(answers)))
		AddReportEntry("a second", int(float64(len(answers))/time.Since(began).Seconds()))
		AddReportEntry("agents killed", agents)
		AddReportEntry("audit log services killed", services)
		Expect(statuses(answers)).To(HaveLen(1), "every request is let in")
		settled := time.Now()
		log.has(ctx, answers, 3*time.Minute)
		AddReportEntry("all of them were in the log after", time.Since(settled).Round(time.Millisecond).String())

		By("take the service away")
		answers = under("outage", func() {
			kubectl(ctx, "-n", release, "scale", "statefulset/breakglass-audit", "--replicas=0")
			time.Sleep(outage) // it is what is tested
			kubectl(ctx, "-n", release, "scale", "statefulset/breakglass-audit", "--replicas=1")
		})
		AddReportEntry("requests while it was away, by status", fmt.Sprint(statuses(answers)))
		Expect(statuses(answers)).To(HaveLen(1), "every request is let in")
		settled = time.Now()
		steady(ctx, auditService, 1)
		log.has(ctx, answers, 5*time.Minute)
		AddReportEntry("all of them were in the log after", time.Since(settled).Round(time.Millisecond).String())
		Expect(log.gaps).To(BeEmpty())

		By("kill every process of the release at once")
		answers = under("all", func() {
			for _, pod := range pods(ctx, "app.kubernetes.io/name") {
				for _, s := range append(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses...) {
					if s.State.Running != nil {
						_ = shared.KillContainer(s.ContainerID, "") // or it has gone
					}
				}
			}
		})
		for selector, n := range map[string]int{fleets: 2, controllers: 2, auditService: 1} {
			steady(ctx, selector, n)
		}
		for path, status := range under("after", func() {}) {
			answers[path] = status
		}
		AddReportEntry("requests while everything was killed, by status", fmt.Sprint(statuses(answers)))
		var missing, twice []string
		Eventually(func(g Gomega) {
			g.Expect(log.update(ctx)).To(Succeed())
			missing, twice = log.compare(answers)
			// An Envoy takes with it what it had not handed over in its last moment; its gap says so, and nobody is left to
			// count. Strict is for who wants none of it.
			if len(missing) > 0 {
				g.Expect(len(log.gaps)).To(BeNumerically(">=", 2), "each Envoy that was killed has a gap")
			}
			g.Expect(len(missing)).To(BeNumerically("<=", lastMoment), "of %d", len(answers))
		}).WithContext(ctx).WithTimeout(2 * time.Minute).WithPolling(time.Second).Should(Succeed())
		Expect(twice).To(BeEmpty())
		AddReportEntry("answered requests that are missing because Envoys were killed, and are told of by a gap", len(missing))
		AddReportEntry("requests in all", all)
		log.sound(ctx)
		d.revoke(ctx, name)
	})
}
